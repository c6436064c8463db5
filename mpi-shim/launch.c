/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sf-mpilaunch: what Hydra calls where it would call ssh, to start its proxy in a clone.
 *
 *	sf-mpilaunch HOST COMMAND ARG…
 *
 * The keeper is asked to run the command there, with the directory and environment of this process;
 * what it writes is written here, and its exit status becomes ours. A host that is no clone of the
 * keeper's is for ssh. Hydra waits for ever for a proxy on a machine that is gone, so that this
 * program ends mpiexec when the keeper says so. Hydra made us a session of our own: signals of a
 * terminal do not come here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "mpi-shim/door.h"
#include "mpi-shim/wire.h"

#define EXIT_LAUNCH  255
#define EXIT_USAGE   64
#define TERM_WAIT_MS 5000 /* from SIGTERM to SIGKILL, for mpiexec */

extern char **environ;

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "sf-mpilaunch: %s%s%s\n", what, why ? ": " : "", why ? why : "");
	return EXIT_LAUNCH;
}

/* True if a process is mpiexec by any of its names. Who calls us by hand is left alone. */
static bool is_mpiexec(pid_t pid)
{
	_cleanup_free_ char *name = NULL;
	char path[32];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	return !io_read_file(path, 64, &name, &len) &&
	       (!strncmp(name, "mpiexec", 7) || !strncmp(name, "mpirun", 6));
}

/* Ends mpiexec, which would wait for what does not come. Return: the exit status. */
static int give_up(pid_t mpiexec)
{
	_cleanup_fd_ int fd = is_mpiexec(mpiexec) ? pidfd_open(mpiexec, 0) : -1;
	struct pollfd ended = { .fd = fd, .events = POLLIN };

	if (fd < 0 || getppid() != mpiexec)
		return EXIT_LAUNCH;
	prctl(PR_SET_PDEATHSIG, 0);
	pidfd_send_signal(fd, SIGTERM, NULL, 0);
	while (poll(&ended, 1, TERM_WAIT_MS) < 0 && errno == EINTR)
		;
	if (!(ended.revents & POLLIN))
		pidfd_send_signal(fd, SIGKILL, NULL, 0);
	return EXIT_LAUNCH;
}

/* Goes the way that Hydra goes by itself. Back only if that fails. Return: the exit status. */
static int by_ssh(pid_t mpiexec, char **argv)
{
	_cleanup_free_ char **words = NULL;
	int count = 0;

	while (argv[count])
		count++;
	words = calloc((size_t)count + 2, sizeof(*words));
	if (words) {
		words[0] = "ssh";
		words[1] = "-x";
		memcpy(words + 2, argv + 1, (size_t)(count - 1) * sizeof(*words));
		execvp("ssh", words);
	}
	fprintf(stderr, "sf-mpilaunch: %s is no clone of this VM's, and ssh: %s\n", argv[1],
		strerror(errno));
	return give_up(mpiexec);
}

/* Adds the command, which Hydra writes as a shell would have to read it. */
static void add_unquoted(struct wire_payload *payload, const char *word)
{
	size_t len = strlen(word);
	bool quoted = len > 1 && word[0] == '"' && word[len - 1] == '"';

	wire_add(payload, word + quoted, len - 2 * quoted);
	wire_add(payload, "", 1);
}

/* Return: 0 or -errno. */
static int send_launch(int sock, char **argv)
{
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	struct wire_payload payload = { 0 };
	struct mpi_counts counts = { 0 };
	int error;

	while (argv[2 + counts.argc])
		counts.argc++;
	while (environ[counts.envc])
		counts.envc++;
	wire_add(&payload, &counts, sizeof(counts));
	wire_add_string(&payload, argv[1]);
	wire_add_string(&payload, cwd ? cwd : "/");
	add_unquoted(&payload, argv[2]);
	for (unsigned i = 1; i < counts.argc; i++)
		wire_add_string(&payload, argv[2 + i]);
	for (unsigned i = 0; i < counts.envc; i++)
		wire_add_string(&payload, environ[i]);
	error = payload.error;
	if (counts.argc + counts.envc + 2 > MPI_MAX_STRINGS)
		error = -E2BIG;
	if (!error)
		error = wire_send(sock, MPI_LAUNCH, 0, &payload);
	wire_free(&payload);
	return error;
}

/* Return: 0 or -errno. */
static int copy_output(const uint8_t *payload, size_t len)
{
	struct mpi_output output;

	if (len < sizeof(output))
		return -EPROTO;
	memcpy(&output, payload, sizeof(output));
	if (output.fd != STDOUT_FILENO && output.fd != STDERR_FILENO)
		return -EPROTO;
	return io_write_full((int)output.fd, payload + sizeof(output), len - sizeof(output));
}

/* What became of the command. Return: the exit status. */
static int take_exit(pid_t mpiexec, const uint8_t *payload, size_t len)
{
	struct mpi_exited exited;

	if (len < sizeof(exited)) {
		complain("the keeper said what cannot be", NULL);
		return give_up(mpiexec);
	}
	memcpy(&exited, payload, sizeof(exited));
	if (len > sizeof(exited) && payload[sizeof(exited)])
		complain((const char *)payload + sizeof(exited), NULL);
	if (exited.status == -1)
		return give_up(mpiexec);
	if (WIFSIGNALED(exited.status))
		return 128 + WTERMSIG(exited.status);
	return WEXITSTATUS(exited.status);
}

/* From LAUNCH to EXITED. Return: the exit status. */
static int follow(int sock, pid_t mpiexec, char **argv)
{
	for (;;) {
		_cleanup_free_ uint8_t *payload = NULL;
		struct mpi_frame frame;
		int error = wire_receive(sock, &frame, &payload);

		if (!error && frame.type == MPI_EXITED)
			return take_exit(mpiexec, payload, frame.length);
		if (!error && frame.type == MPI_UNKNOWN)
			return by_ssh(mpiexec, argv);
		if (!error)
			error = frame.type == MPI_OUTPUT ? copy_output(payload, frame.length)
							 : -EPROTO;
		if (error) {
			complain(error == -EPIPE ? "the keeper has ended" : "talking to the keeper",
				 error == -EPIPE ? NULL : strerror(-error));
			return give_up(mpiexec);
		}
	}
}

int main(int argc, char **argv)
{
	pid_t mpiexec = getppid();
	_cleanup_fd_ int sock = -1;
	int error;

	if (argc < 3) {
		fputs("Usage: sf-mpilaunch HOST COMMAND [ARG...]\n", stderr);
		return EXIT_USAGE;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != mpiexec)
		return EXIT_LAUNCH;
	sock = door_open(MPI_LAUNCHER);
	if (sock == -ENOENT || sock == -ENODEV)
		return by_ssh(mpiexec, argv);
	error = sock < 0 ? sock : send_launch(sock, argv);
	if (error) {
		complain("cannot ask the keeper", strerror(-error));
		return give_up(mpiexec);
	}
	return follow(sock, mpiexec, argv);
}
