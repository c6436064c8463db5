/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stopping what runs in the VM.
 *
 * A clone begins with a copy of every process: MPI ranks, mpiexec, the shell script around it, all in
 * the middle of what they do. Each would go on: write to the files the parent writes to, send what
 * the parent sends. So they are stopped by ptrace before the instant, let go in the parent after it,
 * and in the clone not at all. PTRACE_SEIZE and PTRACE_INTERRUPT do that without a signal that
 * anybody could see, block, or take for the user's; and a tracer that dies lets go.
 *
 * First all are seized, which they do not notice; then interrupted and waited for; then one looks
 * again, until there is none that was not there before: only what is not stopped yet can have made
 * it. What a seized one makes is seized from its birth: it may be in the middle of fork(2). A thread in an uninterruptible wait (the parent of a vfork(), a disk) need not be waited for: it
 * stops before its next instruction.
 *
 * Not stopped are: this process; PID 1; the kernel's threads; the agent, without which there is no
 * clone; services of the system in cgroups of their own, which have nothing to do with users'
 * programs (those of the agent's, of this process and of the companion are no such: what users run
 * is in there); and what may not be traced by this user.
 */
#define _GNU_SOURCE
#include "libsf/silence.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

#define STOP_NS	     3000000000ull /* for all to be found, and for all of one look to stop */
#define LOOK_NS	     500000	/* between looks at those that have not stopped */
#define XENSTORE     "/run/xenstored/socket"
#define SERVICES     "/system.slice/"
#define KERNEL_FLAG  0x00200000u /* PF_KTHREAD in /proc/PID/stat */
#define CGROUP_BYTES 256

enum thread_state { SEIZED, STOPPED, GONE };

struct silenced {
	pid_t pid, tid;
	enum thread_state state;
	bool interrupted;
	int signal; /* that it was about to get when it stopped; 0: none */
};

/* What one silence_begin() knows of who is not to be stopped. */
struct sparing {
	pid_t agent;		 /* 0: not known */
	char users[3][CGROUP_BYTES]; /* cgroups of the agent, of this process, of the companion */
	pid_t asked;		 /* to be left alone; 0: none */
	pid_t *spared;		 /* seen in earlier passes */
	size_t count, room;
};

static int fail(struct silence *silence, int error, const char *what, pid_t pid)
{
	snprintf(silence->why, sizeof(silence->why), "cannot stop what runs in the VM: %s %d: %s",
		 what, pid, strerror(-error));
	return error;
}

/* ---- who ---- */

/* Reads a small file of a process. Return: its length, 0 if there is nothing. */
static size_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	_cleanup_fd_ int fd = -1;
	char path[64];
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? 0 : read(fd, text, size - 1);
	text[got > 0 ? got : 0] = 0;
	return got > 0 ? (size_t)got : 0;
}

/* Return: the state's letter of a process or thread, and its flags; 0: there is none. */
static char read_state(pid_t pid, unsigned *flags)
{
	char text[512];
	const char *behind;
	char state;

	/* "12 (any (name)) S 1 12 12 0 -1 4194560 …" */
	if (!read_proc(pid, "stat", text, sizeof(text)))
		return 0;
	behind = strrchr(text, ')');
	if (!behind || sscanf(behind + 1, " %c %*d %*d %*d %*d %*d %u", &state, flags) != 2)
		return 0;
	return state;
}

/* Writes the process's cgroup, without "0::"; "" where there are none. */
static void read_cgroup(pid_t pid, char *cgroup)
{
	char text[CGROUP_BYTES + 8];
	char *line = pid && read_proc(pid, "cgroup", text, sizeof(text)) ? strstr(text, "0::") : NULL;

	snprintf(cgroup, CGROUP_BYTES, "%.*s", line ? (int)strcspn(line + 3, "\n") : 0,
		 line ? line + 3 : "");
}

/* Return: the process that serves XenStore in this VM; 0: nobody. */
static pid_t find_agent(void)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *path = getenv("XENSTORED_PATH");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t len = sizeof(peer);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path ? path : XENSTORE);
	if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof(to)) ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return 0;
	return peer.pid;
}

static bool is_spared_service(const struct sparing *sparing, pid_t pid)
{
	char cgroup[CGROUP_BYTES];

	read_cgroup(pid, cgroup);
	if (strncmp(cgroup, SERVICES, strlen(SERVICES)))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(sparing->users); i++) {
		if (!strcmp(cgroup, sparing->users[i]))
			return false;
	}
	return true;
}

static bool is_noted(const struct sparing *sparing, pid_t pid)
{
	for (size_t i = 0; i < sparing->count; i++) {
		if (sparing->spared[i] == pid)
			return true;
	}
	return false;
}

/* Return: 0 or -ENOMEM. */
static int note(struct sparing *sparing, pid_t pid)
{
	if (sparing->count == sparing->room) {
		size_t room = sparing->room ? sparing->room * 2 : 256;
		pid_t *grown = reallocarray(sparing->spared, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		sparing->spared = grown;
		sparing->room = room;
	}
	sparing->spared[sparing->count++] = pid;
	return 0;
}

/* Return: 1 if the process is not to be stopped, 0 if it is, -ENOMEM. */
static int is_spared(struct sparing *sparing, pid_t pid)
{
	unsigned flags = 0;
	int rc;

	if (pid == 1 || pid == getpid() || pid == sparing->agent || pid == sparing->asked ||
	    is_noted(sparing, pid))
		return 1;
	/* one that is gone has nothing to be read */
	if (!read_state(pid, &flags) || (!(flags & KERNEL_FLAG) && !is_spared_service(sparing, pid)))
		return 0;
	rc = note(sparing, pid);
	return rc ? rc : 1;
}

/*
 * For a thread that was listed and cannot be seized. Return: 1 if it has ended, the first time that it
 * is seen: what it made may have been born too late for this look at /proc; 0; -ENOMEM.
 */
static int has_just_ended(struct sparing *sparing, pid_t tid)
{
	unsigned flags;
	char state = read_state(tid, &flags);
	int rc;

	if ((state && state != 'Z' && state != 'X') || is_noted(sparing, tid))
		return 0;
	rc = note(sparing, tid);
	return rc ? rc : 1;
}

/* ---- seizing ---- */

/* What a thread makes before it has stopped is stopped from its birth. */
#define BIRTHS ((void *)(PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE))

static bool is_known(const struct silence *silence, pid_t tid)
{
	for (size_t i = 0; i < silence->count; i++) {
		if (silence->threads[i].tid == tid && silence->threads[i].state != GONE)
			return true;
	}
	return false;
}

/* Return: 0 if there is room for one more, or -ENOMEM. */
static int make_room(struct silence *silence)
{
	size_t room = silence->room ? silence->room * 2 : 256;
	struct silenced *grown;

	if (silence->count < silence->room)
		return 0;
	grown = reallocarray(silence->threads, room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	silence->threads = grown;
	silence->room = room;
	return 0;
}

/* Return: 1 if the thread is new, and seized or just gone; 0 if known, or not to be traced; -errno. */
static int seize_thread(struct silence *silence, struct sparing *sparing, pid_t pid, pid_t tid)
{
	if (is_known(silence, tid))
		return 0;
	if (make_room(silence))
		return -ENOMEM;
	if (ptrace(PTRACE_SEIZE, tid, NULL, BIRTHS)) {
		log_debug("silence: thread %d of %d: %s", tid, pid, strerror(errno));
		return has_just_ended(sparing, tid);
	}
	silence->threads[silence->count++] = (struct silenced){ .pid = pid, .tid = tid };
	return 1;
}

/* A thread that stopped because it made another: that one is ours as well, and about to stop. */
static void take_born(struct silence *silence, pid_t pid, pid_t tid)
{
	unsigned long born = 0;

	if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &born) || is_known(silence, (pid_t)born))
		return;
	if (make_room(silence)) {
		waitpid((pid_t)born, NULL, __WALL);
		ptrace(PTRACE_DETACH, (pid_t)born, NULL, NULL);
		return;
	}
	silence->threads[silence->count++] =
		(struct silenced){ .pid = pid, .tid = (pid_t)born, .interrupted = true };
}

/* Calls `each` for every number in a folder. Return: the sum of what it returned, or its -errno. */
static int for_numbers(const char *folder, int (*each)(void *arg, pid_t number), void *arg)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	int sum = 0;

	while (dir && sum >= 0 && (entry = readdir(dir))) {
		int rc = isdigit((unsigned char)*entry->d_name) ? each(arg, atoi(entry->d_name)) : 0;

		sum = rc < 0 ? rc : sum + rc;
	}
	if (dir)
		closedir(dir);
	return sum;
}

struct pass {
	struct silence *silence;
	struct sparing *sparing;
	pid_t pid;
};

static int each_thread(void *arg, pid_t tid)
{
	struct pass *pass = arg;

	return seize_thread(pass->silence, pass->sparing, pass->pid, tid);
}

static int each_process(void *arg, pid_t pid)
{
	struct pass *pass = arg;
	int rc = is_spared(pass->sparing, pid);
	char folder[64];

	if (rc)
		return rc < 0 ? rc : 0;
	pass->pid = pid;
	snprintf(folder, sizeof(folder), "/proc/%d/task", pid);
	rc = for_numbers(folder, each_thread, pass);
	return rc ? rc : has_just_ended(pass->sparing, pid);
}

/* ---- stopping ---- */

/* Looks whether thread number `at` has stopped or gone; others may be added. Return: true if it has. */
static bool look(struct silence *silence, size_t at)
{
	struct silenced *thread = &silence->threads[at];
	int status, event;
	pid_t got;

	if (thread->state != SEIZED)
		return true;
	got = waitpid(thread->tid, &status, WNOHANG | __WALL);
	if (!got)
		return false;
	if (got < 0 || !WIFSTOPPED(status)) {
		thread->state = GONE;
		return true;
	}
	thread->state = STOPPED;
	/* an event's stop is of our making; any other is a signal on its way to the thread */
	event = status >> 16;
	thread->signal = event ? 0 : WSTOPSIG(status);
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE)
		take_born(silence, thread->pid, thread->tid);
	return true;
}

/* True if the thread is running, or can be before it has stopped. */
static bool must_be_awaited(const struct silenced *thread)
{
	unsigned flags;
	char state = read_state(thread->tid, &flags);

	return state && state != 'D' && state != 'Z' && state != 'X';
}

/* Waits for all that are interrupted. Return: 0; -ETIMEDOUT, and *late does not stop. */
static int await_stops(struct silence *silence, pid_t *late)
{
	uint64_t end_ns = io_now_ns() + STOP_NS;
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		size_t waiting = 0;

		for (size_t i = 0; i < silence->count; i++) {
			if (look(silence, i) || !must_be_awaited(&silence->threads[i]))
				continue;
			*late = silence->threads[i].tid;
			waiting++;
		}
		if (!waiting)
			return 0;
		if (io_now_ns() > end_ns)
			return -ETIMEDOUT;
		sigtimedwait(&child, NULL, &pause);
	}
}

static void interrupt_all(struct silence *silence)
{
	if (!silence->since_ns)
		silence->since_ns = io_now_ns();
	for (size_t i = 0; i < silence->count; i++) {
		struct silenced *thread = &silence->threads[i];

		if (thread->interrupted)
			continue;
		thread->interrupted = true;
		if (ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) && errno == ESRCH)
			look(silence, i);
	}
}

static int stop_all(struct silence *silence, struct sparing *sparing)
{
	struct pass pass = { .silence = silence, .sparing = sparing };

	const uint64_t end_ns = io_now_ns() + STOP_NS;

	do {
		pid_t late = 0;
		int found = for_numbers("/proc", each_process, &pass), rc;

		if (found < 0)
			return fail(silence, found, "process", pass.pid);
		if (!found && silence->since_ns)
			return 0;
		interrupt_all(silence);
		rc = await_stops(silence, &late);
		if (rc)
			return fail(silence, rc, "thread", late);
	} while (io_now_ns() < end_ns);
	return fail(silence, -EAGAIN, "new processes again and again, the last", pass.pid);
}

int silence_begin(struct silence *silence, pid_t companion, pid_t spared)
{
	struct sparing sparing = { .agent = find_agent(), .asked = spared };
	int rc;

	read_cgroup(sparing.agent, sparing.users[0]);
	read_cgroup(getpid(), sparing.users[1]);
	read_cgroup(companion, sparing.users[2]);
	silence->since_ns = 0;
	silence->why[0] = 0;
	rc = stop_all(silence, &sparing);
	free(sparing.spared);
	if (rc) {
		pid_t late;

		/* only what has stopped can be let go */
		interrupt_all(silence);
		await_stops(silence, &late);
		silence_end(silence);
	}
	return rc;
}

/* ---- and after ---- */

void silence_late(struct silence *silence)
{
	size_t left = 0;

	for (size_t i = 0; i < silence->count; i++) {
		struct silenced *thread;

		look(silence, i);
		thread = &silence->threads[i]; /* the list may have moved */
		if (thread->state == STOPPED)
			ptrace(PTRACE_DETACH, thread->tid, NULL, (void *)(long)thread->signal);
		else if (thread->state == SEIZED)
			silence->threads[left++] = *thread;
	}
	silence->count = left;
}

uint64_t silence_end(struct silence *silence)
{
	silence_late(silence);
	return silence->since_ns ? (io_now_ns() - silence->since_ns) / 1000 : 0;
}

void silence_keep(struct silence *silence)
{
	size_t left = 0;

	for (size_t i = 0; i < silence->count; i++) {
		struct silenced *thread;

		look(silence, i);
		thread = &silence->threads[i]; /* the list may have moved */
		if (thread->state == STOPPED)
			ptrace(PTRACE_SETOPTIONS, thread->tid, NULL, (void *)PTRACE_O_EXITKILL);
		else if (thread->state == SEIZED)
			silence->threads[left++] = *thread;
	}
	silence->count = left;
}

void silence_fini(struct silence *silence)
{
	free(silence->threads);
	*silence = (struct silence){ 0 };
}
