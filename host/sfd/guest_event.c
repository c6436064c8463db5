/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the hosts of a guest's clones tell its home: checked, and noted in the ticket. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/control.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"

/* The ticket and ID a message is about, if its clones run and the host it came from has that one.
 */
static struct ticket *message_child(struct daemon *d, struct host *from, json_t *msg, unsigned *id)
{
	unsigned number, ticket;
	struct guest *g;
	struct ticket *t;

	if (!field_unsigned(msg, "number", 0, INT32_MAX, &number) ||
	    !field_unsigned(msg, "ticket", 1, INT32_MAX, &ticket) ||
	    !field_unsigned(msg, "id", 1, SF_MAX_CLONES, id))
		return NULL;
	g = guest_number(d, number);
	t = g ? guest_ticket(g, ticket) : NULL;
	if (!t || t->state != TICKET_RUNNING || *id > t->count || t->children[*id - 1].host != from)
		return NULL;
	return t->children[*id - 1].ended ? NULL : t;
}

void guest_clone_running(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
			 size_t len)
{
	unsigned id;
	struct ticket *t = message_child(d, from, msg, &id);

	(void)bytes;
	(void)len;
	if (t)
		ticket_running(t, id);
}

/* The first piece of a result: room for all of it. Return: false if there is none. */
static bool begin_result(struct ticket *t, unsigned id, size_t length)
{
	struct child *c = &t->children[id - 1];
	struct daemon *d = t->guest->vm.daemon;

	child_drop_result(d, c);
	if (daemon_take_memory(d, length)) {
		log_err("vm %s: the result of clone %u is dropped: it has %zu MB, this host has no "
			"room for it",
			t->guest->vm.name, id, length >> 20);
		return false;
	}
	c->result_room = length;
	c->result = malloc(length);
	return c->result;
}

void guest_clone_result(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
			size_t len)
{
	uint64_t offset, length;
	unsigned id;
	struct ticket *t = message_child(d, from, msg, &id);
	struct child *c;

	if (!t || !field_u64(msg, "length", 1, AGENT_MAX_RESULT, &length) ||
	    !field_u64(msg, "offset", 0, length, &offset))
		return;
	c = &t->children[id - 1];
	if (!offset && !begin_result(t, id, (size_t)length))
		return;
	if (!c->result || offset != c->result_bytes || len > c->result_room - c->result_bytes)
		return;
	memcpy(c->result + c->result_bytes, bytes, len);
	c->result_bytes += len;
}

void guest_clone_ended(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
		       size_t len)
{
	static const char *const ends[] = { SF_CLONE_EXITED, SF_CLONE_KILLED, SF_CLONE_FAILED };
	const char *state = field_text(msg, "state", ""), *end = SF_CLONE_LOST;
	unsigned id;
	struct ticket *t = message_child(d, from, msg, &id);
	struct child *c;

	(void)bytes;
	(void)len;
	if (!t)
		return;
	c = &t->children[id - 1];
	c->status = (int)(field_or(msg, "status", 0) & 0xff);
	snprintf(c->reason, sizeof(c->reason), "%s", field_text(msg, "reason", ""));
	c->faults = field_or(msg, "faults", 0);
	c->pages_fetched = field_or(msg, "pages_fetched", 0);
	c->bytes_fetched = field_or(msg, "bytes_fetched", 0);
	t->exit_ms = (double)field_or(msg, "exit_us", 0) / 1000;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (!strcmp(state, ends[i]))
			end = ends[i];
	}
	ticket_child_ended(t, id, end);
}

void guest_output(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len)
{
	unsigned id, channel = 0, stream = 0;
	struct ticket *t = message_child(d, peer_from(r), msg, &id);
	struct stream *s = t && field_unsigned(msg, "stream", 1, AGENT_STREAM_OF_AGENT - 1, &stream)
				   ? stream_find(t->guest, stream)
				   : NULL;

	if (!s || !stream_control(s) || len > AGENT_MAX_DATA ||
	    !field_unsigned(msg, "channel", AGENT_STDOUT, AGENT_STDERR, &channel)) {
		peer_reply(r, NULL);
		return;
	}
	control_data(stream_control(s), stream, channel, id, bytes, len);
	control_reply_when_read(stream_control(s), r);
}

void guest_host_lost(struct daemon *d, struct host *host)
{
	struct ticket *t;
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		LIST_FOREACH(t, &g->tickets, entry)
			ticket_host_lost(t, host);
	}
}
