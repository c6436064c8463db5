/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a running clone sends: output of its commands, its result, its sf_exit(). */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clone.h"
#include "host/sfd/request.h"
#include "proto/peer.h"

#define EXIT_LIMIT_S 2 /* for its agent to send the last output */

/* An output on its way home; the agent gets its credit when it arrived, if the clone is still here.
 */
struct output {
	struct daemon *daemon;
	struct host *home;
	unsigned number, ticket, id;
	uint32_t stream;
	unsigned channel;
	uint32_t bytes;
};

/* ---- the end ---- */

static void exit_quiet(evutil_socket_t fd, short what, void *arg)
{
	struct clone *c = arg;

	(void)fd;
	if (what & EV_TIMEOUT)
		log_warn("vm %s: its agent did not send the last output in time", c->vm.name);
	clone_leave(c, SF_CLONE_EXITED, c->status, NULL);
}

static void exit_begin(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval limit = { EXIT_LIMIT_S, 0 };
	struct clone *c = arg;
	struct agent_quiesce q = { .xs_sent = xs_sent(c->vm.xs) };

	(void)fd;
	(void)what;
	event_free(c->exiting);
	c->exiting = evtimer_new(c->vm.daemon->base, exit_quiet, c);
	if (!c->exiting) {
		clone_leave(c, SF_CLONE_EXITED, c->status, NULL);
		return;
	}
	event_add(c->exiting, &limit);
	xs_hold(c->vm.xs, true);
	agent_port_send_now(c->vm.agent, AGENT_QUIESCE, &q, sizeof(q));
}

/*
 * sf_exit(): what its commands printed just before is still on its way through the agent, on
 * another port. The agent is made quiet first: that sends it all.
 */
static void clone_exit(struct clone *c, int status)
{
	if (c->exiting || c->state >= CLONE_LEAVING)
		return;
	c->status = status;
	c->end_ns = io_now_ns();
	/* from the loop: only then the answer to this very write has been counted as sent */
	c->exiting = evtimer_new(c->vm.daemon->base, exit_begin, c);
	if (c->exiting)
		event_active(c->exiting, EV_TIMEOUT, 0);
	else
		clone_leave(c, SF_CLONE_EXITED, status, NULL);
}

void clone_request(struct vm *vm, const char *key, const struct request *r)
{
	struct clone *c = (struct clone *)vm;
	unsigned status;

	if (strcmp(r->words[0], "exit"))
		vm_answer_error(vm, key, ENOTSUP,
				"a clone cannot clone: ask in the VM that was booted");
	else if (r->count != 2 || request_number(r->words[1], 0, 255, &status))
		vm_answer_error(vm, key, EINVAL, "an exit status is between 0 and 255");
	else
		clone_exit(c, (int)status);
}

/* A command it inherited ended here: with the last one the clone ends as the command did. */
static void command_exited(struct clone *c, const struct agent_frame *f,
			   const struct agent_status *end)
{
	unsigned before = c->stream_count;
	char reason[64];

	for (unsigned i = 0; i < c->stream_count; i++) {
		if (c->streams[i] == f->stream)
			c->streams[i--] = c->streams[--c->stream_count];
	}
	if (c->stream_count || c->stream_count == before || c->exiting)
		return;
	if (WIFEXITED(end->value)) {
		clone_leave(c, SF_CLONE_EXITED, WEXITSTATUS(end->value), NULL);
		return;
	}
	snprintf(reason, sizeof(reason), "its command was ended by signal %d",
		 WTERMSIG(end->value));
	clone_leave(c, SF_CLONE_LOST, 0, reason);
}

/* ---- output ---- */

static void output_arrived(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			   size_t len)
{
	struct output *o = arg;
	struct agent_credit credit = { .bytes = o->bytes };
	struct family *f = family_find(o->daemon, o->home, o->number);
	struct lot *lot = f ? lot_find(f, o->ticket) : NULL;
	struct clone *c = lot ? lot_clone(lot, o->id) : NULL;

	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
	if (c && c->output_bytes >= o->bytes) {
		c->output_bytes -= o->bytes;
		agent_port_send(c->vm.agent, AGENT_CREDIT, o->channel, o->stream, &credit,
				sizeof(credit), NULL, 0);
	}
	free(o);
}

static bool has_stream(const struct clone *c, uint32_t stream)
{
	for (unsigned i = 0; i < c->stream_count; i++) {
		if (c->streams[i] == stream)
			return true;
	}
	return false;
}

static void clone_output(struct clone *c, const struct agent_frame *f, const void *payload)
{
	struct family *family = c->lot->family;
	struct output *o;

	if (!f->length || !has_stream(c, f->stream))
		return;
	if (c->output_bytes + f->length > (uint64_t)c->stream_count * 2 * AGENT_WINDOW) {
		clone_leave(c, SF_CLONE_LOST, 0, "its agent sent more output than it had room for");
		return;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return;
	*o = (struct output){ .daemon = family->daemon,
			      .home = family->home,
			      .number = family->number,
			      .ticket = c->lot->ticket,
			      .id = c->id,
			      .stream = f->stream,
			      .channel = f->channel,
			      .bytes = f->length };
	c->output_bytes += f->length;
	peer_call(family->home,
		  json_pack("{ss si si si sI si}", "op", "output", "number", (int)family->number,
			    "ticket", (int)c->lot->ticket, "id", (int)c->id, "stream",
			    (json_int_t)f->stream, "channel", (int)f->channel),
		  payload, f->length, output_arrived, o);
}

/* ---- result ---- */

static void result_drop(struct clone *c)
{
	if (c->result)
		evbuffer_free(c->result);
	c->result = NULL;
	c->result_whole = false;
	daemon_give_memory(c->vm.daemon, c->result_charge);
	c->result_charge = 0;
}

static void result_answer(struct clone *c, uint32_t stream, int error)
{
	struct agent_status status = { .value = error };

	agent_port_send(c->vm.agent, AGENT_STORED, 0, stream, &status, sizeof(status), NULL, 0);
}

static void result_begin(struct clone *c, const struct agent_frame *f,
			 const struct agent_result *head)
{
	result_drop(c);
	if (head->length > AGENT_MAX_RESULT) {
		result_answer(c, f->stream, EFBIG);
		return;
	}
	if (daemon_take_memory(c->vm.daemon, head->length)) {
		log_warn("vm %s: no memory for a result of %llu bytes", c->vm.name,
			 (unsigned long long)head->length);
		result_answer(c, f->stream, ENOSPC);
		return;
	}
	c->result_charge = head->length;
	c->result = evbuffer_new();
	c->result_stream = f->stream;
	c->result_length = head->length;
	c->result_whole = !head->length;
	if (c->result_whole)
		result_answer(c, f->stream, 0);
}

static void result_data(struct clone *c, const struct agent_frame *f, const void *payload)
{
	struct agent_credit credit = { .bytes = f->length };

	if (!c->result || c->result_whole || f->stream != c->result_stream)
		return;
	if (!f->length || f->length > c->result_length - evbuffer_get_length(c->result)) {
		result_drop(c); /* given up, or more than was said: there is none */
		return;
	}
	if (evbuffer_add(c->result, payload, f->length)) {
		result_drop(c);
		result_answer(c, f->stream, ENOMEM);
		return;
	}
	agent_port_send(c->vm.agent, AGENT_CREDIT, AGENT_STDIN, f->stream, &credit, sizeof(credit),
			NULL, 0);
	c->result_whole = evbuffer_get_length(c->result) == c->result_length;
	if (c->result_whole)
		result_answer(c, f->stream, 0);
}

void clone_send_result(struct clone *c)
{
	size_t length = c->result && c->result_whole ? evbuffer_get_length(c->result) : 0,
	       offset = 0;
	struct family *f = c->lot->family;

	while (offset < length) {
		size_t chunk =
			length - offset < PEER_RESULT_CHUNK ? length - offset : PEER_RESULT_CHUNK;
		json_t *msg =
			json_pack("{ss si si si sI sI}", "ev", "result", "number", (int)f->number,
				  "ticket", (int)c->lot->ticket, "id", (int)c->id, "offset",
				  (json_int_t)offset, "length", (json_int_t)length);

		peer_send(f->home, msg, evbuffer_pullup(c->result, (ev_ssize_t)chunk), chunk);
		evbuffer_drain(c->result, chunk);
		offset += chunk;
	}
}

/* ---- frames ---- */

void clone_frame(struct vm *vm, const struct agent_frame *f, const void *payload)
{
	struct clone *c = (struct clone *)vm;

	if (c->state != CLONE_LOADING && c->state != CLONE_RUNNING)
		return;
	switch (f->type) {
	case AGENT_DATA:
		if (f->channel == AGENT_STDIN)
			result_data(c, f, payload);
		else
			clone_output(c, f, payload);
		break;
	case AGENT_RESULT:
		result_begin(c, f, payload);
		break;
	case AGENT_QUIESCED:
		if (c->exiting)
			event_active(c->exiting, EV_READ, 0);
		break;
	case AGENT_EXITED:
		command_exited(c, f, payload);
		break;
	default:
		break; /* HELLO of a restarted agent, RESUMED: nothing to do */
	}
}

void clone_io_clear(struct clone *c)
{
	if (c->exiting)
		event_free(c->exiting);
	c->exiting = NULL;
	result_drop(c);
}
