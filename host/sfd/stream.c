/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams into a guest: commands and files of a control connection, results of clones.
 *
 * Commands and files are passed through, credits too: the windows are between sfctl and the agent
 * (proto/agent-port.h). Results are sent from here and keep to the agent's window.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/control.h"
#include "host/sfd/guest.h"

#define MAX_RESULTS 16 /* sent to the guest at a time */

enum stream_kind { STREAM_COMMAND, STREAM_FILE, STREAM_RESULT };

struct stream {
	struct guest *guest;
	uint32_t number;
	enum stream_kind kind;
	struct control *control; /* NULL: nobody listens any more */
	/* a result: */
	unsigned ticket, id;
	const uint8_t *bytes; /* the ticket's, until it is stored */
	size_t len, sent, window;
	bool begun; /* false: waits for others */
	/* a command: bytes of each channel that have no credit yet */
	size_t taken[AGENT_STDERR + 1];
	LIST_ENTRY(stream) entry;
};

struct stream *stream_find(struct guest *g, uint32_t number)
{
	struct stream *s;

	LIST_FOREACH(s, &g->streams, entry) {
		if (s->number == number)
			return s;
	}
	return NULL;
}

struct control *stream_control(struct stream *s)
{
	return s->control;
}

static struct stream *stream_new(struct guest *g, enum stream_kind kind)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->guest = g;
	s->number = g->next_stream++;
	if (g->next_stream == AGENT_STREAM_OF_AGENT)
		g->next_stream = 1;
	s->kind = kind;
	LIST_INSERT_HEAD(&g->streams, s, entry);
	return s;
}

static void stream_free(struct stream *s)
{
	LIST_REMOVE(s, entry);
	free(s);
}

uint32_t stream_begin(struct guest *g, struct control *control, bool command)
{
	unsigned open = 0;
	struct stream *s;

	LIST_FOREACH(s, &g->streams, entry)
		open += s->kind != STREAM_RESULT;
	s = open < AGENT_MAX_STREAMS - MAX_RESULTS
		    ? stream_new(g, command ? STREAM_COMMAND : STREAM_FILE)
		    : NULL;
	if (!s)
		return 0;
	s->control = control;
	return s->number;
}

/* ---- results ---- */

static void result_push(struct stream *s)
{
	struct guest *g = s->guest;

	while (s->sent < s->len && s->window) {
		size_t n = s->len - s->sent;

		n = n < AGENT_MAX_DATA ? n : AGENT_MAX_DATA;
		n = n < s->window ? n : s->window;
		agent_port_send(g->vm.agent, AGENT_DATA, AGENT_STDIN, s->number, s->bytes + s->sent,
				n, NULL, 0);
		s->sent += n;
		s->window -= n;
	}
}

static void result_begin(struct stream *s)
{
	struct agent_result head = { .ticket = s->ticket, .id = s->id, .length = s->len };

	s->begun = true;
	agent_port_send(s->guest->vm.agent, AGENT_RESULT, 0, s->number, &head, sizeof(head), NULL,
			0);
	result_push(s);
}

static void result_stored(struct stream *s, int error)
{
	struct ticket *t = guest_ticket(s->guest, s->ticket);
	unsigned id = s->id;

	if (error)
		log_warn("vm %s: the result of clone %u could not be stored: %s", s->guest->vm.name,
			 id, strerror(error));
	if (t && error) /* no result then, and the parent is told how it ended */
		child_drop_result(s->guest->vm.daemon, &t->children[id - 1]);
	stream_free(s);
	if (t)
		ticket_child_stored(t, id);
}

/* Begins with results that had to wait. */
static void next_results(struct guest *g)
{
	unsigned sending = 0;
	struct stream *s;

	LIST_FOREACH(s, &g->streams, entry)
		sending += s->kind == STREAM_RESULT && s->begun;
	LIST_FOREACH(s, &g->streams, entry) {
		if (sending < MAX_RESULTS && s->kind == STREAM_RESULT && !s->begun) {
			result_begin(s);
			sending++;
		}
	}
}

void stream_result(struct guest *g, unsigned ticket, unsigned id, const uint8_t *bytes, size_t len)
{
	struct stream *s = stream_new(g, STREAM_RESULT);

	if (!s) {
		ticket_child_stored(guest_ticket(g, ticket), id);
		return;
	}
	s->ticket = ticket;
	s->id = id;
	s->bytes = bytes;
	s->len = len;
	s->window = AGENT_WINDOW;
	next_results(g);
}

/* ---- frames of the agent ---- */

/* More than it may have under way is no mistake of sfctl's, which would have to keep it. */
static bool within_window(struct stream *s, const struct agent_frame *f)
{
	s->taken[f->channel] += f->length;
	if (s->taken[f->channel] <= AGENT_WINDOW)
		return true;
	vm_fail(&s->guest->vm, "the agent's port: more bytes of a stream than there was room for");
	return false;
}

void stream_credit(struct stream *s, unsigned channel, uint32_t bytes)
{
	struct agent_credit credit = { .bytes = bytes };

	if (channel > AGENT_STDERR || bytes > s->taken[channel])
		return;
	s->taken[channel] -= bytes;
	agent_port_send(s->guest->vm.agent, AGENT_CREDIT, channel, s->number, &credit,
			sizeof(credit), NULL, 0);
}

void stream_frame(struct guest *g, const struct agent_frame *f, const void *payload)
{
	struct stream *s = stream_find(g, f->stream);
	const struct agent_status *status = payload;
	const struct agent_credit *credit = payload;

	if (!s)
		return; /* its control connection went away */
	switch (f->type) {
	case AGENT_DATA:
		if (s->kind == STREAM_COMMAND && within_window(s, f) && s->control)
			control_data(s->control, s->number, f->channel, 0, payload, f->length);
		break;
	case AGENT_CREDIT:
		if (s->kind == STREAM_RESULT) {
			if (credit->bytes <= s->sent && s->window + credit->bytes <= AGENT_WINDOW)
				s->window += credit->bytes;
			result_push(s);
		} else if (s->control && credit->bytes <= AGENT_WINDOW) {
			control_credit(s->control, s->number, f->channel, credit->bytes);
		}
		break;
	case AGENT_STORED:
		if (s->kind == STREAM_RESULT) {
			result_stored(s, status->value);
			next_results(g);
			return;
		}
		if (s->control)
			control_stored(s->control, s->number, status->value);
		stream_free(s);
		break;
	case AGENT_EXITED:
		if (s->control)
			control_exited(s->control, s->number, status->value);
		stream_free(s);
		break;
	default:
		break;
	}
}

void stream_agent_lost(struct guest *g)
{
	struct stream *s, *next;

	for (s = LIST_FIRST(&g->streams); s; s = next) {
		next = LIST_NEXT(s, entry);
		if (s->kind == STREAM_RESULT) { /* from its beginning, to the new agent */
			s->begun = false;
			s->sent = 0;
			s->window = AGENT_WINDOW;
			continue;
		}
		if (s->control && s->kind == STREAM_COMMAND)
			control_exited(s->control, s->number, SIGKILL);
		else if (s->control)
			control_stored(s->control, s->number, EPIPE);
		stream_free(s);
	}
	next_results(g);
}

void stream_clear(struct guest *g)
{
	struct stream *s;

	while ((s = LIST_FIRST(&g->streams)))
		stream_free(s);
}

void stream_control_lost(struct guest *g, struct control *control)
{
	struct stream *s;

	LIST_FOREACH(s, &g->streams, entry) {
		if (s->control == control)
			s->control = NULL;
	}
}

json_t *stream_list(struct guest *g)
{
	json_t *list = json_array();
	struct stream *s;

	LIST_FOREACH(s, &g->streams, entry) {
		if (s->kind == STREAM_COMMAND)
			json_array_append_new(list, json_integer(s->number));
	}
	return list;
}
