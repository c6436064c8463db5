/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process of a disk: nbdkit with sf-vdisk, from its start to its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/disk_internal.h"
#include "host/sfd/paths.h"
#include "host/vmm/console.h"
#include "host/vmm/spawn.h"

#define PLUGIN	 "sf-vdisk.so"
#define OOM_SCORE 300 /* as a VM: it is of no use without the other */
enum vdisk_fd { VDISK_FD_CONTROL = 3, VDISK_FD_PLUGIN, VDISK_FD_END };

static void disk_exited(evutil_socket_t fd, short what, void *arg)
{
	struct disk *k = arg;
	char tail[120], how[64], why[WHY_BYTES];
	int status = 0;

	(void)fd;
	(void)what;
	if (waitpid(k->pid, &status, WNOHANG) != k->pid)
		return;
	k->pid = 0;
	event_del(k->exited);
	event_del(k->readable);
	event_del(k->writable);
	console_tail(k->output, tail, sizeof(tail));
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		k->ended(k->arg, NULL);
		return;
	}
	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
	snprintf(why, sizeof(why), "the server of its disk %u (nbdkit) %s%s%s", k->number, how,
		  *tail ? "; its last output: " : "", tail);
	k->ended(k->arg, why);
}

/* What a new nbdkit gets as its descriptors. */
struct disk_fds {
	int ours[2];	/* control, output */
	int theirs[VDISK_FD_END];
	int nbd;
};

static void fds_fini(struct disk_fds *f)
{
	for (int i = 0; i < VDISK_FD_END; i++) {
		if (i != STDOUT_FILENO) /* the same as stdin */
			cleanup_close(&f->theirs[i]);
	}
	cleanup_close(&f->ours[0]);
	cleanup_close(&f->ours[1]);
	cleanup_close(&f->nbd);
}

static int make_fds(struct daemon *d, struct disk_fds *f, char why[WHY_BYTES])
{
	char plugin[PATH_MAX];
	int pair[2];

	paths_libexec(d, PLUGIN, plugin, sizeof(plugin));
	f->theirs[VDISK_FD_PLUGIN] = open(plugin, O_RDONLY | O_CLOEXEC);
	if (f->theirs[VDISK_FD_PLUGIN] < 0) {
		snprintf(why, WHY_BYTES, "cannot open %.160s: %s", plugin, strerror(errno));
		return -errno;
	}
	snprintf(why, WHY_BYTES, "no sockets for a disk: %s", strerror(EMFILE));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	f->theirs[STDIN_FILENO] = f->theirs[STDOUT_FILENO] = pair[0];
	f->nbd = pair[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	f->ours[0] = pair[0];
	f->theirs[VDISK_FD_CONTROL] = pair[1];
	if (pipe2(pair, O_CLOEXEC))
		return -errno;
	f->ours[1] = pair[0];
	f->theirs[STDERR_FILENO] = pair[1];
	return 0;
}

/* Return: where in PATH, in `path`, or -ENOENT with a sentence. */
static int find_nbdkit(char path[PATH_MAX], char why[WHY_BYTES])
{
	const char *at = getenv("PATH");

	while (at) {
		size_t len = strcspn(at, ":");

		if (snprintf(path, PATH_MAX, "%.*s/nbdkit", (int)len, at) < PATH_MAX &&
		    !access(path, X_OK))
			return 0;
		at = at[len] ? at + len + 1 : NULL;
	}
	snprintf(why, WHY_BYTES, "nbdkit was not found: install the package nbdkit");
	return -ENOENT;
}

static int run_nbdkit(struct disk *k, const struct disk_fds *f, uid_t uid, char why[WHY_BYTES])
{
	char path[PATH_MAX], plugin[32], control[32], bytes[32], cluster[128], host[96];
	char *argv[] = { path, (char *)"--foreground", (char *)"--single", plugin, control, bytes,
			 NULL };
	char *envp[] = { cluster, host, NULL };
	struct spawn spawn = { .path = path, .argv = argv, .envp = envp, .fds = f->theirs,
			       .fd_count = VDISK_FD_END, .uid = uid, .oom_score_adj = OOM_SCORE };
	int rc = find_nbdkit(path, why);

	if (rc)
		return rc;
	snprintf(plugin, sizeof(plugin), "/proc/self/fd/%d", VDISK_FD_PLUGIN);
	snprintf(control, sizeof(control), "control=%d", VDISK_FD_CONTROL);
	snprintf(bytes, sizeof(bytes), "bytes=%llu", (unsigned long long)k->bytes);
	snprintf(cluster, sizeof(cluster), "SF_CLUSTER=%s", k->daemon->config.cluster);
	snprintf(host, sizeof(host), "SF_HOST=%s", k->daemon->self->name);
	rc = spawn_process(&spawn, &k->pid, &k->pidfd);
	if (rc) {
		k->pid = 0;
		snprintf(why, WHY_BYTES, "cannot start nbdkit: %s", strerror(-rc));
	}
	return rc;
}

/* Listens to it from now on; takes its descriptors over. Return: 0 or -ENOMEM. */
static int attach(struct disk *k, struct disk_fds *f)
{
	struct event_base *base = k->daemon->base;
	char path[PATH_MAX];
	_cleanup_fd_ int log = -1;

	snprintf(path, sizeof(path), "%s/console.log", k->daemon->config.dir);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	k->sock = steal_fd(&f->ours[0]);
	k->exited = event_new(base, k->pidfd, EV_READ | EV_PERSIST, disk_exited, k);
	k->readable = event_new(base, k->sock, EV_READ | EV_PERSIST, disk_readable, k);
	k->writable = event_new(base, k->sock, EV_WRITE, disk_writable, k);
	k->output = console_create(base, f->ours[1], log);
	if (k->output)
		f->ours[1] = -1;
	if (!k->exited || !k->readable || !k->writable || !k->output ||
	    io_set_nonblock(k->sock, true) || event_add(k->exited, NULL) ||
	    event_add(k->readable, NULL))
		return -ENOMEM;
	event_priority_set(k->readable, 0);
	return 0;
}

struct disk *disk_start(struct daemon *d, const char *vm, unsigned number, uint64_t bytes,
			uid_t uid, int *nbd, void (*ended)(void *arg, const char *why), void *arg,
			char why[WHY_BYTES])
{
	struct disk_fds fds = { { -1, -1 }, { -1, -1, -1, -1, -1 }, -1 };
	struct disk *k = calloc(1, sizeof(*k));
	int rc;

	snprintf(why, WHY_BYTES, "out of memory");
	if (!k)
		return NULL;
	*k = (struct disk){ .daemon = d, .number = number, .bytes = bytes, .pidfd = -1, .sock = -1, .ended = ended,
			    .arg = arg };
	TAILQ_INIT(&k->demands);
	snprintf(k->name, sizeof(k->name), "vm %s: disk %u", vm, number);
	rc = make_fds(d, &fds, why);
	if (!rc)
		rc = run_nbdkit(k, &fds, uid, why);
	if (!rc)
		rc = attach(k, &fds);
	if (!rc)
		*nbd = steal_fd(&fds.nbd);
	fds_fini(&fds);
	if (!rc)
		return k;
	disk_stop(k);
	return NULL;
}

static void event_drop(struct event **event)
{
	if (*event)
		event_free(steal_ptr(event));
}

void disk_stop(struct disk *k)
{
	struct demand *q;

	if (!k)
		return;
	event_drop(&k->exited);
	event_drop(&k->readable);
	event_drop(&k->writable);
	if (k->pid) {
		kill(k->pid, SIGKILL);
		spawn_reap(k->daemon->base, k->pid, steal_fd(&k->pidfd));
	}
	cleanup_close(&k->pidfd);
	cleanup_close(&k->sock);
	console_destroy(k->output);
	while ((q = TAILQ_FIRST(&k->demands))) {
		TAILQ_REMOVE(&k->demands, q, entry);
		demand_free(q);
	}
	if (k->waiting)
		demand_free(k->waiting);
	disk_stack_fini(&k->stack);
	layer_put(k->spare);
	free(k);
}

pid_t disk_pid(const struct disk *k)
{
	return k->pid;
}
