/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Talks to sf-vdisk: what is asked is sent at once, in order; answers are told apart by their tags. */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/disk_internal.h"

static void demand_drop_fds(struct demand *q)
{
	while (q->nfds)
		close(q->fds[--q->nfds]);
}

void demand_free(struct demand *q)
{
	demand_drop_fds(q);
	layer_put(q->merged);
	free(q);
}

struct demand *demand_new(uint32_t op, int fd0, int fd1)
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

void disk_ask(struct disk *k, struct demand *q)
{
	q->request.tag = k->next_tag++;
	TAILQ_INSERT_TAIL(&k->demands, q, entry);
	disk_flush(k);
}

void disk_writable(evutil_socket_t fd, short what, void *arg)
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

void disk_readable(evutil_socket_t sock, short what, void *arg)
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
