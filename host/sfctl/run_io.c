/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run: this terminal as the command's standard input, output and error.
 *
 * Nothing here makes a descriptor non-blocking: they are shared with the shell that started us.
 * Pipes and terminals are written when poll says that they take a little, a little at a time; what
 * epoll does not know (files, /dev/null) never blocks for long. Room is given back to the sender as
 * bytes are written. Clones' output has no window of its own here: when too much waits, the link is
 * paused.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/run.h"
#include "proto/agent-port.h"

#define WRITE_BYTES 4096	 /* PIPE_BUF: what a pipe that is writable takes at once */
#define CREDIT_BYTES (32u << 10) /* room is given back in pieces like this */
#define WAITING_HIGH (4u << 20)	 /* output that waits: above, the link is paused … */
#define WAITING_LOW (1u << 20)	 /* … until it is below */
#define BACKGROUND_SECONDS 1	 /* until a terminal that is not ours is tried again */

static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH };

struct out {
	struct run_io *io;
	int fd, channel;
	struct evbuffer *waiting;
	struct event *writable;
	size_t own;  /* bytes in `waiting` that are the command's; the rest are clones' */
	size_t owed; /* written, room not yet given back */
	bool broken; /* nobody reads it */
};

struct run_io {
	struct event_base *base;
	struct run_io_handler handler;
	struct link *link; /* NULL: no command */
	json_int_t stream;
	bool tty, raw, paused, no_stdin, ended;
	struct termios saved;
	struct out outs[2];
	struct event *readable; /* standard input */
	struct event *signals[ARRAY_SIZE(caught)];
	size_t window;	   /* bytes of input the guest takes */
	bool always_ready; /* input that epoll does not know */
};

static void send_op(struct run_io *io, json_t *msg, const void *bytes, size_t len)
{
	if (io->link)
		link_send(io->link, msg, bytes, len);
	else
		json_decref(msg);
}

static void ignore_answer(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			  size_t len)
{
	(void)arg;
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
}

/* ── Output ── */

static void give_back(struct out *out, size_t bytes, bool all)
{
	struct run_io *io = out->io;

	out->owed += bytes;
	if (!out->owed || (out->owed < CREDIT_BYTES && !all))
		return;
	send_op(io,
		json_pack("{s:s, s:I, s:i, s:I}", "op", "credit", "stream", io->stream, "channel",
			  out->channel, "bytes", (json_int_t)out->owed),
		NULL, 0);
	out->owed = 0;
}

static void pace(struct run_io *io)
{
	size_t waiting =
		evbuffer_get_length(io->outs[0].waiting) + evbuffer_get_length(io->outs[1].waiting);
	bool pause = waiting > (io->paused ? WAITING_LOW : WAITING_HIGH);

	if (io->link && pause != io->paused)
		link_pause(io->link, io->paused = pause);
}

/* Takes written or dropped bytes from the buffer. */
static void forget(struct out *out, size_t bytes)
{
	size_t own = bytes < out->own ? bytes : out->own;

	evbuffer_drain(out->waiting, bytes);
	out->own -= own;
	give_back(out, own, !evbuffer_get_length(out->waiting));
}

/* Nobody reads what the command prints: it learns that as it would at home. */
static void out_broken(struct out *out)
{
	out->broken = true;
	forget(out, evbuffer_get_length(out->waiting));
	if (out->io->link && !out->io->ended)
		link_call(out->io->link,
			  json_pack("{s:s, s:I, s:i}", "op", "signal", "stream", out->io->stream,
				    "signal", SIGPIPE),
			  NULL, 0, ignore_answer, NULL);
}

static bool writable_now(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	return poll(&poll_fd, 1, 0) > 0;
}

/* Writes what is taken at once. */
static void out_flush(struct out *out)
{
	while (evbuffer_get_length(out->waiting)) {
		size_t some = evbuffer_get_length(out->waiting);
		unsigned char *bytes;
		ssize_t put;

		if (!writable_now(out->fd) && !event_add(out->writable, NULL))
			return;
		some = some < WRITE_BYTES ? some : WRITE_BYTES;
		bytes = evbuffer_pullup(out->waiting, (ev_ssize_t)some);
		put = bytes ? write(out->fd, bytes, some) : -1;
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN && !event_add(out->writable, NULL))
			return; /* somebody else made it non-blocking */
		if (put < 0)
			out_broken(out);
		else
			forget(out, (size_t)put);
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;
	struct run_io *io = out->io;

	(void)fd;
	(void)what;
	out_flush(out);
	pace(io);
	if (!run_io_busy(io))
		io->handler.drained(io->handler.arg);
}

void run_io_data(struct run_io *io, int channel, int clone, const uint8_t *bytes, size_t len)
{
	struct out *out = &io->outs[channel == AGENT_STDERR];

	if (channel != AGENT_STDOUT && channel != AGENT_STDERR)
		return;
	evbuffer_add(out->waiting, bytes, len);
	if (!clone)
		out->own += len;
	if (out->broken)
		forget(out, len);
	else
		out_flush(out);
	pace(io);
}

bool run_io_busy(const struct run_io *io)
{
	return evbuffer_get_length(io->outs[0].waiting) || evbuffer_get_length(io->outs[1].waiting);
}

/* ── Input ── */

static void send_input(struct run_io *io, const void *bytes, size_t len)
{
	send_op(io,
		json_pack("{s:s, s:I, s:i}", "op", "data", "stream", io->stream, "channel",
			  AGENT_STDIN),
		bytes, len);
}

static void input_ended(struct run_io *io)
{
	event_del(io->readable);
	io->no_stdin = true;
	send_input(io, NULL, 0);
}

/* Waits for input if the guest has room for it. */
static void want_input(struct run_io *io)
{
	if (!io->link || io->ended || io->no_stdin)
		return;
	if (!io->window)
		event_del(io->readable);
	else if (io->always_ready)
		event_active(io->readable, EV_READ, 0);
	else
		event_add(io->readable, NULL);
}

/* Can epoll wait for it? Files and /dev/null it does not know: they are always ready. */
static bool can_wait(int fd)
{
	_cleanup_fd_ int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };

	return epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void on_input(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval later = { .tv_sec = BACKGROUND_SECONDS };
	uint8_t bytes[AGENT_MAX_DATA];
	struct run_io *io = arg;
	size_t room = io->window < sizeof(bytes) ? io->window : sizeof(bytes);
	ssize_t got;

	(void)what;
	if (io->ended || io->no_stdin || !room)
		return;
	if (isatty(fd) && tcgetpgrp(fd) != getpgrp()) { /* in the background: not ours to read */
		event_del(io->readable);
		event_base_once(io->base, -1, EV_TIMEOUT, on_input, io, &later);
		return;
	}
	got = read(fd, bytes, room);
	if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
		want_input(io);
	} else if (got <= 0) {
		input_ended(io);
	} else {
		send_input(io, bytes, (size_t)got);
		io->window -= (size_t)got;
		want_input(io);
	}
}

void run_io_credit(struct run_io *io, size_t bytes)
{
	io->window += bytes;
	want_input(io);
}

/* ── Terminal and signals ── */

json_t *run_io_tty(const struct run_io *io)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	if (!io->tty)
		return json_null();
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size))
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	return json_pack("{s:i, s:i}", "rows", size.ws_row, "columns", size.ws_col);
}

static void send_size(struct run_io *io)
{
	json_t *msg = run_io_tty(io);

	if (!io->link || io->ended || !json_is_object(msg)) {
		json_decref(msg);
		return;
	}
	json_object_set_new(msg, "op", json_string("winsize"));
	json_object_set_new(msg, "stream", json_integer(io->stream));
	link_call(io->link, msg, NULL, 0, ignore_answer, NULL);
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct run_io *io = arg;

	(void)what;
	if (signal == SIGWINCH)
		send_size(io);
	else
		io->handler.signal(io->handler.arg, (int)signal);
}

static void make_raw(struct run_io *io)
{
	struct termios raw;

	if (!io->tty || tcgetattr(STDIN_FILENO, &io->saved))
		return;
	raw = io->saved;
	cfmakeraw(&raw);
	io->raw = !tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void make_cooked(struct run_io *io)
{
	if (io->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &io->saved);
	io->raw = false;
}

/* ── Life ── */

static bool out_init(struct out *out, struct run_io *io, int fd, int channel)
{
	*out = (struct out){ .io = io, .fd = fd, .channel = channel, .waiting = evbuffer_new() };
	out->writable = event_new(io->base, fd, EV_WRITE, on_writable, out);
	return out->waiting && out->writable;
}

struct run_io *run_io_new(struct event_base *base, const struct run_options *options,
			  const struct run_io_handler *handler)
{
	struct run_io *io = calloc(1, sizeof(*io));
	bool ok;

	if (!io)
		return NULL;
	*io = (struct run_io){ .base = base,
			       .handler = *handler,
			       .tty = options->tty,
			       .no_stdin = options->no_stdin,
			       .window = AGENT_WINDOW,
			       .always_ready = !can_wait(STDIN_FILENO) };
	ok = out_init(&io->outs[0], io, STDOUT_FILENO, AGENT_STDOUT) &&
	     out_init(&io->outs[1], io, STDERR_FILENO, AGENT_STDERR);
	io->readable = event_new(base, STDIN_FILENO, EV_READ, on_input, io);
	for (unsigned i = 0; i < ARRAY_SIZE(caught); i++) {
		io->signals[i] = evsignal_new(base, caught[i], on_signal, io);
		ok = ok && io->signals[i] && !event_add(io->signals[i], NULL);
	}
	if (ok && io->readable)
		return io;
	run_io_free(io);
	return NULL;
}

void run_io_start(struct run_io *io, struct link *link, int64_t stream)
{
	io->link = link;
	io->stream = stream;
	make_raw(io);
	if (io->no_stdin)
		send_input(io, NULL, 0);
	else
		want_input(io);
}

void run_io_stop(struct run_io *io, bool discard)
{
	io->ended = true;
	event_del(io->readable);
	make_cooked(io);
	for (unsigned i = 0; discard && i < ARRAY_SIZE(io->outs); i++) {
		io->outs[i].broken = true;
		forget(&io->outs[i], evbuffer_get_length(io->outs[i].waiting));
	}
	pace(io);
}

void run_io_unlink(struct run_io *io)
{
	io->link = NULL;
}

void run_io_free(struct run_io *io)
{
	if (!io)
		return;
	make_cooked(io);
	for (unsigned i = 0; i < ARRAY_SIZE(io->outs); i++) {
		if (io->outs[i].writable)
			event_free(io->outs[i].writable);
		if (io->outs[i].waiting)
			evbuffer_free(io->outs[i].waiting);
	}
	if (io->readable)
		event_free(io->readable);
	for (unsigned i = 0; i < ARRAY_SIZE(io->signals); i++) {
		if (io->signals[i])
			event_free(io->signals[i]);
	}
	free(io);
}
