/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts nbdkit, talks to sf-vdisk in it, remembers the layers.
 *
 * What is asked is sent at once, in order; answers are told apart by their tags. The stack here is
 * changed when something is asked for, and taken back when it was refused: then the disk is of no
 * use any more, except after a merge, which leaves everything as it was.
 */
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

/* A request under way. */
struct demand {
	struct vdisk_request request;
	int fds[2];
	unsigned nfds;
	bool sent;
	/* Called first, with what came with the reply; may be NULL, as may `done`. */
	void (*answered)(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd);
	disk_done *done;
	disk_inherited *inherited;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
	struct disk_layer *merged; /* VDISK_MERGE: what the layers become */
	TAILQ_ENTRY(demand) entry;
};

struct disk {
	struct daemon *daemon;
	char name[160]; /* "vm h1.1: disk 0" */
	unsigned number;
	uint64_t bytes;
	pid_t pid;
	int pidfd, sock;
	struct event *exited, *readable, *writable;
	struct console *output;
	TAILQ_HEAD(, demand) demands;
	uint32_t next_tag;
	struct disk_stack stack; /* the top is the last one */
	unsigned foreign;	 /* of these, from the bottom: layers another VM made */
	struct disk_layer *spare;
	bool busy;		/* with a merge or a copy: one at a time */
	bool exporting;		/* somebody waits for a copy */
	struct demand *waiting; /* it, until the disk is not busy any more */
	void (*ended)(void *arg, const char *why);
	void *arg;
};

/* ---- asking ---- */

static void demand_drop_fds(struct demand *q)
{
	while (q->nfds)
		close(q->fds[--q->nfds]);
}

static void demand_free(struct demand *q)
{
	demand_drop_fds(q);
	layer_put(q->merged);
	free(q);
}

/* A request with these descriptors, which are duplicated. Return: NULL with errno. */
static struct demand *demand_new(uint32_t op, int fd0, int fd1)
{
	struct demand *q = calloc(1, sizeof(*q));
	const int fds[2] = { fd0, fd1 };

	if (!q)
		return NULL;
	q->request.op = op;
	for (unsigned i = 0; i < 2 && fds[i] >= 0; i++) {
		q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (q->fds[i] < 0) {
			demand_free(q);
			return NULL;
		}
		q->nfds++;
	}
	return q;
}

static void disk_flush(struct disk *k)
{
	struct demand *q;

	if (!k->pid)
		return;
	TAILQ_FOREACH(q, &k->demands, entry) {
		int rc;

		if (q->sent)
			continue;
		rc = io_send_fds(k->sock, &q->request, sizeof(q->request), q->fds, q->nfds);
		if (rc == -EAGAIN) {
			event_add(k->writable, NULL);
			return;
		}
		if (rc) {
			/* it is on its end, which says more */
			log_debug("%s: not told: %s", k->name, strerror(-rc));
			kill(k->pid, SIGKILL);
			return;
		}
		q->sent = true;
		demand_drop_fds(q);
	}
}

static void disk_ask(struct disk *k, struct demand *q)
{
	q->request.tag = k->next_tag++;
	TAILQ_INSERT_TAIL(&k->demands, q, entry);
	disk_flush(k);
}

static void disk_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	disk_flush(arg);
}

/* ---- answers ---- */

static void disk_answered(struct disk *k, const struct vdisk_reply *reply, int fd)
{
	struct demand *q;

	TAILQ_FOREACH(q, &k->demands, entry) {
		if (q->request.tag == reply->tag)
			break;
	}
	if (!q || !q->sent || q->request.op != reply->op) {
		log_err("%s: an answer that nobody asked for (op %u)", k->name, reply->op);
		kill(k->pid, SIGKILL);
		cleanup_close(&fd);
		return;
	}
	if (reply->op == VDISK_COPY && reply->error == EINPROGRESS) {
		if (q->progress)
			q->progress(q->arg, reply->base);
		cleanup_close(&fd);
		return;
	}
	TAILQ_REMOVE(&k->demands, q, entry);
	if (reply->error == ECANCELED)
		log_info("%s: a copy was given up", k->name);
	else if (reply->error)
		log_warn("%s: request %u failed: %s", k->name, reply->op, strerror(reply->error));
	if (q->answered)
		q->answered(k, q, reply, fd);
	else
		cleanup_close(&fd);
	/* last of all: it may stop the disk */
	if (q->done)
		q->done(q->arg, -reply->error);
	demand_free(q);
}

static void disk_readable(evutil_socket_t sock, short what, void *arg)
{
	struct disk *k = arg;
	struct vdisk_reply reply;
	unsigned nfds;
	int fd = -1;
	ssize_t got = io_recv_fds(sock, &reply, sizeof(reply), &fd, 1, &nfds);

	(void)what;
	if (got == -EAGAIN)
		return;
	if (got == sizeof(reply)) {
		disk_answered(k, &reply, nfds ? fd : -1);
		return;
	}
	if (nfds)
		close(fd);
	event_del(k->readable); /* its end follows */
	kill(k->pid, SIGKILL);
}

/* ---- the process ---- */

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

/* ---- what it is made of ---- */

/* The next layer is this one, above what is there. Return: 0 or -errno. */
static int push(struct disk *k, struct disk_layer *layer, disk_done *done, void *arg)
{
	struct demand *q = k->stack.count < VDISK_MAX_LAYERS - 1
				   ? demand_new(VDISK_LAYER, layer->file, layer->map)
				   : NULL;

	if (!q)
		return k->stack.count < VDISK_MAX_LAYERS - 1 ? -errno : -ENOSPC;
	q->done = done;
	q->arg = arg;
	layer->refs++;
	k->stack.layers[k->stack.count++] = layer;
	disk_ask(k, q);
	return 0;
}

int disk_stand_on(struct disk *k, const struct disk_stack *stack)
{
	struct demand *q = demand_new(VDISK_BASE, image_fd(stack->image), -1);
	int rc = 0;

	if (!q)
		return -errno;
	k->stack.image = image_get(stack->image);
	disk_ask(k, q);
	for (unsigned i = 0; i < stack->count && !rc; i++)
		rc = push(k, stack->layers[i], NULL, NULL);
	k->foreign = k->stack.count;
	return rc;
}

static void inherited(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	int error = reply->error ? -reply->error : fd < 0 || reply->bytes != k->bytes ? -EPROTO : 0;

	q->inherited(q->arg, error, fd, reply->base);
}

int disk_inherit(struct disk *k, int page_file, disk_inherited *done, void *arg)
{
	_cleanup_fd_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct demand *q = device < 0 ? NULL : demand_new(VDISK_INHERITED, page_file, device);

	if (!q)
		return -errno;
	q->answered = inherited;
	q->inherited = done;
	q->arg = arg;
	disk_ask(k, q);
	return 0;
}

int disk_prepare(struct disk *k)
{
	return k->spare ? 0 : layer_new(k->daemon, k->bytes, &k->spare);
}

int disk_freeze(struct disk *k, disk_done *done, void *arg)
{
	int rc = disk_prepare(k);

	if (!rc)
		rc = push(k, k->spare, done, arg);
	if (!rc)
		layer_put(steal_ptr(&k->spare));
	return rc;
}

int disk_open(struct disk *k, disk_done *done, void *arg)
{
	struct demand *q = demand_new(VDISK_OPEN, -1, -1);

	if (!q)
		return -errno;
	q->done = done;
	q->arg = arg;
	disk_ask(k, q);
	return 0;
}

void disk_frozen(const struct disk *k, struct disk_stack *stack)
{
	disk_stack_copy(stack, &k->stack, k->stack.count ? k->stack.count - 1 : 0);
}

/* ---- in the background ---- */

/* A merge or copy is over: who waited for that has its turn. */
static void job_ended(struct disk *k)
{
	k->busy = k->waiting;
	if (k->waiting)
		disk_ask(k, steal_ptr(&k->waiting));
}

/* The layers from the ground up to below those that came meanwhile are one now. */
static void merged(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	struct disk_stack *s = &k->stack;
	unsigned count = q->request.count;

	cleanup_close(&fd);
	if (!reply->error) {
		for (unsigned i = 0; i < count; i++)
			layer_put(s->layers[i]);
		s->layers[0] = steal_ptr(&q->merged);
		memmove(&s->layers[1], &s->layers[count],
			(s->count - count) * sizeof(s->layers[0]));
		s->count -= count - 1;
		k->foreign = 0;
		if (k->waiting)
			k->waiting->request.count -= count - 1;
		log_debug("%s: %u layers merged in %llu ms", k->name, count,
			  (unsigned long long)reply->elapsed_ns / 1000000);
	}
	job_ended(k);
}

void disk_tidy(struct disk *k)
{
	unsigned frozen = k->stack.count ? k->stack.count - 1 : 0;
	struct disk_layer *layer;
	struct demand *q;

	if (k->busy || !k->pid || frozen <= DISK_MAX_FROZEN ||
	    layer_new(k->daemon, k->bytes, &layer))
		return;
	q = demand_new(VDISK_MERGE, layer->file, layer->map);
	if (!q) {
		layer_put(layer);
		return;
	}
	q->request.first = 1; /* 0 is the ground */
	q->request.count = frozen;
	q->merged = layer;
	q->answered = merged;
	k->busy = true;
	disk_ask(k, q);
}

static void exported(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	(void)q;
	(void)reply;
	cleanup_close(&fd);
	k->exporting = k->waiting; /* else it was this one */
	job_ended(k);
	disk_tidy(k);
}

int disk_export(struct disk *k, int file, void (*progress)(void *arg, uint64_t bytes),
		disk_done *done, void *arg)
{
	struct demand *q = k->exporting ? NULL : demand_new(VDISK_COPY, file, -1);
	int rc;

	if (!q)
		return k->exporting ? -EBUSY : -errno;
	rc = disk_freeze(k, NULL, NULL);
	if (rc) {
		demand_free(q);
		return rc;
	}
	q->progress = progress;
	q->done = done;
	q->answered = exported;
	q->arg = arg;
	q->request.count = k->stack.count; /* the ground, and all but the top */
	k->exporting = true;
	if (k->busy)
		k->waiting = q;
	else
		disk_ask(k, q);
	k->busy = true;
	return 0;
}

/* Nobody waits for the copy: it ends soon, and another may be asked for now. */
static void cancel_copy(struct disk *k)
{
	struct demand *q = demand_new(VDISK_CANCEL, -1, -1);

	k->exporting = false;
	if (q)
		disk_ask(k, q);
}

void disk_forget(struct disk *k, void *arg)
{
	bool copies = false;
	struct demand *q;

	if (k->waiting && k->waiting->arg == arg) {
		demand_free(steal_ptr(&k->waiting));
		k->exporting = false;
	}
	TAILQ_FOREACH(q, &k->demands, entry) {
		if (q->arg != arg)
			continue;
		copies |= q->request.op == VDISK_COPY;
		q->done = NULL;
		q->progress = NULL;
		q->arg = NULL;
	}
	if (copies)
		cancel_copy(k);
}

/* ---- what is told of it ---- */

uint64_t disk_bytes(const struct disk *k)
{
	return k->bytes;
}

unsigned disk_layers(const struct disk *k)
{
	return k->stack.count;
}

uint64_t disk_own_bytes(const struct disk *k)
{
	struct disk_stack own = { .count = k->stack.count - k->foreign };

	memcpy(own.layers, &k->stack.layers[k->foreign], own.count * sizeof(own.layers[0]));
	return disk_stack_bytes(&own);
}

pid_t disk_pid(const struct disk *k)
{
	return k->pid;
}
