/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A double of the keeper, to exercise libsfmpi with a real MPICH but no VM:
 *
 *	keeper-double [-l LOG] [-o] [-r SENTENCE] [-n RANKS] PROGRAM ARG…
 *
 * runs PROGRAM with a keeper at the place of this user's, that "clones" by counting: to WANT it
 * answers with addresses of this machine, RANKS (1) on each unless the asker says how many, or
 * refuses with SENTENCE; a LAUNCH at one of them it runs here. What runs at any but 127.0.0.1 is
 * told MPI_ENV, as in clones, and comes by TCP. LOG gets a line for everything. With -o it answers
 * once on each connection, and hangs up when it is asked again.
 *
 * To be run in a network namespace of its own, so that it has the keeper's name for itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "mpi-shim/wire.h"

#define TOKEN_DIGIT 0x5a
#define MAX_HOSTS   1024

static const char *refusal;
static bool once;
static uint32_t ranks_of_clone = 1;
static int logfile = -1;
static char way[128]; /* MPI_ENV for what is launched */

static void note(const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (logfile >= 0 && write(logfile, line, (size_t)len) != len)
		perror("log");
}

static void answer(int sock, enum mpi_type type, uint32_t number, const void *head, size_t len,
		   const char *text)
{
	struct wire_payload payload = { 0 };

	wire_add(&payload, head, len);
	if (text)
		wire_add_string(&payload, text);
	wire_send(sock, type, number, &payload);
	wire_free(&payload);
}

/* ---- askers ---- */

/* Every group has its own block of addresses, so that no two have the same. */
static void grant(int sock, uint32_t group, const struct mpi_want *want)
{
	uint32_t each = want->per_clone ? want->per_clone : ranks_of_clone;
	struct mpi_grant head = { .clones = (want->ranks + each - 1) / each };
	_cleanup_free_ char *hosts = malloc(MAX_HOSTS * 24);
	size_t used = 0;

	head.wanted = head.clones;
	for (uint32_t i = 0, left = want->ranks; hosts && i < head.clones && i < MAX_HOSTS; i++) {
		uint32_t ranks = left < each ? left : each;

		used += (size_t)sprintf(hosts + used, "%s127.%u.%u.%u:%u", i ? "," : "",
					1 + group % 200, i / 200, 2 + i % 200, ranks);
		left -= ranks;
	}
	/* a real one says at any time what became of earlier groups */
	answer(sock, MPI_ENDED, group + 1000, NULL, 0, NULL);
	answer(sock, MPI_LOST, group + 1000, &(struct mpi_lost){ .id = 1 }, sizeof(struct mpi_lost),
	       "a clone of another group was lost");
	answer(sock, MPI_GRANT, group, &head, sizeof(head), hosts);
}

static void serve_asker(int sock)
{
	uint32_t group = (uint32_t)getpid() % 100;
	unsigned asked = 0;

	for (;;) {
		_cleanup_free_ uint8_t *bytes = NULL;
		struct mpi_frame frame;
		struct mpi_want want;

		if (wire_receive(sock, &frame, &bytes))
			break;
		if (frame.type == MPI_DROP || frame.type == MPI_END)
			note("drop\n");
		if (frame.type != MPI_WANT || frame.length != sizeof(want))
			continue;
		memcpy(&want, bytes, sizeof(want));
		if (once && asked++)
			break;
		note("want %u per_clone %u min_clones %u per_host %u\n", want.ranks, want.per_clone,
		     want.min_clones, want.per_host);
		if (refusal)
			answer(sock, MPI_REFUSED, 0, &(struct mpi_errno_of){ .error = ENOSPC },
			       sizeof(struct mpi_errno_of), refusal);
		else
			grant(sock, group++, &want);
	}
	note("asker gone\n");
}

/* ---- launchers ---- */

/* The child: becomes the command. */
static void become(const struct mpi_counts *counts, char **strings, const int *out, const int *err)
{
	char **environment = calloc(counts->envc + 2, sizeof(char *));

	signal(SIGCHLD, SIG_DFL);
	setsid();
	dup2(out[1], STDOUT_FILENO);
	dup2(err[1], STDERR_FILENO);
	for (uint32_t i = 0; i < counts->envc; i++)
		environment[i] = strings[2 + counts->argc + i];
	if (strcmp(strings[0], "127.0.0.1")) /* which is this VM, no clone */
		environment[counts->envc] = way;
	strings[2 + counts->argc] = NULL;
	if (chdir(strings[1]))
		_exit(127);
	execve(strings[2], strings + 2, environment);
	_exit(127);
}

/* Copies what comes from a pipe. Return: whether it is still open. */
static bool copy_output(int sock, uint32_t fd, int pipe_fd)
{
	char bytes[4096];
	ssize_t len = read(pipe_fd, bytes, sizeof(bytes));
	struct wire_payload payload = { 0 };

	if (len <= 0)
		return false;
	wire_add(&payload, &(struct mpi_output){ .fd = fd }, sizeof(struct mpi_output));
	wire_add(&payload, bytes, (size_t)len);
	wire_send(sock, MPI_OUTPUT, 0, &payload);
	wire_free(&payload);
	return true;
}

/* Until the command has closed both, or its launcher is gone. */
static void copy_all(int sock, int out, int err, pid_t pid)
{
	struct pollfd fds[] = { { .fd = out, .events = POLLIN },
				{ .fd = err, .events = POLLIN },
				{ .fd = sock, .events = POLLIN } };

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		if (poll(fds, 3, -1) < 0)
			continue;
		for (uint32_t i = 0; i < 2; i++) {
			if (fds[i].revents && !copy_output(sock, i + 1, fds[i].fd))
				fds[i].fd = -1;
		}
		if (fds[2].revents) {
			kill(-pid, SIGKILL);
			return;
		}
	}
}

static void launch(int sock, const struct mpi_frame *frame, const uint8_t *bytes)
{
	struct mpi_counts counts;
	struct mpi_exited exited;
	_cleanup_free_ char **strings = NULL;
	int out[2], err[2];
	size_t count;
	pid_t pid;

	memcpy(&counts, bytes, sizeof(counts));
	strings = wire_strings(bytes + sizeof(counts), frame->length - sizeof(counts), &count);
	if (!strings || count != 2 + counts.argc + counts.envc || pipe2(out, O_CLOEXEC) ||
	    pipe2(err, O_CLOEXEC))
		return;
	note("launch %s\n", strings[0]);
	pid = fork();
	if (!pid)
		become(&counts, strings, out, err);
	close(out[1]);
	close(err[1]);
	copy_all(sock, out[0], err[0], pid);
	waitpid(pid, &exited.status, 0);
	answer(sock, MPI_EXITED, 0, &exited, sizeof(exited), "");
}

static void serve_launcher(int sock)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct mpi_frame frame;

	if (!wire_receive(sock, &frame, &bytes) && frame.type == MPI_LAUNCH)
		launch(sock, &frame, bytes);
}

/* ---- connections ---- */

static void serve(int sock, bool tcp)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct mpi_frame frame;
	struct mpi_hello hello;

	if (wire_receive(sock, &frame, &bytes) || frame.type != MPI_HELLO ||
	    frame.length != sizeof(hello))
		return;
	memcpy(&hello, bytes, sizeof(hello));
	for (unsigned i = 0; tcp && i < MPI_TOKEN_BYTES; i++) {
		if (hello.token[i] != TOKEN_DIGIT)
			return;
	}
	if (hello.role == MPI_ASKER)
		note("asker by %s\n", tcp ? "tcp" : "unix");
	answer(sock, MPI_HELLO, 0, NULL, 0, NULL);
	if (hello.role == MPI_ASKER)
		serve_asker(sock);
	else
		serve_launcher(sock);
}

/* Takes one connection, in a process of its own. */
static void take(int listener, bool tcp)
{
	int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (sock >= 0 && !fork()) {
		signal(SIGCHLD, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(listener);
		serve(sock, tcp);
		_exit(0);
	}
	close(sock);
}

static int listen_unix(void)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, MPI_SOCKET, getuid());

	if (bind(sock, (struct sockaddr *)&name,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) ||
	    listen(sock, 64)) {
		perror("keeper-double: the keeper's name");
		exit(1);
	}
	return sock;
}

static int listen_tcp(void)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), used;
	struct sockaddr_in name = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(name);

	if (bind(sock, (struct sockaddr *)&name, len) || listen(sock, 64) ||
	    getsockname(sock, (struct sockaddr *)&name, &len)) {
		perror("keeper-double: a port");
		exit(1);
	}
	used = sprintf(way, MPI_ENV "=127.0.0.1:%u/", ntohs(name.sin_port));
	for (unsigned i = 0; i < MPI_TOKEN_BYTES; i++)
		used += sprintf(way + used, "%02x", TOKEN_DIGIT);
	return sock;
}

int main(int argc, char **argv)
{
	struct pollfd listeners[2];
	pid_t keeper, parent = getpid();
	int option;

	while ((option = getopt(argc, argv, "+l:or:n:")) != -1) {
		if (option == 'l')
			logfile = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		else if (option == 'o')
			once = true;
		else if (option == 'r')
			refusal = optarg;
		else if (option == 'n')
			ranks_of_clone = (uint32_t)atoi(optarg);
		else
			return 64;
	}
	if (!argv[optind])
		return 64;
	listeners[0] = (struct pollfd){ .fd = listen_unix(), .events = POLLIN };
	listeners[1] = (struct pollfd){ .fd = listen_tcp(), .events = POLLIN };
	keeper = fork();
	if (keeper) { /* the program keeps our number and our caller */
		execvp(argv[optind], argv + optind);
		perror(argv[optind]);
		return 127;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGCHLD, SIG_IGN);
	while (getppid() == parent) {
		if (poll(listeners, 2, -1) > 0) {
			for (unsigned i = 0; i < 2; i++) {
				if (listeners[i].revents)
					take(listeners[i].fd, i);
			}
		}
	}
	return 0;
}
