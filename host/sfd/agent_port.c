/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cuts the agent's byte stream into checked frames, and sends frames, or keeps them while held. */
#include "host/sfd/agent_port.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STRUCT_BYTES 128u /* in any frame of the agent's but data */

struct agent_port {
	struct bufferevent *io;
	struct evbuffer *waiting; /* frames kept while held */
	bool held, broken;
	struct agent_port_events events;
	void *arg;
};

/* The least payload of every type that the agent sends; -1: not the agent's to send. */
static const int least_payload[AGENT_TYPES] = {
	[0] = -1,
	[AGENT_HELLO] = offsetof(struct agent_hello, window), /* what every version has */
	[AGENT_QUIESCE] = -1,
	[AGENT_QUIESCED] = sizeof(struct agent_quiesce),
	[AGENT_RESUME] = -1,
	[AGENT_RESUMED] = sizeof(struct agent_status),
	[AGENT_ANSWERED] = sizeof(struct agent_answered),
	[AGENT_EXEC] = -1,
	[AGENT_EXITED] = sizeof(struct agent_status),
	[AGENT_SIGNAL] = -1,
	[AGENT_WINSIZE] = -1,
	[AGENT_PUT] = -1,
	[AGENT_RESULT] = sizeof(struct agent_result),
	[AGENT_STORED] = sizeof(struct agent_status),
	[AGENT_DATA] = 0,
	[AGENT_CREDIT] = sizeof(struct agent_credit),
	[AGENT_MODULE] = sizeof(struct agent_window),
};

static void break_port(struct agent_port *port, const char *why)
{
	if (port->broken)
		return;
	port->broken = true;
	bufferevent_disable(port->io, EV_READ | EV_WRITE);
	port->events.broken(port->arg, why);
}

/* Return: what is wrong with a frame's head, or NULL. */
static const char *check_frame(const struct agent_frame *f)
{
	if (f->type >= AGENT_TYPES || least_payload[f->type] < 0)
		return "a frame of a type that is not the agent's";
	if (f->length > (f->type == AGENT_DATA ? AGENT_MAX_DATA : MAX_STRUCT_BYTES))
		return "a frame over the limit";
	if (f->length < (uint32_t)least_payload[f->type])
		return "a frame cut short";
	if ((f->type == AGENT_DATA || f->type == AGENT_CREDIT) && f->channel > AGENT_STDERR)
		return "a frame of an unknown channel";
	return NULL;
}

/* The payload of a frame that is all there: data as it lies, a struct where a struct may lie. */
static const void *frame_payload(struct evbuffer *in, const struct agent_frame *f, void *aligned)
{
	if (f->type == AGENT_DATA)
		return evbuffer_pullup(in, f->length);
	memset(aligned, 0, MAX_STRUCT_BYTES);
	evbuffer_copyout(in, aligned, f->length);
	return aligned;
}

static void port_readable(struct bufferevent *io, void *arg)
{
	_Alignas(max_align_t) uint8_t aligned[MAX_STRUCT_BYTES];
	struct agent_port *port = arg;
	struct evbuffer *in = bufferevent_get_input(io);

	while (!port->broken && evbuffer_get_length(in) >= sizeof(struct agent_frame)) {
		struct agent_frame f;
		const char *wrong;

		/* little-endian on the wire; sfd runs on x86-64 only, where that is our own order
		 */
		evbuffer_copyout(in, &f, sizeof(f));
		wrong = check_frame(&f);
		if (wrong) {
			break_port(port, wrong);
			return;
		}
		if (evbuffer_get_length(in) < sizeof(f) + f.length)
			return;
		evbuffer_drain(in, sizeof(f));
		port->events.frame(port->arg, &f, frame_payload(in, &f, aligned));
		evbuffer_drain(in, f.length);
	}
}

static void port_event(struct bufferevent *io, short what, void *arg)
{
	(void)io;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		break_port(arg, NULL);
}

struct agent_port *agent_port_new(struct event_base *base, int fd,
				  const struct agent_port_events *events, void *arg)
{
	struct agent_port *port = calloc(1, sizeof(*port));

	if (!port)
		return NULL;
	evutil_make_socket_nonblocking(fd);
	/* deferred, and a frame's handler takes its VM away only through the loop: never under us
	 */
	port->waiting = evbuffer_new();
	if (port->waiting)
		port->io = bufferevent_socket_new(base, fd,
						  BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!port->io) {
		if (port->waiting)
			evbuffer_free(port->waiting);
		free(port);
		return NULL;
	}
	port->events = *events;
	port->arg = arg;
	bufferevent_setcb(port->io, port_readable, NULL, port_event, port);
	bufferevent_setwatermark(port->io, EV_READ, 0, 4 * AGENT_MAX_FRAME);
	bufferevent_enable(port->io, EV_READ | EV_WRITE);
	return port;
}

void agent_port_free(struct agent_port *port)
{
	if (!port)
		return;
	bufferevent_free(port->io);
	evbuffer_free(port->waiting);
	free(port);
}

static void add_frame(struct evbuffer *out, const struct agent_frame *f, const void *head,
		      size_t head_len, const void *tail, size_t tail_len)
{
	evbuffer_add(out, f, sizeof(*f));
	if (head_len)
		evbuffer_add(out, head, head_len);
	if (tail_len)
		evbuffer_add(out, tail, tail_len);
}

void agent_port_send(struct agent_port *port, enum agent_type type, unsigned channel,
		     uint32_t stream, const void *head, size_t head_len, const void *tail,
		     size_t tail_len)
{
	struct agent_frame f = { .length = (uint32_t)(head_len + tail_len),
				 .type = (uint16_t)type,
				 .channel = (uint16_t)channel,
				 .stream = stream };

	if (port && !port->broken)
		add_frame(port->held ? port->waiting : bufferevent_get_output(port->io), &f, head,
			  head_len, tail, tail_len);
}

void agent_port_send_now(struct agent_port *port, enum agent_type type, const void *payload,
			 size_t len)
{
	struct agent_frame f = { .length = (uint32_t)len, .type = (uint16_t)type };

	if (port && !port->broken)
		add_frame(bufferevent_get_output(port->io), &f, payload, len, NULL, 0);
}

void agent_port_hold(struct agent_port *port, bool held)
{
	if (!port)
		return;
	port->held = held;
	if (!held && !port->broken)
		evbuffer_add_buffer(bufferevent_get_output(port->io), port->waiting);
}
