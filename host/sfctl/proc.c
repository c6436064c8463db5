/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes of this machine, by way of /proc and pidfds. */
#include "host/sfctl/proc.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define ENVIRON_MAX (2u << 20)
#define STAT_STATE 1 /* fields behind the name, which may itself hold blanks and parentheses */
#define STAT_START 20

/* Reads /proc/PID/stat. Return: when it began, 0 if there is no such process or it is a zombie. */
uint64_t proc_start_ticks(pid_t pid)
{
	char path[64];
	_cleanup_free_ char *text = NULL;
	char *field, *save;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (io_read_file(path, 4096, &text, &len) || !(field = strrchr(text, ')')))
		return 0;
	field = strtok_r(field + 1, " ", &save);
	for (unsigned i = STAT_STATE; field && i < STAT_START; i++) {
		if (i == STAT_STATE && (*field == 'Z' || *field == 'X'))
			return 0;
		field = strtok_r(NULL, " ", &save);
	}
	return field ? strtoull(field, NULL, 10) : 0;
}

bool proc_is(pid_t pid, uint64_t start_ticks)
{
	return pid > 1 && start_ticks && proc_start_ticks(pid) == start_ticks;
}

/* Looks for NAME=… among NUL-ended strings. Return: true and the value, cut to fit. */
static bool environ_get(const char *text, size_t len, const char *name, char value[PROC_WORD_BYTES])
{
	size_t name_len = strlen(name);

	for (const char *at = text; at < text + len; at += strlen(at) + 1) {
		if (!strncmp(at, name, name_len) && at[name_len] == '=') {
			snprintf(value, PROC_WORD_BYTES, "%s", at + name_len + 1);
			return true;
		}
	}
	return false;
}

static bool proc_read(pid_t pid, struct proc *proc)
{
	char path[64];
	_cleanup_free_ char *text = NULL, *name = NULL;
	size_t len;

	proc->pid = pid;
	proc->start_ticks = proc_start_ticks(pid);
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	if (!proc->start_ticks || io_read_file(path, ENVIRON_MAX, &text, &len) ||
	    !environ_get(text, len, "SF_CLUSTER", proc->cluster) ||
	    !environ_get(text, len, "SF_HOST", proc->host))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (io_read_file(path, 256, &name, &len))
		return false;
	name[strcspn(name, "\n")] = 0;
	snprintf(proc->name, sizeof(proc->name), "%s", name);
	return true;
}

int proc_find(struct proc **procs, unsigned *count)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	*procs = NULL;
	*count = 0;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct proc *bigger, proc = { 0 };

		pid_t pid = atoi(entry->d_name);

		if (pid <= 1 || pid == getpid() || !proc_read(pid, &proc))
			continue;
		bigger = reallocarray(*procs, *count + 1, sizeof(**procs));
		if (!bigger)
			break;
		*procs = bigger;
		bigger[(*count)++] = proc;
	}
	closedir(dir);
	return 0;
}

bool proc_end(pid_t pid, uint64_t start_ticks, int signal, int wait_ms)
{
	_cleanup_fd_ int pidfd = pidfd_open(pid, 0);
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	uint64_t limit = io_now_ns() + (uint64_t)wait_ms * 1000000u;

	if (pidfd < 0 ||
	    !proc_is(pid, start_ticks)) /* in this order: the pidfd is of that process */
		return true;
	if (signal)
		pidfd_send_signal(pidfd, signal, NULL, 0);
	for (;;) {
		uint64_t now = io_now_ns();
		int left = now < limit ? (int)((limit - now) / 1000000u) : 0;

		if (poll(&end, 1, left) > 0)
			return true;
		if (!left)
			return false;
	}
}
