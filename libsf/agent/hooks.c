/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /etc/snowflock/clone.d, as run-parts(8) would run it.
 *
 * The folder is read in the parent, so that a clone without hooks has nothing to do. While hooks
 * run the loop is held: their ends and the time limit are served like a port. Each leads a session
 * of its own, so that what it started dies with it when its time is over; the corpse is left for
 * the loop's reaper then (exec.c), because a process that is stuck in the kernel may take long.
 */
#define _GNU_SOURCE
#include "agent/hooks.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/spawn.h"
#include "common/cleanup.h"
#include "common/log.h"

/* -- in the parent ------------------------------------------------------------------------- */

static int is_name(const struct dirent *entry)
{
	const char *at = entry->d_name;

	while (isalnum((unsigned char)*at) || *at == '-' || *at == '_')
		at++;
	return !*at && at != entry->d_name;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* Return: the caller's to free(), or NULL. */
static char *path_in(const char *folder, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static void forget(struct hooks *hooks)
{
	for (unsigned i = 0; i < hooks->count; i++)
		free(hooks->names[i]);
	free(steal_ptr(&hooks->names));
	hooks->count = 0;
}

void hooks_scan(struct hooks *hooks)
{
	struct dirent **entries;
	int found = scandir(hooks->folder, &entries, is_name, by_name);

	forget(hooks);
	if (found < 0) {
		if (errno != ENOENT)
			log_warn("hooks: %s: %s", hooks->folder, strerror(errno));
		return;
	}
	hooks->names = found ? calloc((size_t)found, sizeof(*hooks->names)) : NULL;
	for (int i = 0; i < found; i++) {
		_cleanup_free_ char *path = path_in(hooks->folder, entries[i]->d_name);

		if (hooks->names && path && is_program(path))
			hooks->names[hooks->count++] = steal_ptr(&path);
		free(entries[i]);
	}
	free(entries);
}

/* -- in a clone ---------------------------------------------------------------------------- */

static void drop(struct hooks *hooks, struct source *source)
{
	if (source->fd < 0)
		return;
	loop_watch(hooks->loop, source, 0);
	close(source->fd);
	source->fd = -1;
}

/* NULL-ended: what a hook is told of its VM. */
static void environment(struct hooks *hooks, char *env[HOOKS_VARIABLES + 1])
{
	unsigned count = 0;

	for (unsigned i = 0; i < HOOKS_VARIABLES; i++) {
		if (hooks->variables[i][0])
			env[count++] = hooks->variables[i];
	}
	env[count] = NULL;
}

/* Starts one. Return: 0 or -errno. */
static int start(struct hooks *hooks, char *path)
{
	char *argv[] = { path, NULL }, *env[HOOKS_VARIABLES + 1];
	const struct spawn_request request = { .argv = argv, .env = env, .cwd = "/" };
	const struct itimerspec limit = { .it_value.tv_sec = hooks->limit_s };
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0)
		return -errno;
	environment(hooks, env);
	hooks->pid = spawn_on(&request, (int[]){ null, STDERR_FILENO, STDERR_FILENO });
	if (hooks->pid < 0)
		return hooks->pid;
	hooks->ended.fd = pidfd_open(hooks->pid, 0);
	if (hooks->ended.fd < 0) {
		int error = -errno;

		kill(hooks->pid, SIGKILL);
		return error;
	}
	timerfd_settime(hooks->timer.fd, 0, &limit, NULL);
	loop_watch(hooks->loop, &hooks->ended, EPOLLIN);
	return 0;
}

/* Starts the next that can be started; after the last it is done. */
static void go_on(struct hooks *hooks)
{
	while (hooks->next < hooks->count) {
		char *path = hooks->names[hooks->next++];
		int error = start(hooks, path);

		if (!error)
			return;
		log_warn("hook %s: %s", path, strerror(-error));
	}
	drop(hooks, &hooks->timer);
	hooks->done(hooks->arg);
}

static const char *running(const struct hooks *hooks)
{
	return hooks->names[hooks->next - 1];
}

static void ended_ready(struct source *source, uint32_t events)
{
	struct hooks *hooks = (struct hooks *)((char *)source - offsetof(struct hooks, ended));
	int status = 0;

	(void)events;
	if (waitpid(hooks->pid, &status, WNOHANG) == 0)
		return;
	if (WIFSIGNALED(status))
		log_warn("hook %s: ended by signal %d", running(hooks), WTERMSIG(status));
	else if (WEXITSTATUS(status))
		log_warn("hook %s: exit status %d", running(hooks), WEXITSTATUS(status));
	drop(hooks, &hooks->ended);
	go_on(hooks);
}

static void timer_ready(struct source *source, uint32_t events)
{
	struct hooks *hooks = (struct hooks *)((char *)source - offsetof(struct hooks, timer));
	uint64_t count;

	(void)events;
	/* one that has ended meanwhile has set the timer anew */
	if (read(source->fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (kill(-hooks->pid, SIGKILL))
		kill(hooks->pid, SIGKILL);
	log_warn("hook %s: killed, it took longer than %u s", running(hooks), hooks->limit_s);
	drop(hooks, &hooks->ended);
	go_on(hooks);
}

static void set_address(char *variable, size_t room, const char *name, uint32_t address)
{
	char text[INET_ADDRSTRLEN];

	*variable = 0;
	if (address && inet_ntop(AF_INET, &address, text, sizeof(text)))
		snprintf(variable, room, "%s=%s", name, text);
}

static void describe(struct hooks *hooks, const struct agent_resume *resume)
{
	const size_t room = sizeof(hooks->variables[0]);

	snprintf(hooks->variables[0], room, "SF_ID=%u", resume->id);
	snprintf(hooks->variables[1], room, "SF_COUNT=%u", resume->count);
	set_address(hooks->variables[2], room, "SF_ADDRESS", resume->address);
	set_address(hooks->variables[3], room, "SF_PARENT", resume->parent);
	hooks->variables[4][0] = 0;
	if (resume->checkpoint)
		snprintf(hooks->variables[4], room, "SF_CHECKPOINT=%u", resume->checkpoint);
}

bool hooks_begin(struct hooks *hooks, const struct agent_resume *resume)
{
	if (!hooks->count)
		return false;
	hooks->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (hooks->timer.fd < 0) {
		log_warn("hooks: %s", strerror(errno));
		return false;
	}
	loop_watch(hooks->loop, &hooks->timer, EPOLLIN);
	describe(hooks, resume);
	hooks->next = 0;
	go_on(hooks);
	return true;
}

void hooks_init(struct hooks *hooks, struct loop *loop, const char *folder, unsigned limit_s,
		void (*done)(void *arg), void *arg)
{
	*hooks = (struct hooks){ .loop = loop, .folder = folder, .limit_s = limit_s, .done = done,
				 .arg = arg };
	hooks->ended = (struct source){ .fd = -1, .port = true, .ready = ended_ready };
	hooks->timer = (struct source){ .fd = -1, .port = true, .ready = timer_ready };
}
