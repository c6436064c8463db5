/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting, finding and ending slirp4netns. */
#define _GNU_SOURCE
#include "host/vnet/router.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/vnet/netns.h"

#define PROGRAM "slirp4netns"
#define OUTPUT_BYTES 2048	/* of its complaints are kept, for when it fails */
#define READY_MS 10000
#define END_MS 2000
#define MAX_CMDLINE_BYTES 4096

/* The descriptors between the starter and the process it starts. */
struct start {
	int report[2];		/* pid, and errno if it could not be executed; closed if it could */
	int ready[2];		/* a byte when the interface is configured */
	int output;
};

/* A file without name for the process's complaints that cannot grow. Return: descriptor or -errno. */
static int make_output(void)
{
	_cleanup_fd_ int fd = memfd_create("router", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, OUTPUT_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return -errno;
	return steal_fd(&fd);
}

/*
 * Leaves the machine's mounts to themselves: slirp4netns unmounts, in a mount namespace of its own,
 * what it does not need, but where a mount is shared that would reach the machine's.
 */
static int leave_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -1;
	return mount("none", "/", "none", MS_SLAVE | MS_REC, NULL);
}

/* In the new process: becomes slirp4netns. Reports why not, if it cannot. */
_Noreturn static void become(const struct start *start, const char *netns)
{
	char path[PATH_MAX], ready[16];
	const char *const argv[] = {
		PROGRAM, "--configure", "--mtu=1500", "--disable-host-loopback",
		"--enable-sandbox", "--enable-seccomp", ready, "--netns-type=path", path,
		ROUTER_TAP, NULL,
	};
	sigset_t none;
	int error;

	snprintf(path, sizeof(path), NETNS_FOLDER "/%s", netns);
	snprintf(ready, sizeof(ready), "--ready-fd=%d", start->ready[1]);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (leave_mounts() < 0 || chdir("/") < 0 ||
	    dup2(open("/dev/null", O_RDWR), STDIN_FILENO) < 0 ||
	    dup2(STDIN_FILENO, STDOUT_FILENO) < 0 || dup2(start->output, STDERR_FILENO) < 0 ||
	    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ||
	    io_set_inherit(start->ready[1], true) < 0)
		error = errno;
	else
		error = execvp(PROGRAM, (char *const *)argv) < 0 ? errno : 0;
	io_write_full(start->report[1], &error, sizeof(error));
	_exit(127);
}

/* Forks a process that is nobody's child and nobody's session. Return: 0 or -errno. */
static int fork_away(const struct start *start, const char *netns)
{
	pid_t between = fork();
	int status;

	if (between < 0)
		return -errno;
	if (!between) {
		pid_t pid;

		setsid();
		pid = fork();
		if (!pid) {
			pid = getpid();
			io_write_full(start->report[1], &pid, sizeof(pid));
			become(start, netns);
		}
		_exit(pid < 0 ? errno : 0);
	}
	while (waitpid(between, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

/* Waits for what the started process reports. Return: 0 and *pid, or -errno. */
static int await_exec(int report, pid_t *pid)
{
	int error = io_read_full(report, pid, sizeof(*pid)), number;

	if (error)
		return error;
	error = io_read_full(report, &number, sizeof(number));
	if (error == -EPIPE)
		return 0;
	return error ? error : -number;
}

/* Return: 0, -ETIMEDOUT, or -EPIPE if the process ended instead. */
static int await_ready(int ready)
{
	struct pollfd fd = { .fd = ready, .events = POLLIN };
	char byte;
	int n;

	do {
		n = poll(&fd, 1, READY_MS);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? io_read_full(ready, &byte, 1) : -ETIMEDOUT;
}

/* The last line that the process wrote, in `line`. */
static void last_words(int output, char line[OUTPUT_BYTES + 1])
{
	ssize_t len = pread(output, line, OUTPUT_BYTES, 0);
	char *newline;

	line[len > 0 ? len : 0] = '\0';
	len = (ssize_t)strlen(line);
	while (len > 0 && isspace((unsigned char)line[len - 1]))
		line[--len] = '\0';
	newline = strrchr(line, '\n');
	if (newline)
		memmove(line, newline + 1, strlen(newline));
}

/* Starts it and waits, with the descriptors open. */
static int start_with(struct start *start, const char *netns, pid_t *pid, const struct why *why)
{
	char words[OUTPUT_BYTES + 1];
	int error = fork_away(start, netns);

	close(steal_fd(&start->report[1]));
	close(steal_fd(&start->ready[1]));
	if (!error)
		error = await_exec(start->report[0], pid);
	if (error)
		return why_set(why, error, "cannot start " PROGRAM);
	error = await_ready(start->ready[0]);
	if (!error)
		return 0;
	last_words(start->output, words);
	router_stop(netns);
	return why_set(why, error == -EPIPE ? EIO : error, PROGRAM " gives no way out (%s)", words);
}

int router_start(const char *netns, pid_t *pid, const struct why *why)
{
	struct start start = { .report = { -1, -1 }, .ready = { -1, -1 }, .output = -1 };
	int error = 0;

	start.output = make_output();
	if (start.output < 0 || pipe2(start.report, O_CLOEXEC) < 0 ||
	    pipe2(start.ready, O_CLOEXEC) < 0)
		error = why_set(why, errno, "cannot start " PROGRAM);
	if (!error)
		error = start_with(&start, netns, pid, why);
	for (unsigned i = 0; i < 2; i++) {
		cleanup_close(&start.report[i]);
		cleanup_close(&start.ready[i]);
	}
	cleanup_close(&start.output);
	return error;
}

/* True if this command line, zero-separated, is that of a router of the namespace. */
static bool is_router_of(const char *cmdline, size_t len, const char *netns)
{
	const char *end = cmdline + len, *name = strrchr(cmdline, '/');
	char path[PATH_MAX];

	name = name ? name + 1 : cmdline;
	if (strcmp(name, PROGRAM))
		return false;
	snprintf(path, sizeof(path), NETNS_FOLDER "/%s", netns);
	for (const char *arg = cmdline; arg < end; arg += strlen(arg) + 1) {
		if (!strcmp(arg, path))
			return true;
	}
	return false;
}

/* Sends SIGKILL and waits for the end. Without a pidfd (valgrind knows none) there is no waiting. */
static void end(pid_t pid, int pidfd)
{
	struct pollfd gone = { .fd = pidfd, .events = POLLIN };

	if (pidfd < 0)
		kill(pid, SIGKILL);
	else if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 || poll(&gone, 1, END_MS) != 1)
		log_warn("router: " PROGRAM " (pid %d) does not end", (int)pid);
}

/* Ends the process if it is a router of the namespace. The pidfd, opened before the look, keeps the
 * pid from being somebody else's at the signal. */
static void stop_if_router(pid_t pid, const char *netns)
{
	_cleanup_free_ char *cmdline = NULL;
	_cleanup_fd_ int fd = pidfd_open(pid, 0);
	char path[64];
	size_t len;

	if (fd < 0 && errno != ENOSYS)
		return;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if (!io_read_file(path, MAX_CMDLINE_BYTES, &cmdline, &len) &&
	    is_router_of(cmdline, len, netns))
		end(pid, fd);
}

void router_stop(const char *netns)
{
	DIR *folder = opendir("/proc");
	struct dirent *entry;

	if (!folder) {
		log_warn("router: /proc: %s", strerror(errno));
		return;
	}
	while ((entry = readdir(folder))) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);

		if (pid > 0 && !*end)
			stop_if_router((pid_t)pid, netns);
	}
	closedir(folder);
}
