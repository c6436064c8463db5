/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a clone is, and what it brought home. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/agent-port.h"
#include "proto/agent-socket.h"
#include "proto/xenstore-tree.h"

static const char *const state_words[] = {
	[SF_STATE_STARTING] = SF_CLONE_STARTING, [SF_STATE_RUNNING] = SF_CLONE_RUNNING,
	[SF_STATE_EXITED] = SF_CLONE_EXITED,	 [SF_STATE_KILLED] = SF_CLONE_KILLED,
	[SF_STATE_LOST] = SF_CLONE_LOST,	 [SF_STATE_FAILED] = SF_CLONE_FAILED,
};
_Static_assert(ARRAY_SIZE(state_words) == SF_STATE_FAILED + 1, "a word for every state");

int lsf_clone_state(struct chan *chan, int ticket, unsigned id)
{
	_cleanup_free_ char *word = NULL;
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/clone/%u/state", ticket, id);
	word = lsf_chan_read(chan, path);
	if (!word)
		return errno == ENOENT ? lsf_fail(ENOENT, "ticket %d has no clone %u", ticket, id)
				       : -1;
	for (unsigned i = 0; i < ARRAY_SIZE(state_words); i++) {
		if (!strcmp(word, state_words[i]))
			return (int)i;
	}
	return lsf_fail(EPROTO, "XenStore: clone %u is \"%s\"", id, word);
}

/* Copies a node of the clone to `text`; a missing one is empty. Return: 0. */
static int clone_text(struct chan *chan, int ticket, unsigned id, const char *name, char *text,
		      size_t size)
{
	_cleanup_free_ char *value = NULL;
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/clone/%u/%s", ticket, id, name);
	value = lsf_chan_read(chan, path);
	if (!value && errno != ENOENT)
		return -1;
	snprintf(text, size, "%s", value ? value : "");
	return 0;
}

static int read_status(struct chan *chan, int ticket, unsigned id, struct sf_status *status)
{
	char number[24];
	int state = lsf_clone_state(chan, ticket, id);

	if (state < 0)
		return -1;
	*status = (struct sf_status){ .state = (enum sf_state)state,
				      .status = -1,
				      .result_bytes = -1 };
	if (clone_text(chan, ticket, id, "host", status->host, sizeof(status->host)))
		return -1;
	if (!SF_STATE_ENDED(state))
		return 0;
	if (state != SF_STATE_EXITED)
		return clone_text(chan, ticket, id, "reason", status->reason,
				  sizeof(status->reason));
	if (clone_text(chan, ticket, id, "status", number, sizeof(number)))
		return -1;
	status->status = (int)strtol(number, NULL, 10);
	if (clone_text(chan, ticket, id, "result", number, sizeof(number)))
		return -1;
	if (number[0])
		status->result_bytes = strtoll(number, NULL, 10);
	return 0;
}

int sf_status_ticket(int ticket, unsigned id, struct sf_status *status)
{
	struct chan *chan;
	int rc;

	if (!status)
		return lsf_fail(EINVAL, "no place for the status");
	chan = lsf_chan_get();
	if (!chan)
		return -1;
	rc = read_status(chan, ticket, id, status);
	lsf_chan_put(chan);
	return rc;
}

int sf_status(unsigned id, struct sf_status *status)
{
	int ticket = lsf_simple_ticket();

	return ticket < 0 ? -1 : sf_status_ticket(ticket, id, status);
}

/* Sets errno and sentence for a result whose file is not there. */
static void no_result(int ticket, unsigned id)
{
	struct sf_status status;

	if (sf_status_ticket(ticket, id, &status))
		return;
	if (!SF_STATE_ENDED(status.state))
		lsf_fail(EAGAIN, "clone %u has not ended", id);
	else
		lsf_fail(ENODATA, "clone %u ended without a result", id);
}

void *sf_result_ticket(int ticket, unsigned id, size_t *len)
{
	char path[sizeof(AGENT_RESULT_DIR) + 32];
	char *data;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), AGENT_RESULT_DIR "/%d.%u", ticket, id);
	rc = io_read_file(path, AGENT_MAX_RESULT, &data, &size);
	if (rc == -ENOENT)
		no_result(ticket, id);
	else if (rc)
		lsf_fail(-rc, "%s: %s", path, strerror(-rc));
	if (rc)
		return NULL;
	if (len)
		*len = size;
	return data;
}

void *sf_result(unsigned id, size_t *len)
{
	int ticket = lsf_simple_ticket();

	return ticket < 0 ? NULL : sf_result_ticket(ticket, id, len);
}
