/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tickets: asking for room, giving it back, ending what came of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/agent-socket.h"
#include "proto/xenstore-tree.h"

#define FORGET_TIMEOUT_MS 1000

/* Takes what the caller knows of the hints; the rest stays 0. Return: 0. */
static int take_hints(struct sf_hints *mine, const struct sf_hints *hints)
{
	const unsigned char *bytes = (const unsigned char *)hints;

	*mine = (struct sf_hints)SF_HINTS_INIT;
	if (!hints)
		return 0;
	if (hints->size < sizeof(hints->size))
		return lsf_fail(EINVAL, "the hints do not begin with their size (SF_HINTS_INIT)");
	for (size_t i = sizeof(*mine); i < hints->size; i++) {
		if (bytes[i])
			return lsf_fail(E2BIG, "a hint is set that this libsf does not know");
	}
	memcpy(mine, hints, hints->size < sizeof(*mine) ? hints->size : sizeof(*mine));
	return 0;
}

static void add_word(char *request, size_t size, const char *name, unsigned value)
{
	size_t used = strlen(request);

	if (value)
		snprintf(request + used, size - used, " %s=%u", name, value);
}

int sf_request_ticket(unsigned n, const struct sf_hints *hints)
{
	_cleanup_free_ char *reply = NULL;
	struct lsf_request r;
	struct sf_hints wish;
	char words[SF_XS_REQUEST_MAX / 2] = "";
	int answer[2]; /* ticket, granted */

	if (take_hints(&wish, hints))
		return -1;
	if (!n || n > SF_MAX_CLONES)
		return lsf_fail(EINVAL, "%u clones asked for: it must be 1 to %u", n,
				SF_MAX_CLONES);
	if (wish.min > n)
		return lsf_fail(EINVAL, "at least %u of %u clones asked for", wish.min, n);
	add_word(words, sizeof(words), "vcpus", wish.vcpus);
	add_word(words, sizeof(words), "per-host", wish.per_host);
	add_word(words, sizeof(words), "min", wish.min);
	reply = lsf_request_begin(&r, REQUEST_TIMEOUT_MS, "ticket %u%s", n, words);
	lsf_request_end(&r);
	if (!reply || lsf_reply_numbers(reply, answer, 2))
		return -1;
	return answer[0];
}

/* Reads a number of a ticket; a missing one means that there is no such ticket. */
static int ticket_number(int ticket, const char *name)
{
	int number = lsf_read_number(SF_XS_TICKET "/%d/%s", ticket, name);

	if (number < 0 && errno == ENOENT)
		return lsf_fail(ENOENT, "there is no ticket %d", ticket);
	return number;
}

int sf_ticket_granted(int ticket)
{
	return ticket_number(ticket, "granted");
}

int sf_last_ticket(void)
{
	int ticket = lsf_read_number(SF_XS_ROOT "/last-ticket");

	if (ticket < 0 && errno == ENOENT)
		return lsf_fail(ECHILD, "this VM has made no clones");
	return ticket;
}

int sf_ticket_free(int ticket)
{
	if (lsf_request_simple("release %d", ticket))
		return -1;
	/* its results take memory of this VM; without the agent there are none */
	lsf_agent_ask(AGENT_SOCK_FORGET, (uint64_t)ticket, -1, FORGET_TIMEOUT_MS);
	return 0;
}

int sf_kill_ticket(int ticket)
{
	return lsf_request_simple("kill %d", ticket);
}
