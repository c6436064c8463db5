/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting a command, and finding all its processes again. */
#define _GNU_SOURCE
#include "command.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "wire.h"

#define USUAL_OPEN_FILES 1024 /* the soft limit that programs expect; the keeper raised its own */

extern char **environ;

int command_parse(const uint8_t *payload, size_t len, const char *extra,
		  struct command_request *request, void **memory)
{
	_cleanup_free_ char **strings = NULL;
	struct mpi_counts counts;
	size_t count, extras = *extra ? 1 : 0;
	char **array;

	if (len < sizeof(counts))
		return -EPROTO;
	memcpy(&counts, payload, sizeof(counts));
	strings = wire_strings(payload + sizeof(counts), len - sizeof(counts), &count);
	if (!strings)
		return -errno;
	if (!counts.argc || 1 + (uint64_t)counts.argc + counts.envc != count)
		return -EPROTO;
	array = calloc(count + extras + 2, sizeof(*array));
	if (!array)
		return -ENOMEM;
	request->cwd = strings[0];
	request->argv = array;
	memcpy(request->argv, strings + 1, counts.argc * sizeof(*array));
	request->env = array + counts.argc + 1;
	memcpy(request->env, strings + 1 + counts.argc, counts.envc * sizeof(*array));
	if (extras)
		request->env[counts.envc] = (char *)extra;
	*memory = array;
	return 0;
}

/* ---- the child ---- */

/* What a child that could not become the command says before it ends. */
struct failure {
	int error;
	bool cwd;
};

static void __attribute__((noreturn)) give_up(int failed, bool cwd)
{
	struct failure failure = { .error = errno, .cwd = cwd };

	io_write_full(failed, &failure, sizeof(failure));
	_exit(127);
}

static void __attribute__((noreturn))
become(const struct command_request *request, const int out[2], int failed)
{
	struct rlimit files;
	sigset_t none;
	int null = open("/dev/null", O_RDONLY);

	setsid();
	/* the executor has no terminal and no standard descriptors below these but its own */
	dup2(null, STDIN_FILENO);
	dup2(out[0], STDOUT_FILENO);
	dup2(out[1], STDERR_FILENO);
	close_range(3, (unsigned)failed - 1, 0);
	close_range((unsigned)failed + 1, ~0u, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur > USUAL_OPEN_FILES) {
		files.rlim_cur = USUAL_OPEN_FILES;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (*request->cwd && chdir(request->cwd))
		give_up(failed, true);
	environ = request->env;
	execvp(request->argv[0], request->argv);
	give_up(failed, false);
}

/* ---- starting it ---- */

struct pipes {
	int out_r, out_w, err_r, err_w, failed_r, failed_w;
};

static void close_pipes(struct pipes *p)
{
	int *fds[] = { &p->out_r, &p->out_w, &p->err_r, &p->err_w, &p->failed_r, &p->failed_w };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
}

/* One pipe, neither end of which is a standard descriptor. Return: 0 or -errno. */
static int make_pipe(int *r, int *w)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	*r = fds[0];
	*w = fds[1];
	return fds[0] > STDERR_FILENO && fds[1] > STDERR_FILENO ? 0 : -EBADF;
}

static int make_pipes(struct pipes *p)
{
	int rc = make_pipe(&p->out_r, &p->out_w);

	if (!rc)
		rc = make_pipe(&p->err_r, &p->err_w);
	if (!rc)
		rc = make_pipe(&p->failed_r, &p->failed_w);
	if (!rc)
		rc = io_set_nonblock(p->out_r, true);
	return rc ? rc : io_set_nonblock(p->err_r, true);
}

/* Waits until the child has become the command. Return: 0 or -errno with a sentence. */
static int await_exec(int failed, const struct command_request *request, char *why, size_t why_len)
{
	struct failure failure;

	if (io_read_full(failed, &failure, sizeof(failure)))
		return 0;
	snprintf(why, why_len, failure.cwd ? "cannot enter %.200s: %s" : "cannot run %.200s: %s",
		 failure.cwd ? request->cwd : request->argv[0], strerror(failure.error));
	return -failure.error;
}

int command_start(const struct command_request *request, struct command *command, char *why,
		  size_t why_len)
{
	struct pipes p __attribute__((cleanup(close_pipes))) = { -1, -1, -1, -1, -1, -1 };
	int rc = make_pipes(&p);
	pid_t pid = rc ? -1 : fork();

	if (!pid)
		become(request, (int[]){ p.out_w, p.err_w }, p.failed_w);
	if (pid < 0) {
		rc = rc ? rc : -errno;
		snprintf(why, why_len, "cannot start a process: %s", strerror(-rc));
		return rc;
	}
	close(steal_fd(&p.failed_w));
	rc = await_exec(p.failed_r, request, why, why_len);
	if (rc)
		return rc;
	command->pid = pid;
	command->out[0] = steal_fd(&p.out_r);
	command->out[1] = steal_fd(&p.err_r);
	return 0;
}

/* ---- its processes ---- */

struct process {
	pid_t pid, parent, session;
	bool hit;
};

/* Return: true if the process is there. */
static bool read_process(pid_t pid, struct process *process)
{
	_cleanup_fd_ int fd = -1;
	char path[64], text[512];
	const char *behind;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = 0;
	behind = strrchr(text, ')');
	*process = (struct process){ .pid = pid };
	return behind && sscanf(behind + 1, " %*c %d %*d %d", &process->parent,
				&process->session) == 2;
}

/* Return: all processes, the caller's to free(); *count of them. */
static struct process *list_processes(size_t *count)
{
	struct process *list = NULL;
	struct dirent *entry;
	DIR *dir = opendir("/proc");
	size_t room = 0;

	*count = 0;
	while (dir && (entry = readdir(dir))) {
		if (*count == room) {
			struct process *grown = reallocarray(list, room = room ? room * 2 : 256,
							     sizeof(*list));

			if (!grown)
				break;
			list = grown;
		}
		if (isdigit((unsigned char)*entry->d_name) &&
		    read_process(atoi(entry->d_name), &list[*count]))
			(*count)++;
	}
	if (dir)
		closedir(dir);
	return list;
}

/* Marks what belongs to those marked before. Return: true if any was. */
static bool mark_more(struct process *list, size_t count)
{
	bool more = false;

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; !list[i].hit && j < count; j++) {
			if (!list[j].hit || list[i].parent != list[j].pid)
				continue;
			list[i].hit = more = true;
		}
	}
	return more;
}

void command_signal(pid_t pid, int signal)
{
	_cleanup_free_ struct process *list = NULL;
	size_t count;

	list = list_processes(&count);
	for (size_t i = 0; i < count; i++)
		list[i].hit = list[i].session == pid || list[i].pid == pid;
	while (mark_more(list, count))
		;
	for (size_t i = 0; i < count; i++) {
		if (list[i].hit)
			kill(list[i].pid, signal);
	}
}
