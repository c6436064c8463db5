/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts daemons and ends them.
 *
 * A daemon says on a pipe when it is ready: "k", or a line that tells why it cannot be. It gets the
 * environment marks SF_CLUSTER and SF_HOST, which all it starts inherits: by them sfctl clean finds
 * what a crash left.
 */
#include "host/sfctl/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfctl/client.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/paths.h"
#include "host/sfctl/proc.h"
#include "host/vnet/embed.h"

#define MAX_ARGS 32
#define ASK_MS 2000	  /* for the answer to "shutdown" */
#define SHUTDOWN_MS 10000 /* from there to the end */
#define TERM_MS 5000
#define KILL_MS 5000

/* The daemon's command line. */
struct args {
	const char *argv[MAX_ARGS];
	unsigned count;
};

static void add_option(struct args *args, const char *name, const char *value)
{
	if (!value || args->count + 2 >= MAX_ARGS)
		return;
	args->argv[args->count++] = name;
	args->argv[args->count++] = value;
}

/* stdin from nowhere, the rest to the log. Return: 0 or -errno. */
static int redirect(const char *dir)
{
	char path[PATH_MAX + sizeof(DAEMON_LOG)];
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), log;

	snprintf(path, sizeof(path), "%s/" DAEMON_LOG, dir);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return -errno;
	return 0;
}

/* In the child: becomes the daemon. What fails is said on `ready`. */
static void become_daemon(const struct daemon_config *config, const char *dir, int ready)
{
	char sfd[PATH_MAX], libexec[PATH_MAX], mem[32], fd[16];
	struct args args = { .argv = { sfd }, .count = 1 };
	int error = config->netns ? embed_enter(config->cluster, config->netns) : 0;

	if (error) {
		dprintf(ready, "cannot enter the namespace of %s: %s\n", config->host,
			strerror(-error));
		_exit(1);
	}
	paths_sfd(sfd);
	snprintf(mem, sizeof(mem), "%llu", (unsigned long long)config->mem_bytes);
	snprintf(fd, sizeof(fd), "%d", ready);
	add_option(&args, "--cluster", config->cluster);
	add_option(&args, "--host", config->host);
	add_option(&args, "--hosts", config->hosts_file);
	add_option(&args, "--key", config->key_file);
	add_option(&args, "--dir", dir);
	add_option(&args, "--guest", config->guest_dir);
	add_option(&args, "--data", config->data_dir);
	add_option(&args, "--libexec-dir", paths_libexec(libexec) ? libexec : NULL);
	add_option(&args, "--mem", config->mem_bytes ? mem : NULL);
	add_option(&args, "--accel", config->accel);
	add_option(&args, "--distribution", config->distribution);
	add_option(&args, "--push", config->push);
	add_option(&args, "--compress", config->compress);
	add_option(&args, "--ready-fd", fd);
	setenv("SF_CLUSTER", config->cluster, 1);
	setenv("SF_HOST", config->host, 1);
	setsid();
	signal(SIGPIPE, SIG_DFL);
	if (!redirect(dir) && !io_set_inherit(ready, true) && !chdir("/"))
		execv(sfd, (char *const *)args.argv);
	dprintf(ready, "cannot start %s: %s\n", sfd, strerror(errno));
	_exit(1);
}

static int start_failed(struct daemon_start *start, int error, const char *what, const char *on)
{
	snprintf(start->why, sizeof(start->why), "%s %s: %s", what, on, strerror(error));
	return -error;
}

int daemon_start(const struct daemon_config *config, struct daemon_start *start)
{
	char dir[PATH_MAX], guest[PATH_MAX + sizeof(GUEST_LINK)];
	int ready[2], error;
	pid_t pid;

	*start = (struct daemon_start){ .ready_fd = -1 };
	snprintf(start->host, sizeof(start->host), "%s", config->host);
	cluster_path(config->cluster, config->host, dir);
	if (mkdir(dir, 0700))
		return start_failed(start, errno, "cannot make", dir);
	snprintf(guest, sizeof(guest), "%s/" GUEST_LINK, dir);
	if (symlink(config->guest_dir, guest))
		return start_failed(start, errno, "cannot make", guest);
	if (pipe2(ready, O_CLOEXEC))
		return start_failed(start, errno, "cannot make", "a pipe");
	pid = fork();
	if (!pid)
		become_daemon(config, dir, ready[1]);
	error = errno;
	close(ready[1]);
	start->ready_fd = ready[0];
	if (pid < 0) {
		close(ready[0]);
		start->ready_fd = -1;
		return start_failed(start, error, "cannot start", "a process");
	}
	start->pid = pid;
	error = pidfile_write(dir, pid);
	return error ? start_failed(start, -error, "cannot write to", dir) : 0;
}

/* Reads what a daemon says. */
static void hear(struct daemon_start *start)
{
	char *at = start->why + start->why_len;
	ssize_t got = read(start->ready_fd, at, sizeof(start->why) - 1 - start->why_len);

	if (got < 0 && errno == EINTR)
		return;
	if (got > 0)
		start->why_len += (size_t)got;
	if (!start->why_len)
		snprintf(start->why, sizeof(start->why),
			 "the daemon ended without a word; see its %s", DAEMON_LOG);
	start->ready = start->why_len == 1 && start->why[0] == 'k';
	if (got > 0 && !start->ready && start->why_len < sizeof(start->why) - 1)
		return;
	start->why[strcspn(start->why, "\n")] = 0;
	close(start->ready_fd);
	start->ready_fd = -1;
}

/* How the start of all of them stands. Return: 0: all ready, -EAGAIN, or -ECHILD. */
static int standing(const struct daemon_start *starts, unsigned count, unsigned *ready)
{
	int result = 0;

	*ready = 0;
	for (unsigned i = 0; i < count; i++) {
		*ready += starts[i].ready;
		if (starts[i].ready_fd >= 0)
			result = result ? result : -EAGAIN;
		else if (!starts[i].ready)
			result = -ECHILD;
	}
	return result;
}

static void close_all(struct daemon_start *starts, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		cleanup_close(&starts[i].ready_fd);
		starts[i].ready_fd = -1;
	}
}

int daemons_wait(struct daemon_start *starts, unsigned count, unsigned wait_ms,
		 const volatile bool *stop, void (*progress)(unsigned ready, unsigned count))
{
	uint64_t limit = io_now_ns() + wait_ms * UINT64_C(1000000);
	struct pollfd fds[EMBED_MAX_HOSTS];
	unsigned ready, told = 0;
	int result;

	while ((result = standing(starts, count, &ready)) == -EAGAIN) {
		uint64_t now = io_now_ns();

		if (ready > told)
			progress(told = ready, count);
		if (*stop || now >= limit) {
			result = *stop ? -EINTR : -ETIMEDOUT;
			break;
		}
		for (unsigned i = 0; i < count; i++)
			fds[i] = (struct pollfd){ .fd = starts[i].ready_fd, .events = POLLIN };
		if (poll(fds, count, (int)((limit - now) / 1000000u) + 1) <= 0)
			continue;
		for (unsigned i = 0; i < count; i++) {
			if (fds[i].revents)
				hear(&starts[i]);
		}
	}
	close_all(starts, count);
	return result;
}

/* Asks, then demands, then kills. Return: false if even that does not help. */
static bool end_one(const struct host_folder *folder, bool asked)
{
	pid_t pid = folder->pid;
	uint64_t start = folder->start_ticks;

	return (asked && proc_end(pid, start, 0, SHUTDOWN_MS)) ||
	       proc_end(pid, start, SIGTERM, TERM_MS) || proc_end(pid, start, SIGKILL, KILL_MS);
}

static bool ask_shutdown(const char *cluster, const char *host)
{
	json_t *request = json_pack("{s:s}", "op", "shutdown");
	int error = client_ask_host(cluster, host, request, ASK_MS, NULL);

	return !error || error == -ECONNRESET; /* it may be gone before it has answered */
}

int daemons_end(const char *cluster, const char *host)
{
	_cleanup_free_ struct host_folder *folders = NULL;
	_cleanup_free_ bool *asked = NULL;
	unsigned count;
	int error = cluster_folders(cluster, &folders, &count), ended = 0;

	asked = calloc(count + 1, sizeof(*asked));
	if (error || !asked)
		return error ? error : -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		if (host && strcmp(host, folders[i].name))
			folders[i].alive = false;
		if (folders[i].alive)
			asked[i] = ask_shutdown(cluster, folders[i].name);
	}
	for (unsigned i = 0; i < count; i++) {
		if (!folders[i].alive)
			continue;
		ended++;
		if (!end_one(&folders[i], asked[i]))
			error = -EBUSY;
	}
	return error ? error : ended;
}
