/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames over a virtio-serial port.
 *
 * Both queues are plain arrays that begin at their start again whenever they are empty, so that an
 * agent with little traffic touches little memory: in a clone every page touched first is fetched
 * from another host. Payloads are read from pipes straight into the output queue. A part of that
 * queue is kept for the small frames that answer the host, and frames are only read from the host
 * while that part has room, so that a host that does not read is not read from either.
 */
#include "agent/port.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

#define READS_PER_EVENT 16

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "frames are used as they lie");

static size_t out_room(const struct port *port)
{
	return PORT_OUT_BYTES - (port->out_tail - port->out_head);
}

static void watch(struct port *port)
{
	uint32_t events = 0;

	if (!port->held && out_room(port) >= PORT_RESERVE_BYTES / 2)
		events |= EPOLLIN;
	if (!port_flushed(port))
		events |= EPOLLOUT;
	loop_watch(port->loop, &port->source, events);
}

static void broken(struct port *port, const char *what)
{
	log_err("agent port: %s", what);
	loop_end(port->loop, 1);
}

/* Writes what waits, as far as the kernel takes it. */
static void flush(struct port *port)
{
	while (!port_flushed(port)) {
		ssize_t put = write(port->source.fd, port->out + port->out_head,
				    port->out_tail - port->out_head);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			break;
		if (put <= 0) {
			broken(port, put ? strerror(errno) : "closed by the host");
			return;
		}
		port->out_head += (size_t)put;
	}
	if (port_flushed(port))
		port->out_head = port->out_tail = 0;
	watch(port);
}

/* Makes `bytes` contiguous bytes behind out_tail. Return: false if there is no room. */
static bool make_room(struct port *port, size_t bytes)
{
	if (out_room(port) < bytes)
		return false;
	if (PORT_OUT_BYTES - port->out_tail < bytes) {
		memmove(port->out, port->out + port->out_head, port->out_tail - port->out_head);
		port->out_tail -= port->out_head;
		port->out_head = 0;
	}
	return true;
}

static void put_header(struct port *port, unsigned type, unsigned channel, uint32_t stream,
		       uint32_t length)
{
	struct agent_frame frame = { .length = length, .type = (uint16_t)type,
				     .channel = (uint16_t)channel, .stream = stream };

	memcpy(port->out + port->out_tail, &frame, sizeof(frame));
}

void port_send(struct port *port, enum agent_type type, unsigned channel, uint32_t stream,
	       const void *payload, uint32_t length)
{
	if (!make_room(port, sizeof(struct agent_frame) + length)) {
		broken(port, "the host does not read");
		return;
	}
	put_header(port, type, channel, stream, length);
	if (length)
		memcpy(port->out + port->out_tail + sizeof(struct agent_frame), payload, length);
	port->out_tail += sizeof(struct agent_frame) + length;
	flush(port);
}

void port_credit(struct port *port, uint32_t stream, uint32_t bytes)
{
	struct agent_credit credit = { .bytes = bytes };

	port_send(port, AGENT_CREDIT, AGENT_STDIN, stream, &credit, sizeof(credit));
}

uint8_t *port_data(struct port *port, size_t *room)
{
	size_t need = sizeof(struct agent_frame) + AGENT_MAX_DATA;

	if (!make_room(port, need + PORT_RESERVE_BYTES)) {
		port->starved = true;
		return NULL;
	}
	*room = AGENT_MAX_DATA;
	return port->out + port->out_tail + sizeof(struct agent_frame);
}

void port_data_send(struct port *port, unsigned channel, uint32_t stream, uint32_t length)
{
	put_header(port, AGENT_DATA, channel, stream, length);
	port->out_tail += sizeof(struct agent_frame) + length;
	flush(port);
}

bool port_flushed(const struct port *port)
{
	return port->out_head == port->out_tail;
}

/* Hands every whole frame to the handler. Return: 0 or -errno. */
static int take_frames(struct port *port)
{
	size_t at = 0;
	int error = 0;

	port->taking = true;
	while (!error && !port->held && port->in_len - at >= sizeof(struct agent_frame)) {
		struct agent_frame frame;

		memcpy(&frame, port->in + at, sizeof(frame));
		if (frame.length > AGENT_MAX_FRAME) {
			error = -EPROTO;
			break;
		}
		if (port->in_len - at < sizeof(frame) + frame.length)
			break;
		/* payloads are read as structures: bring one that lies askew to the front */
		if (at % 8) {
			memmove(port->in, port->in + at, port->in_len - at);
			port->in_len -= at;
			at = 0;
		}
		error = port->handler->frame(port->arg, &frame, port->in + at + sizeof(frame));
		at += sizeof(frame) + frame.length;
	}
	memmove(port->in, port->in + at, port->in_len - at);
	port->in_len -= at;
	port->taking = false;
	return error;
}

void port_hold(struct port *port, bool held)
{
	int error;

	port->held = held;
	watch(port);
	error = held || port->taking ? 0 : take_frames(port);
	if (error)
		broken(port, strerror(-error));
}

static void receive(struct port *port)
{
	for (int i = 0; i < READS_PER_EVENT && port->source.events & EPOLLIN; i++) {
		ssize_t got = read(port->source.fd, port->in + port->in_len,
				   sizeof(port->in) - port->in_len);
		int error;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			broken(port, got ? strerror(errno) : "closed by the host");
			return;
		}
		port->in_len += (size_t)got;
		error = take_frames(port);
		if (error) {
			broken(port, strerror(-error));
			return;
		}
	}
}

static void port_ready(struct source *source, uint32_t events)
{
	struct port *port = (struct port *)source;	/* its first member */

	if (events & EPOLLOUT) {
		flush(port);
		if (port_flushed(port))
			port->handler->flushed(port->arg);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(port);
	if (port->starved && out_room(port) >= PORT_OUT_BYTES / 2) {
		port->starved = false;
		port->handler->drained(port->arg);
	}
}

void port_init(struct port *port, struct loop *loop, int fd, const struct port_handler *handler,
	       void *arg)
{
	port->source = (struct source){ .fd = fd, .port = true, .ready = port_ready };
	port->loop = loop;
	port->handler = handler;
	port->arg = arg;
	watch(port);
}
