/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting QEMU with nothing but what it was given.
 *
 * Between fork() and exec() the new process goes through the table `steps`, each of which takes
 * something away. Their order matters: what needs root comes before the change of user, and the
 * wish to die with the parent comes after it, because a change of user forgets that wish.
 */
#define _GNU_SOURCE
#include "host/vmm/spawn.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

#define HIGH_FD 512	/* above every number handed to a process */

struct context {
	const struct spawn *spawn;
	pid_t parent;
	dev_t kvm;	/* 0: the host has none */
};

static int take_descriptors(const struct context *c)
{
	int high[SPAWN_MAX_FDS];

	/* First out of the way: a source may have the number of another's target. */
	for (int i = 0; i < c->spawn->fd_count; i++) {
		high[i] = c->spawn->fds[i] < 0 ? -1 :
			  fcntl(c->spawn->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (high[i] < 0 && c->spawn->fds[i] >= 0)
			return -1;
	}
	for (int i = 0; i < c->spawn->fd_count; i++) {
		if (high[i] < 0)
			close(i);
		else if (dup2(high[i], i) < 0)
			return -1;
	}
	return close_range((unsigned)c->spawn->fd_count, ~0u, 0);
}

static int new_session(const struct context *c)
{
	sigset_t none;

	(void)c;
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) || setsid() < 0 ? -1 : 0;
}

static int new_namespaces(const struct context *c)
{
	(void)c;
	return unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS);
}

/* A /dev of its own: no devices but these, and nothing that others left in /dev/shm. */
static int private_dev(const struct context *c)
{
	const struct {
		const char *path;
		dev_t device;
	} nodes[] = {
		{ "/dev/null", makedev(1, 3) },
		{ "/dev/urandom", makedev(1, 9) },
		{ "/dev/kvm", c->spawn->kvm ? c->kvm : 0 },
	};

	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=16"))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		if (!nodes[i].device)
			continue;
		if (mknod(nodes[i].path, S_IFCHR, nodes[i].device) || chmod(nodes[i].path, 0666))
			return -1;
	}
	return 0;
}

static int set_oom_score(const struct context *c)
{
	_cleanup_fd_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	return fd < 0 || dprintf(fd, "%d", c->spawn->oom_score_adj) < 0 ? -1 : 0;
}

static int set_limits(const struct context *c)
{
	const struct rlimit no_core = { 0, 0 };
	const struct rlimit files = { 256, 256 };

	(void)c;
	return setrlimit(RLIMIT_CORE, &no_core) || setrlimit(RLIMIT_NOFILE, &files) ? -1 : 0;
}

static int change_user(const struct context *c)
{
	return setgroups(0, NULL) || setgid(c->spawn->uid) || setuid(c->spawn->uid) ? -1 : 0;
}

static int gain_nothing(const struct context *c)
{
	(void)c;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int die_with_parent(const struct context *c)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return -1;
	if (getppid() == c->parent)
		return 0;
	errno = ESRCH;
	return -1;
}

static int execute(const struct context *c)
{
	return execve(c->spawn->path, c->spawn->argv, c->spawn->envp);
}

static const struct {
	const char *what;
	int (*run)(const struct context *c);	/* 0, or -1 and errno */
} steps[] = {
	{ "its descriptors", take_descriptors },
	{ "a session of its own", new_session },
	{ "namespaces of its own", new_namespaces },
	{ "a /dev of its own", private_dev },
	{ "its out-of-memory score", set_oom_score },
	{ "its limits", set_limits },
	{ "its user", change_user },
	{ "no new privileges", gain_nothing },
	{ "its end with its parent's", die_with_parent },
	{ "the program", execute },
};

static _Noreturn void run_steps(const struct context *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (steps[i].run(c)) {
			dprintf(STDERR_FILENO, "%s: cannot get %s: %m\n", c->spawn->path,
				steps[i].what);
			break;
		}
	}
	_exit(127);
}

int spawn_process(const struct spawn *spawn, pid_t *pid, int *pidfd)
{
	struct context c = { .spawn = spawn, .parent = getpid() };
	struct stat kvm;

	if (spawn->fd_count > SPAWN_MAX_FDS)
		return -EINVAL;
	if (!stat("/dev/kvm", &kvm) && S_ISCHR(kvm.st_mode))
		c.kvm = kvm.st_rdev;
	*pid = fork();
	if (*pid < 0)
		return -errno;
	if (!*pid)
		run_steps(&c);
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (*pidfd < 0) {
		int error = errno;

		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
		return -error;
	}
	return 0;
}

/* A killed process on its way out. */
struct dying {
	struct event *exited;
	pid_t pid;
	int pidfd;
};

static void on_exited(evutil_socket_t fd, short what, void *arg)
{
	struct dying *dying = arg;

	(void)fd, (void)what;
	waitpid(dying->pid, NULL, 0);
	event_free(dying->exited);
	close(dying->pidfd);
	free(dying);
}

void spawn_reap(struct event_base *base, pid_t pid, int pidfd)
{
	struct dying *dying;

	if (waitpid(pid, NULL, WNOHANG)) {
		close(pidfd);
		return;
	}
	dying = calloc(1, sizeof(*dying));
	if (dying)
		dying->exited = event_new(base, pidfd, EV_READ, on_exited, dying);
	if (dying && dying->exited && !event_add(dying->exited, NULL)) {
		dying->pid = pid;
		dying->pidfd = pidfd;
		return;
	}
	/* Out of memory: then wait here. */
	if (dying && dying->exited)
		event_free(dying->exited);
	free(dying);
	waitpid(pid, NULL, 0);
	close(pidfd);
}
