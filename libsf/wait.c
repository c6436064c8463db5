/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sf_wait_any(): telling of clones one by one, as they end.
 *
 * A tracker stands for a ticket between the calls. It keeps a connection with a watch on the
 * ticket, so that no change is missed, and reads only the states that changed: the cost of
 * following n clones is of the order of n, not n².
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/xenstore-tree.h"

#define RECHECK_MS 5000 /* against waiting for ever if an event should be lost */

enum clone_mark {
	MARK_LIVE,  /* not known to have ended */
	MARK_LOOK,  /* its state changed: to be read */
	MARK_ENDED, /* ended, not told */
	MARK_TOLD,
};

struct tracker {
	int ticket;
	bool busy;	     /* a thread is in sf_wait_any() with it */
	unsigned generation; /* of the process it belongs to */
	struct chan *chan;
	bool look_all;	  /* anything may have changed */
	bool look_ticket; /* its state may have changed */
	bool done;	  /* every clone has ended */
	uint8_t mark[SF_MAX_CLONES + 1];
	struct tracker *next;
};

static pthread_mutex_t tracker_lock = PTHREAD_MUTEX_INITIALIZER; /* the list, and busy in each */
static struct tracker *trackers;

/* Notes what a change of `path` means; a chan_event. */
static void note_change(void *arg, const char *path)
{
	struct tracker *t = arg;
	const char *clone = path ? strstr(path, "/clone/") : NULL;
	const char *name = path ? strrchr(path, '/') : NULL;
	unsigned id;

	if (clone && name && sscanf(clone, "/clone/%u/", &id) == 1 && id <= SF_MAX_CLONES) {
		if (!strcmp(name, "/state") && t->mark[id] == MARK_LIVE)
			t->mark[id] = MARK_LOOK;
	} else if (name && !clone && !strcmp(name, "/state")) {
		t->look_ticket = true;
	} else if (!name || strcmp(name, "/running")) {
		t->look_all = true;
	}
}

static int tracker_start(struct tracker *t)
{
	char path[48];

	if (lsf_must_be_parent(t->chan))
		return -1;
	snprintf(path, sizeof(path), SF_XS_TICKET "/%d", t->ticket);
	/* the id changes for a thread that finds itself in a clone */
	if (lsf_chan_watch(t->chan, path) || lsf_chan_watch(t->chan, SF_XS_ROOT "/id"))
		return -1;
	t->look_all = true;
	return 0;
}

/* Takes a tracker that is not in use out of the list, and ends it. */
static void tracker_end(struct tracker *t)
{
	pthread_mutex_lock(&tracker_lock);
	for (struct tracker **at = &trackers; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		break;
	}
	pthread_mutex_unlock(&tracker_lock);
	if (t->chan)
		lsf_chan_put(t->chan);
	free(t);
}

/*
 * Finds or adds the ticket's tracker and takes it for this thread. Return: NULL with errno EBUSY,
 * ENOMEM.
 */
static struct tracker *tracker_take(int ticket)
{
	unsigned generation = lsf_fork_generation();
	struct tracker *t;

	pthread_mutex_lock(&tracker_lock);
	for (t = trackers; t && (t->ticket != ticket || t->generation != generation); t = t->next)
		;
	if (t && t->busy) {
		t = NULL;
		lsf_fail(EBUSY, "another thread is waiting for ticket %d", ticket);
	} else if (t || (t = calloc(1, sizeof(*t)))) {
		t->busy = true;
	} else {
		lsf_fail(ENOMEM, "no memory to follow ticket %d", ticket);
	}
	if (t && !t->ticket) {
		t->ticket = ticket;
		t->generation = generation;
		t->next = trackers;
		trackers = t;
	}
	pthread_mutex_unlock(&tracker_lock);
	return t;
}

static void tracker_give_back(struct tracker *t)
{
	pthread_mutex_lock(&tracker_lock);
	t->busy = false;
	pthread_mutex_unlock(&tracker_lock);
}

/* Reads one clone's state. Return: 0. */
static int look_at_clone(struct tracker *t, unsigned id)
{
	int state = lsf_clone_state(t->chan, t->ticket, id);

	if (state < 0 && errno != ENOENT)
		return -1;
	t->mark[id] = state >= 0 && SF_STATE_ENDED(state) ? MARK_ENDED : MARK_LIVE;
	return 0;
}

static int look_at_ticket(struct tracker *t)
{
	_cleanup_free_ char *state = NULL;
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/state", t->ticket);
	state = lsf_chan_read(t->chan, path);
	if (!state && errno == ENOENT)
		return lsf_fail(ENOENT, "there is no ticket %d", t->ticket);
	if (!state)
		return -1;
	if (!strcmp(state, SF_TICKET_GRANTED))
		return lsf_fail(ECHILD, "ticket %d has no clones yet", t->ticket);
	if (!strcmp(state, SF_TICKET_DONE) && !t->done)
		t->done = t->look_all = true;
	t->look_ticket = false;
	return 0;
}

/* Marks every clone that has not ended yet as one to look at. Return: 0. */
static int look_at_all(struct tracker *t)
{
	_cleanup_free_ char **names = NULL;
	unsigned count = 0;
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/clone", t->ticket);
	names = lsf_chan_list(t->chan, path, &count);
	if (!names && errno != ENOENT)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		unsigned long id = strtoul(names[i], NULL, 10);

		if (id <= SF_MAX_CLONES && t->mark[id] == MARK_LIVE)
			t->mark[id] = MARK_LOOK;
	}
	t->look_all = false;
	return 0;
}

/* Brings the marks up to date. Return: 0. */
static int look(struct tracker *t)
{
	if (t->look_all && lsf_must_be_parent(t->chan))
		return -1;
	/* the ticket before the clones: what is done now has no state left to come */
	if ((t->look_all || t->look_ticket) && look_at_ticket(t))
		return -1;
	if (t->look_all && look_at_all(t))
		return -1;
	for (unsigned id = 0; id <= SF_MAX_CLONES; id++) {
		if (t->mark[id] == MARK_LOOK && look_at_clone(t, id))
			return -1;
	}
	return 0;
}

/* Return: the lowest id that ended and was not told, now told; 0: none. */
static int tell_one(struct tracker *t)
{
	for (int id = 1; id <= SF_MAX_CLONES; id++) {
		if (t->mark[id] == MARK_ENDED) {
			t->mark[id] = MARK_TOLD;
			return id;
		}
	}
	return 0;
}

/* Waits for a change, at most until end_ns. Return: 0. */
static int await_change(struct tracker *t, bool limited, uint64_t end_ns)
{
	uint64_t now_ns = io_now_ns();
	int wait_ms = RECHECK_MS, rc;

	if (limited && now_ns >= end_ns)
		wait_ms = 0;
	else if (limited && end_ns - now_ns < RECHECK_MS * 1000000ull)
		wait_ms = (int)((end_ns - now_ns + 999999) / 1000000);
	rc = lsf_chan_wait(t->chan, wait_ms, true, note_change, t);
	if (rc < 0)
		return -1;
	if (!rc && limited && io_now_ns() >= end_ns)
		return lsf_fail(ETIMEDOUT, "no clone of ticket %d ended in time", t->ticket);
	if (!rc)
		t->look_all = true;
	return 0;
}

static int wait_any(struct tracker *t, int timeout_ms)
{
	uint64_t end_ns = io_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;

	for (;;) {
		int id;

		if (look(t))
			return -1;
		id = tell_one(t);
		if (id || t->done)
			return id;
		if (await_change(t, timeout_ms >= 0, end_ns))
			return -1;
	}
}

int sf_wait_any(int ticket, int timeout_ms)
{
	struct tracker *t;
	int rc, number;

	if (ticket < 1)
		return lsf_fail(ENOENT, "there is no ticket %d", ticket);
	t = tracker_take(ticket);
	if (!t)
		return -1;
	if (!t->chan && (!(t->chan = lsf_chan_get()) || tracker_start(t)))
		rc = -1;
	else
		rc = wait_any(t, timeout_ms);
	number = errno;
	if (rc > 0 || (rc < 0 && (number == EINTR || number == ETIMEDOUT)))
		tracker_give_back(t);
	else
		tracker_end(t);
	errno = number;
	return rc;
}
