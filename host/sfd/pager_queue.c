/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said to sf-memtap, in order: sent, answered, and kept for the next one. */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "host/sfd/pager_internal.h"

static void saying_drop_fds(struct saying *s, unsigned count)
{
	while (count--)
		close(s->fds[--s->nfds]);
}

void saying_free(struct saying *s)
{
	saying_drop_fds(s, s->nfds);
	free(s->fds);
	free(s);
}

void pager_flush(struct pager *p)
{
	struct saying *s;

	if (!p->pid)
		return;
	TAILQ_FOREACH(s, &p->pending, entry) {
		int rc;

		if (s->sent)
			continue;
		rc = io_send_fds(p->sock, &s->request, sizeof(s->request), s->fds, s->nfds);
		if (rc == -EAGAIN) {
			event_add(p->writable, NULL);
			return;
		}
		if (rc) {
			/* mostly it died already; what is not sent is said to the next one */
			log_debug("memtap %s: not told: %s", p->name, strerror(-rc));
			kill(p->pid, SIGKILL);
			return;
		}
		s->sent = true;
	}
}

int pager_say(struct pager *p, const struct memtap_request *request, const int *fds,
	      unsigned nfds, unsigned once, bool keep, pager_done *done, void *arg)
{
	struct saying *s = p->given_up ? NULL : calloc(1, sizeof(*s));

	if (!s)
		return p->given_up ? -EPIPE : -ENOMEM;
	s->fds = calloc(nfds ? nfds : 1, sizeof(*s->fds));
	if (!s->fds) {
		saying_free(s);
		return -ENOMEM;
	}
	s->request = *request;
	s->once = once;
	s->keep = keep;
	s->done = done;
	s->arg = arg;
	for (; s->nfds < nfds; s->nfds++) {
		s->fds[s->nfds] = fcntl(fds[s->nfds], F_DUPFD_CLOEXEC, 3);
		if (s->fds[s->nfds] < 0) {
			int rc = -errno;

			saying_free(s);
			return rc;
		}
	}
	TAILQ_INSERT_TAIL(&p->pending, s, entry);
	pager_flush(p);
	return 0;
}

/* ---- answers ---- */

/* What must not be said to a next process any more. */
static void unkeep(struct pager *p, bool (*match)(const struct saying *s, uint32_t number),
		   uint32_t number)
{
	struct saying *s, *next;

	for (s = TAILQ_FIRST(&p->kept); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (!match(s, number))
			continue;
		TAILQ_REMOVE(&p->kept, s, entry);
		saying_free(s);
	}
	TAILQ_FOREACH(s, &p->pending, entry) {
		if (match(s, number))
			s->keep = false;
	}
}

static bool about_file(const struct saying *s, uint32_t file)
{
	switch (s->request.op) {
	case MEMTAP_FILE:
	case MEMTAP_ARM:
	case MEMTAP_LAYERS:
	case MEMTAP_BEGIN:
	case MEMTAP_BEGIN_LOCAL:
		return s->request.file == file;
	default:
		return false;
	}
}

static bool about_clone(const struct saying *s, uint32_t vm)
{
	return s->request.op == MEMTAP_CLONE && s->request.vm == vm;
}

void pager_unkeep_clone(struct pager *p, uint32_t vm)
{
	unkeep(p, about_clone, vm);
}

/* Its pages have been handed down: only now nothing of it may be needed again. */
static void file_free(struct pager *p, unsigned file)
{
	unkeep(p, about_file, file);
	close(p->page_fds[file]);
	p->page_fds[file] = -1;
}

/* An older snapshot is still being given its pages: ask again in a while. */
static void gone_later(struct pager *p, struct saying *s)
{
	static const struct timeval again = { 0, 50000 };

	TAILQ_INSERT_TAIL(&p->going, s, entry);
	if (!evtimer_pending(p->ask_again, NULL))
		evtimer_add(p->ask_again, &again);
}

void pager_ask_again(evutil_socket_t fd, short what, void *arg)
{
	struct pager *p = arg;
	struct saying *s;

	(void)fd;
	(void)what;
	while ((s = TAILQ_FIRST(&p->going))) {
		TAILQ_REMOVE(&p->going, s, entry);
		s->sent = false;
		TAILQ_INSERT_TAIL(&p->pending, s, entry);
	}
	pager_flush(p);
}

void pager_answered(struct pager *p, const struct memtap_reply *reply)
{
	struct saying *s = TAILQ_FIRST(&p->pending);

	if (!s || !s->sent || s->request.op != reply->op) {
		log_err("memtap %s: an answer out of turn (op %u)", p->name, reply->op);
		kill(p->pid, SIGKILL);
		return;
	}
	TAILQ_REMOVE(&p->pending, s, entry);
	if (reply->error && !s->done)
		log_warn("memtap %s: request %u failed: %s", p->name, reply->op,
			 strerror(reply->error));
	if (s->request.op == MEMTAP_FILE_GONE && reply->error == EINPROGRESS) {
		gone_later(p, s);
		return;
	}
	if (s->request.op == MEMTAP_FILE_GONE)
		file_free(p, s->request.file);
	saying_drop_fds(s, s->once); /* dead pages: they are in the file's map now */
	s->once = 0;
	if (s->keep && !reply->error)
		TAILQ_INSERT_TAIL(&p->kept, s, entry);
	if (s->done)
		s->done(s->arg, -reply->error, reply);
	if (!s->keep || reply->error)
		saying_free(s);
	else
		s->done = NULL;
}

void pager_repeat_all(struct pager *p)
{
	struct saying *s, *next, *last_again = NULL;
	struct saying *marker = calloc(1, sizeof(*marker));

	if (!marker)
		abort(); /* a parent that waits for ever is worse than one that ends */
	for (s = TAILQ_FIRST(&p->pending); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		s->sent = false;
		if (s->request.flags & MEMTAP_F_AGAIN)
			last_again = s;
		if (!s->marker)
			continue;
		TAILQ_REMOVE(&p->pending, s, entry);
		saying_free(s);
	}
	marker->marker = true;
	marker->request.op = MEMTAP_STATS;
	marker->request.vm = MEMTAP_ALL;
	if (last_again)
		TAILQ_INSERT_AFTER(&p->pending, last_again, marker, entry);
	else
		TAILQ_INSERT_HEAD(&p->pending, marker, entry);
	while ((s = TAILQ_LAST(&p->kept, sayings))) {
		TAILQ_REMOVE(&p->kept, s, entry);
		s->request.flags |= MEMTAP_F_AGAIN;
		s->sent = false;
		TAILQ_INSERT_HEAD(&p->pending, s, entry);
	}
}

void pager_give_up(struct pager *p)
{
	struct saying *s;

	p->given_up = true;
	while ((s = TAILQ_FIRST(&p->pending))) {
		TAILQ_REMOVE(&p->pending, s, entry);
		if (s->done)
			s->done(s->arg, -EPIPE, NULL);
		saying_free(s);
	}
	p->failed(p->arg);
}

void pager_forget(struct pager *p, void *arg)
{
	struct saying *s;

	TAILQ_FOREACH(s, &p->pending, entry) {
		if (s->arg == arg)
			s->done = NULL;
	}
}
