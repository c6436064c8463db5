/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links: framed JSON messages, calls and their answers, over a link_stream.
 *
 * A link is in one of these states:
 *
 *   CONNECTING  TCP is under way                          → HANDSHAKE, FAILED
 *   HANDSHAKE   TLS is under way                          → OPEN, FAILED
 *   OPEN        messages go both ways                     → FAILED, CLOSING
 *   FAILED      ended by itself; `down` is yet to be told → DEAD
 *   CLOSING     closed by its owner; output still leaves  → DEAD
 *   DEAD        freed as soon as no callback is running
 *
 * No function that an owner calls runs one of the owner's callbacks: those come from the event loop
 * alone. `depth` counts the loop's calls into a link; link_settle() does at the end of the
 * outermost what could not be done inside (telling `down`, freeing).
 *
 * Output is written at once, not at the loop's next turn, and waits in `out` only if the network
 * does not take it. When writing fails, what the other side sent before is still read and handed on
 * first: it may say why.
 */
#include "common/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/link_stream.h"

#define LINK_HEADER_BYTES 8u
#define LINK_READ_BYTES (64u << 10)   /* asked of the stream at a time */
#define LINK_TURN_BYTES (1u << 20)    /* read before other links have their turn */
#define LINK_WRITE_BYTES (128u << 10) /* given to the stream at a time, if they lie together */
#define LINK_GATHER_BYTES (16u << 10) /* fewer than this are brought together first */
#define LINK_DISCARD_READS 64
#define LINK_LOW_BYTES (256u << 10)
#define LINK_UP_SECONDS 10     /* from connecting to authenticated */
#define LINK_LINGER_SECONDS 3  /* from link_close() to the end of output */
#define LINK_DEAD_PEER_MS 5000 /* output not acknowledged */

enum link_state {
	LINK_CONNECTING,
	LINK_HANDSHAKE,
	LINK_OPEN,
	LINK_FAILED,
	LINK_CLOSING,
	LINK_DEAD,
};

struct link_open_call {
	TAILQ_ENTRY(link_open_call) next;
	json_int_t tag;
	link_done *done;
	void *arg;
};

struct link {
	enum link_state state;
	struct link_stream stream;
	struct link_handler handler;
	void *arg;
	struct event *readable, *writable;
	struct event *kick; /* made active: something to do that is not I/O; a timer as well */
	struct evbuffer *in, *out;
	TAILQ_HEAD(, link_open_call) calls; /* oldest first */
	json_int_t last_tag;
	unsigned depth;
	bool told_up;
	bool paused;
	bool over_low;	 /* `drained` is owed */
	bool finished;	 /* CLOSING: the end of output was sent */
	int write_error; /* output is dropped; the end is told when the input is read */
	int error;	 /* FAILED: for `down`, with `why` */
	char why[192];
};

static void link_free(struct link *link)
{
	struct link_open_call *call;

	while ((call = TAILQ_FIRST(&link->calls))) {
		TAILQ_REMOVE(&link->calls, call, next);
		free(call);
	}
	if (link->readable)
		event_free(link->readable);
	if (link->writable)
		event_free(link->writable);
	if (link->kick)
		event_free(link->kick);
	if (link->in)
		evbuffer_free(link->in);
	if (link->out)
		evbuffer_free(link->out);
	stream_close(&link->stream);
	free(link);
}

/* Ends the link; link_settle() tells its owner. `error`: 0 or -errno. */
static void link_fail(struct link *link, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void link_fail(struct link *link, int error, const char *format, ...)
{
	va_list args;

	if (link->state == LINK_CLOSING)
		link->state = LINK_DEAD;
	if (link->state >= LINK_FAILED)
		return;
	link->state = LINK_FAILED;
	link->error = error;
	va_start(args, format);
	vsnprintf(link->why, sizeof(link->why), format, args);
	va_end(args);
	event_del(link->readable);
	event_del(link->writable);
	event_del(link->kick);
	if (!link->depth)
		event_active(link->kick, 0, 0);
}

/* Takes a call off the list. Return: the caller's to free, or NULL if there is none. */
static struct link_open_call *take_call(struct link *link, json_int_t tag)
{
	struct link_open_call *call;

	TAILQ_FOREACH (call, &link->calls, next) {
		if (call->tag == tag) {
			TAILQ_REMOVE(&link->calls, call, next);
			return call;
		}
	}
	return NULL;
}

/* Answers every open call and tells the owner; he may close the link in any of these callbacks. */
static void tell_down(struct link *link)
{
	struct link_open_call *call;

	while (link->state == LINK_FAILED && (call = TAILQ_FIRST(&link->calls))) {
		TAILQ_REMOVE(&link->calls, call, next);
		call->done(call->arg, -ECONNRESET, link->why, NULL, NULL, 0);
		free(call);
	}
	if (link->state == LINK_FAILED && link->handler.down)
		link->handler.down(link->arg, link, link->error, link->why);
	link->state = LINK_DEAD;
}

/* The end of the loop's outermost call into a link. The link may be gone afterwards. */
static void link_settle(struct link *link)
{
	if (--link->depth)
		return;
	if (link->state == LINK_FAILED) {
		link->depth++;
		tell_down(link);
		link->depth--;
	}
	if (link->state == LINK_DEAD)
		link_free(link);
}

static void want_reading(struct link *link)
{
	bool wanted = link->state == LINK_HANDSHAKE ||
		      (link->state == LINK_OPEN && !link->paused) ||
		      (link->state == LINK_CLOSING && link->finished);

	if (wanted)
		event_add(link->readable, NULL);
	else
		event_del(link->readable);
}

/* Output cannot leave any more. What the other side sent before is read first. */
static void link_write_failed(struct link *link, int error)
{
	link->write_error = error;
	evbuffer_drain(link->out, evbuffer_get_length(link->out));
	if (link->state == LINK_CLOSING)
		link->state = LINK_DEAD;
	else if (!link->paused)
		event_active(link->readable, EV_READ, 0);
}

/*
 * CLOSING: all output has left. A TCP socket closed while the other side still sends would cost it
 * what is under way, so that the end is waited for; a UNIX socket loses nothing.
 */
static void link_finish(struct link *link)
{
	link->finished = true;
	if (link->stream.ssl) {
		stream_shutdown(&link->stream);
		want_reading(link);
	} else {
		link->state = LINK_DEAD;
	}
}

static size_t at_most(size_t number, size_t limit)
{
	return number < limit ? number : limit;
}

/* Writes what waits as far as the network takes it. */
static void link_flush(struct link *link)
{
	size_t waiting;

	while (!link->write_error && (waiting = evbuffer_get_length(link->out))) {
		size_t some = at_most(waiting, LINK_GATHER_BYTES);
		unsigned char *bytes = evbuffer_pullup(link->out, (ev_ssize_t)some);
		size_t together = evbuffer_get_contiguous_space(link->out);
		ssize_t put = bytes ? stream_write(&link->stream, bytes,
						   at_most(together, LINK_WRITE_BYTES)) :
				      -ENOMEM;

		if (put == -EAGAIN) {
			event_add(link->writable, NULL);
			return;
		}
		if (put < 0)
			return link_write_failed(link, (int)put);
		evbuffer_drain(link->out, (size_t)put);
	}
	if (link->state == LINK_CLOSING && !link->finished)
		link_finish(link);
}

static void handle_answer(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const json_t *re = json_object_get(msg, "re");
	const char *error = json_string_value(json_object_get(msg, "error"));
	const char *why = json_string_value(json_object_get(msg, "why"));
	struct link_open_call *call =
		json_is_integer(re) ? take_call(link, json_integer_value(re)) : NULL;

	if (!call)
		return link_fail(link, -EPROTO, "the other side answered what was not asked");
	if (error)
		call->done(call->arg, -link_errno_number(error), why ? why : error, msg, bytes,
			   len);
	else
		call->done(call->arg, 0, NULL, msg, bytes, len);
	free(call);
}

/* Reads one message of which all bytes are here. */
static void handle_frame(struct link *link, const uint8_t *frame, size_t json_len, size_t len)
{
	const char *text = (const char *)frame + LINK_HEADER_BYTES;
	const uint8_t *bytes = frame + LINK_HEADER_BYTES + json_len;
	json_error_t error;
	json_t *msg = json_loadb(text, json_len, 0, &error);

	if (!json_is_object(msg))
		link_fail(link, -EPROTO, "the other side sent what is no JSON object%s%s",
			  msg ? "" : ": ", msg ? "" : error.text);
	else if (json_object_get(msg, "re"))
		handle_answer(link, msg, bytes, len);
	else if (link->handler.message)
		link->handler.message(link->arg, link, msg, bytes, len);
	json_decref(msg);
}

/* Takes one message from the input. Return: false if there is none that is whole and wanted. */
static bool take_frame(struct link *link)
{
	size_t have = evbuffer_get_length(link->in), whole;
	uint32_t lengths[2];
	const uint8_t *frame;

	if (link->state != LINK_OPEN || link->paused || have < LINK_HEADER_BYTES)
		return false;
	evbuffer_copyout(link->in, lengths, sizeof(lengths));
	lengths[0] = ntohl(lengths[0]);
	lengths[1] = ntohl(lengths[1]);
	if (lengths[0] > LINK_MAX_JSON || lengths[1] > LINK_MAX_BINARY) {
		link_fail(link, -EPROTO, "the other side sent a message of %u + %u bytes",
			  lengths[0], lengths[1]);
		return false;
	}
	whole = (size_t)LINK_HEADER_BYTES + lengths[0] + lengths[1];
	if (have < whole)
		return false;
	frame = evbuffer_pullup(link->in, (ev_ssize_t)whole);
	if (!frame) {
		link_fail(link, -ENOMEM, "no memory for a message of %zu bytes", whole);
		return false;
	}
	handle_frame(link, frame, lengths[0], lengths[1]);
	evbuffer_drain(link->in, whole);
	return true;
}

static void link_input_ended(struct link *link)
{
	if (evbuffer_get_length(link->in))
		link_fail(link, -ECONNRESET, "the other side ended in the middle of a message");
	else
		link_fail(link, 0, "the other side closed the connection");
}

/* Reads once. Return: bytes, 0 if the link ended or has nothing more for now. */
static size_t link_read(struct link *link)
{
	struct evbuffer_iovec room;
	ssize_t got;

	if (evbuffer_reserve_space(link->in, LINK_READ_BYTES, &room, 1) < 1) {
		link_fail(link, -ENOMEM, "no memory for input");
		return 0;
	}
	got = stream_read(&link->stream, room.iov_base, room.iov_len);
	room.iov_len = got > 0 ? (size_t)got : 0;
	evbuffer_commit_space(link->in, &room, 1);
	if (got > 0)
		return (size_t)got;
	if (!got)
		link_input_ended(link);
	else if (got != -EAGAIN)
		link_fail(link, (int)got, "%s", link->stream.why);
	else if (link->write_error)
		link_fail(link, link->write_error, "%s", strerror(-link->write_error));
	return 0;
}

/* Reads and hands on messages, for one turn of the loop. */
static void link_input(struct link *link)
{
	size_t turn = 0, got;

	for (;;) {
		while (take_frame(link))
			;
		if (link->state != LINK_OPEN || link->paused)
			return;
		if (turn >= LINK_TURN_BYTES) {
			if (stream_has_pending(&link->stream))
				event_active(link->readable, EV_READ, 0);
			return;
		}
		got = link_read(link);
		if (!got)
			return;
		turn += got;
	}
}

/* CLOSING: throws input away until the other side has closed too. */
static void link_discard(struct link *link)
{
	char nothing[4096];
	ssize_t got = 1;

	for (unsigned reads = 0; got > 0 && reads < LINK_DISCARD_READS; reads++)
		got = stream_read(&link->stream, nothing, sizeof(nothing));
	if (got <= 0 && got != -EAGAIN)
		link->state = LINK_DEAD;
}

static void link_up(struct link *link)
{
	link->state = LINK_OPEN;
	event_del(link->kick);
	if (!link->told_up && link->handler.up)
		link->handler.up(link->arg, link);
	link->told_up = true;
	if (link->state != LINK_OPEN)
		return;
	link_flush(link);
	want_reading(link);
	if (!link->paused)
		link_input(link); /* TLS may have read more than the handshake */
}

static void link_handshake(struct link *link)
{
	int error = stream_handshake(&link->stream);

	if (!error)
		link_up(link);
	else if (error != -EAGAIN)
		link_fail(link, error, "%s", link->stream.why);
	else if (link->stream.want_write)
		event_add(link->writable, NULL);
}

static void link_connected(struct link *link)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(link->stream.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		return link_fail(link, -error, "cannot connect: %s", strerror(error));
	link->state = LINK_HANDSHAKE;
	want_reading(link);
	link_handshake(link);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct link *link = arg;

	(void)fd;
	(void)what;
	link->depth++;
	if (link->state == LINK_HANDSHAKE)
		link_handshake(link);
	else if (link->state == LINK_OPEN && !link->paused)
		link_input(link);
	else if (link->state == LINK_CLOSING)
		link_discard(link);
	link_settle(link);
}

static void link_output(struct link *link)
{
	link_flush(link);
	if (link->state != LINK_OPEN || !link->over_low || link_backlog(link) >= LINK_LOW_BYTES)
		return;
	link->over_low = false;
	if (link->handler.drained && !link->write_error)
		link->handler.drained(link->arg, link);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct link *link = arg;

	(void)fd;
	(void)what;
	link->depth++;
	if (link->state == LINK_CONNECTING)
		link_connected(link);
	else if (link->state == LINK_HANDSHAKE)
		link_handshake(link);
	else if (link->state == LINK_OPEN || link->state == LINK_CLOSING)
		link_output(link);
	link_settle(link);
}

/* Something to do that no descriptor tells of, or a time that ran out. */
static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct link *link = arg;

	(void)fd;
	link->depth++;
	if (what & EV_TIMEOUT && link->state == LINK_CLOSING)
		link->state = LINK_DEAD;
	else if (what & EV_TIMEOUT && link->state == LINK_CONNECTING)
		link_fail(link, -ETIMEDOUT, "cannot connect: no answer in %d s", LINK_UP_SECONDS);
	else if (what & EV_TIMEOUT && link->state == LINK_HANDSHAKE)
		link_fail(link, -ETIMEDOUT, "no TLS handshake in %d s", LINK_UP_SECONDS);
	else if (link->state == LINK_OPEN && !link->told_up)
		link_up(link);
	else if (link->state == LINK_OPEN && !link->paused)
		link_input(link);
	link_settle(link);
}

static struct link *link_new(struct event_base *base, int fd, enum link_state state,
			     const struct link_handler *handler, void *arg)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->state = state;
	link->stream.fd = -1;
	link->handler = *handler;
	link->arg = arg;
	TAILQ_INIT(&link->calls);
	link->in = evbuffer_new();
	link->out = evbuffer_new();
	link->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, link);
	link->writable = event_new(base, fd, EV_WRITE, on_writable, link);
	link->kick = event_new(base, -1, 0, on_kick, link);
	if (!link->in || !link->out || !link->readable || !link->writable || !link->kick ||
	    io_set_nonblock(fd, true)) {
		link_free(link);
		errno = ENOMEM;
		return NULL;
	}
	io_set_inherit(fd, false);
	link->stream.fd = fd;
	return link;
}

/* Gives the descriptor back and frees the link: what a failed creation ends with. */
static struct link *link_undo(struct link *link, int error)
{
	link->stream.fd = -1;
	link_free(link);
	errno = error;
	return NULL;
}

struct link *link_from_fd(struct event_base *base, int fd, const struct link_handler *handler,
			  void *arg)
{
	struct link *link = link_new(base, fd, LINK_OPEN, handler, arg);

	if (link)
		event_active(link->kick, 0, 0);
	return link;
}

static void set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

/* No waiting for more to send; and a peer that is gone is noticed in seconds. */
static void tune_tcp(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 2);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, LINK_DEAD_PEER_MS);
}

static void start_timer(struct link *link, int seconds)
{
	struct timeval span = { .tv_sec = seconds };

	event_add(link->kick, &span);
}

struct link *link_accept_tls(struct event_base *base, int fd, const uint8_t key[LINK_KEY_BYTES],
			     const struct link_handler *handler, void *arg)
{
	struct link *link = link_new(base, fd, LINK_HANDSHAKE, handler, arg);
	int error;

	if (!link)
		return NULL;
	error = stream_start_tls(&link->stream, STREAM_SERVER, key);
	if (error)
		return link_undo(link, -error);
	tune_tcp(fd);
	want_reading(link);
	start_timer(link, LINK_UP_SECONDS);
	return link;
}

struct link *link_connect_tls(struct event_base *base, const struct sockaddr *to, socklen_t to_len,
			      const struct sockaddr *local, socklen_t local_len,
			      const uint8_t key[LINK_KEY_BYTES], const struct link_handler *handler,
			      void *arg)
{
	_cleanup_fd_ int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct link *link;
	int error;

	if (fd < 0)
		return NULL;
	tune_tcp(fd);
	set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	link = link_new(base, fd, LINK_CONNECTING, handler, arg);
	if (!link)
		return NULL;
	error = stream_start_tls(&link->stream, STREAM_CLIENT, key);
	if (error)
		return link_undo(link, -error);
	steal_fd(&fd);
	if (local && bind(link->stream.fd, local, local_len)) {
		link_fail(link, -errno, "cannot use the local address: %s", strerror(errno));
	} else if (connect(link->stream.fd, to, to_len) && errno != EINPROGRESS) {
		link_fail(link, -errno, "cannot connect: %s", strerror(errno));
	} else {
		event_add(link->writable, NULL);
		start_timer(link, LINK_UP_SECONDS);
	}
	return link;
}

/* Puts one frame behind what waits. Return: 0 or -errno, and then nothing was added. */
static int add_frame(struct link *link, const json_t *msg, const void *bytes, size_t len)
{
	_cleanup_free_ char *text = json_dumps(msg, JSON_COMPACT);
	size_t json_len = text ? strlen(text) : 0;
	uint32_t lengths[2] = { htonl((uint32_t)json_len), htonl((uint32_t)len) };

	if (!text)
		return -EINVAL;
	if (json_len > LINK_MAX_JSON || len > LINK_MAX_BINARY)
		return -EMSGSIZE;
	/* in one piece, so that nothing is moved to write it */
	if (evbuffer_expand(link->out, sizeof(lengths) + json_len + len))
		return -ENOMEM;
	evbuffer_add(link->out, lengths, sizeof(lengths));
	evbuffer_add(link->out, text, json_len);
	if (len)
		evbuffer_add(link->out, bytes, len);
	return 0;
}

static int link_put(struct link *link, const json_t *msg, const void *bytes, size_t len)
{
	int error;

	if (!json_is_object(msg))
		return -EINVAL;
	if (link->state >= LINK_FAILED || link->write_error)
		return -ECONNRESET;
	error = add_frame(link, msg, bytes, len);
	if (error)
		return error;
	if (link->state == LINK_OPEN)
		link_flush(link);
	if (link_backlog(link) > LINK_LOW_BYTES)
		link->over_low = true;
	return 0;
}

int link_send(struct link *link, json_t *msg, const void *bytes, size_t len)
{
	int error = link_put(link, msg, bytes, len);

	json_decref(msg);
	return error;
}

int link_call(struct link *link, json_t *msg, const void *bytes, size_t len, link_done *done,
	      void *arg)
{
	struct link_open_call *call = malloc(sizeof(*call));
	int error;

	if (!call) {
		json_decref(msg);
		return -ENOMEM;
	}
	call->tag = ++link->last_tag;
	call->done = done;
	call->arg = arg;
	json_object_set_new(msg, "tag", json_integer(call->tag));
	error = link_send(link, msg, bytes, len);
	if (error)
		free(call);
	else
		TAILQ_INSERT_TAIL(&link->calls, call, next);
	return error;
}

int link_reply(struct link *link, json_t *request, json_t *msg, const void *bytes, size_t len)
{
	json_t *tag = json_object_get(request, "tag");

	if (!tag) {
		json_decref(msg);
		return 0;
	}
	if (!msg)
		msg = json_object();
	json_object_set(msg, "re", tag);
	return link_send(link, msg, bytes, len);
}

int link_refuse(struct link *link, json_t *request, int error, const char *format, ...)
{
	char why[512];
	va_list args;
	json_t *msg;

	if (!json_object_get(request, "tag"))
		return 0;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	msg = json_pack("{s:s, s:s}", "error", link_errno_name(error), "why", why);
	if (!msg) /* the sentence holds what is not UTF-8 */
		msg = json_pack("{s:s}", "error", link_errno_name(error));
	return link_reply(link, request, msg, NULL, 0);
}

size_t link_backlog(const struct link *link)
{
	return evbuffer_get_length(link->out);
}

void link_pause(struct link *link, bool paused)
{
	if (link->paused == paused)
		return;
	link->paused = paused;
	if (link->state != LINK_OPEN)
		return;
	want_reading(link);
	if (!paused && link->told_up)
		event_active(link->kick, 0, 0); /* what had been read before */
}

void link_break(struct link *link, int error, const char *why)
{
	link_fail(link, error, "%s", why);
}

void link_close(struct link *link)
{
	struct link_open_call *call;

	if (!link || link->state == LINK_CLOSING || link->state == LINK_DEAD)
		return;
	while ((call = TAILQ_FIRST(&link->calls))) {
		TAILQ_REMOVE(&link->calls, call, next);
		free(call);
	}
	if (link->state == LINK_OPEN && !link->write_error) {
		link->state = LINK_CLOSING;
		start_timer(link, LINK_LINGER_SECONDS);
		want_reading(link);
		link_flush(link);
	} else {
		link->state = LINK_DEAD;
	}
	if (link->state == LINK_CLOSING && link->finished)
		link_discard(link);
	if (link->state == LINK_DEAD && !link->depth)
		link_free(link);
}
