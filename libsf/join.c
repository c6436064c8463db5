/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for all of a ticket's clones. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/xenstore-tree.h"

/* Events bring the news; this is against waiting for ever if one should be lost. */
#define RECHECK_MS 5000

/* Return: 0 when the ticket is done, 1 to go on waiting, -1. */
static int look(struct chan *chan, int ticket, const char *state_path)
{
	_cleanup_free_ char *state = lsf_chan_read(chan, state_path);

	if (state && !strcmp(state, SF_TICKET_DONE))
		return 0;
	if (!state && errno != ENOENT)
		return -1;
	if (lsf_must_be_parent(chan))
		return -1;
	if (!state)
		return lsf_fail(ENOENT, "there is no ticket %d", ticket);
	if (!strcmp(state, SF_TICKET_GRANTED))
		return lsf_fail(ECHILD, "ticket %d has no clones yet", ticket);
	return 1;
}

static int wait_done(struct chan *chan, int ticket)
{
	char state_path[64];
	int rc;

	snprintf(state_path, sizeof(state_path), SF_XS_TICKET "/%d/state", ticket);
	/* the id changes for a thread that finds itself in a clone */
	if (lsf_chan_watch(chan, state_path) || lsf_chan_watch(chan, SF_XS_ROOT "/id"))
		return -1;
	while ((rc = look(chan, ticket, state_path)) > 0) {
		if (lsf_chan_wait(chan, RECHECK_MS, false, NULL, NULL) < 0)
			return -1;
	}
	return rc;
}

int sf_join_ticket(int ticket)
{
	struct chan *chan = lsf_chan_get();
	char request[32];
	int rc;

	if (!chan)
		return -1;
	rc = wait_done(chan, ticket);
	if (!rc) {	/* for the record of the operation */
		snprintf(request, sizeof(request), "joined %d", ticket);
		lsf_request_tell(chan, request);
	}
	lsf_chan_put(chan);
	return rc;
}
