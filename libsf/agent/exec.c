/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands.
 *
 * Output goes from the pipe or terminal straight into the port's queue, as far as sfd's window
 * allows; what does not go stays in the kernel, and stops the command when that is full. Input that
 * the command does not take yet is kept, at most one window. A command is over when it has ended
 * and everything it printed was sent; what it left running in the background does not delay that.
 */
#define _GNU_SOURCE
#include "agent/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent/spawn.h"
#include "common/cleanup.h"
#include "common/log.h"

#define READS_PER_EVENT 4
#define CREDIT_STEP (AGENT_WINDOW / 4)	/* room is given back in pieces of at least this */

struct output {
	struct source source;		/* fd -1: at its end, and sfd was told */
	struct exec_stream *stream;
	unsigned channel;
	uint32_t credit_bytes;		/* room in sfd's window */
	size_t marked_bytes;		/* printed when asked to be quiet, and not sent yet */
};

struct input {
	struct source source;		/* fd -1: closed; what still comes is dropped */
	struct exec_stream *stream;
	bool end;			/* nothing more comes: close when all is written */
	uint32_t taken_bytes;		/* room not given back yet */
	size_t head, tail;		/* what waits is buf[head..tail) */
	char *buf;			/* AGENT_WINDOW + 1 bytes, or NULL */
};

struct exec_stream {
	struct exec_stream *next;
	struct execs *execs;
	uint32_t number;
	pid_t pid;
	bool tty;
	bool exited;
	int status;			/* wait(2), when exited */
	struct input in;
	struct output out[EXEC_OUTPUTS];
};

static struct exec_stream *find(const struct execs *execs, uint32_t number)
{
	struct exec_stream *s = execs->streams;

	while (s && s->number != number)
		s = s->next;
	return s;
}

bool exec_has(const struct execs *execs, uint32_t stream)
{
	return find(execs, stream);
}

static void close_source(struct execs *execs, struct source *source)
{
	if (source->fd < 0)
		return;
	loop_watch(execs->loop, source, 0);
	close(source->fd);
	source->fd = -1;
}

/* -- output ------------------------------------------------------------------------------ */

static void output_end(struct output *out)
{
	struct exec_stream *s = out->stream;

	close_source(s->execs, &out->source);
	out->marked_bytes = 0;
	port_send(s->execs->port, AGENT_DATA, out->channel, s->number, NULL, 0);
}

/* Throws away what was printed before the clone and is the parent's to send. */
static void output_skip(struct output *out)
{
	char scrap[1024];

	while (out->marked_bytes) {
		size_t want = out->marked_bytes < sizeof(scrap) ? out->marked_bytes : sizeof(scrap);
		ssize_t got = read(out->source.fd, scrap, want);

		out->marked_bytes = got > 0 ? out->marked_bytes - (size_t)got : 0;
	}
}

/*
 * Sends one piece of at most `limit` bytes. Return: the bytes sent; 0: nothing there or no room
 * for it now; -1: the end.
 */
static ssize_t output_send(struct output *out, size_t limit)
{
	struct exec_stream *s = out->stream;
	uint8_t *data;
	size_t room;
	ssize_t got;

	if (limit > out->credit_bytes)
		limit = out->credit_bytes;
	data = limit ? port_data(s->execs->port, &room) : NULL;
	if (!data)
		return 0;
	do {
		got = read(out->source.fd, data, limit < room ? limit : room);
	} while (got < 0 && errno == EINTR);
	if (got > 0) {
		out->credit_bytes -= (uint32_t)got;
		port_data_send(s->execs->port, out->channel, s->number, (uint32_t)got);
		return got;
	}
	/* a terminal that nobody has open any more says EIO */
	return got < 0 && errno == EAGAIN && !s->exited ? 0 : -1;
}

static void stream_finish(struct exec_stream *s)
{
	struct agent_status status = { .value = s->status };
	struct execs *execs = s->execs;
	struct exec_stream **at = &execs->streams;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	execs->count--;
	close_source(execs, &s->in.source);
	port_send(execs->port, AGENT_EXITED, 0, s->number, &status, sizeof(status));
	free(s->in.buf);
	free(s);
}

/* Reads what can be read of all outputs; finishes the stream if that was the last. */
static void stream_pump(struct exec_stream *s, unsigned reads)
{
	bool all_ended = true;

	for (int i = 0; i < EXEC_OUTPUTS; i++) {
		struct output *out = &s->out[i];
		ssize_t sent = 1;

		if (out->source.fd < 0)
			continue;
		for (unsigned n = 0; sent > 0 && (n < reads || s->exited); n++)
			sent = output_send(out, SIZE_MAX);
		if (sent < 0) {
			output_end(out);
			continue;
		}
		all_ended = false;
		/* starved: execs_drained() comes; no credit: exec_credit() comes */
		loop_watch(s->execs->loop, &out->source,
			   out->credit_bytes && !s->execs->port->starved ? EPOLLIN : 0);
	}
	if (s->exited && all_ended)
		stream_finish(s);
}

static void output_ready(struct source *source, uint32_t events)
{
	struct output *out = (struct output *)source;	/* its first member */

	(void)events;
	stream_pump(out->stream, READS_PER_EVENT);
}

/* -- input ------------------------------------------------------------------------------- */

/* Gives room back when there is enough of it to be worth a frame. */
static void input_took(struct input *in, size_t bytes)
{
	in->taken_bytes += (uint32_t)bytes;
	if (in->taken_bytes < CREDIT_STEP)
		return;
	port_credit(in->stream->execs->port, in->stream->number, in->taken_bytes);
	in->taken_bytes = 0;
}

static void input_close(struct input *in)
{
	size_t dropped = in->tail - in->head;

	close_source(in->stream->execs, &in->source);
	free(steal_ptr(&in->buf));
	in->head = in->tail = 0;
	input_took(in, dropped);
}

static void input_flush(struct input *in)
{
	while (in->head < in->tail) {
		ssize_t put = write(in->source.fd, in->buf + in->head, in->tail - in->head);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN) {
			loop_watch(in->stream->execs->loop, &in->source, EPOLLOUT);
			return;
		}
		if (put < 0) {
			input_close(in);	/* nobody reads it */
			return;
		}
		in->head += (size_t)put;
		input_took(in, (size_t)put);
	}
	in->head = in->tail = 0;
	loop_watch(in->stream->execs->loop, &in->source, 0);
	if (in->end)
		input_close(in);
}

static void input_ready(struct source *source, uint32_t events)
{
	(void)events;
	input_flush((struct input *)source);	/* its first member */
}

/* Keeps bytes behind those that wait. Return: 0, -EPROTO beyond the window, -ENOMEM. */
static int input_keep(struct input *in, const void *bytes, size_t len)
{
	if (in->taken_bytes + (in->tail - in->head) + len > AGENT_WINDOW + 1)
		return -EPROTO;
	if (!in->buf)
		in->buf = malloc(AGENT_WINDOW + 1);
	if (!in->buf)
		return -ENOMEM;
	if (in->tail + len > AGENT_WINDOW + 1) {
		memmove(in->buf, in->buf + in->head, in->tail - in->head);
		in->tail -= in->head;
		in->head = 0;
	}
	memcpy(in->buf + in->tail, bytes, len);
	in->tail += len;
	return 0;
}

/* No more input: a terminal gets its end-of-file character, a pipe is closed. */
static void input_end(struct input *in)
{
	struct termios modes;

	if (in->stream->tty && !tcgetattr(in->source.fd, &modes) && modes.c_lflag & ICANON &&
	    input_keep(in, &modes.c_cc[VEOF], 1))
		log_warn("stream %u: no room for the end of its input", in->stream->number);
	in->end = true;
	input_flush(in);
}

bool exec_data(struct execs *execs, uint32_t stream, const uint8_t *data, size_t len, int *error)
{
	struct exec_stream *s = find(execs, stream);

	if (!s)
		return false;
	*error = 0;
	if (s->in.source.fd < 0) {
		input_took(&s->in, len);
		return true;
	}
	if (!len) {
		input_end(&s->in);
		return true;
	}
	*error = s->in.end ? -EPROTO : input_keep(&s->in, data, len);
	if (!*error)
		input_flush(&s->in);
	return true;
}

/* -- the command's life ------------------------------------------------------------------ */

/*
 * Points the entries of a NULL-ended array at `count` strings. Return: what is behind them, or
 * NULL if they are not all there.
 */
static const char *take_strings(const char *at, const char *end, char **array, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const char *zero = memchr(at, 0, (size_t)(end - at));

		if (!zero)
			return NULL;
		array[i] = (char *)at;
		at = zero + 1;
	}
	array[count] = NULL;
	return at;
}

/* The command could not even be started: says so in its place. */
static void refuse(struct execs *execs, uint32_t stream, bool tty, const char *command, int error)
{
	struct agent_status status = { .value = 126 << 8 };
	unsigned channel = tty ? AGENT_STDOUT : AGENT_STDERR;
	char text[256];
	int len = snprintf(text, sizeof(text), "%.100s: %s\n", command, strerror(error));

	port_send(execs->port, AGENT_DATA, channel, stream, text, (uint32_t)len);
	port_send(execs->port, AGENT_EXITED, 0, stream, &status, sizeof(status));
}

static void stream_add(struct execs *execs, struct exec_stream *s, const struct spawned *spawned)
{
	s->pid = spawned->pid;
	s->in.stream = s;
	s->in.source = (struct source){ .fd = spawned->in, .ready = input_ready };
	for (int i = 0; i < EXEC_OUTPUTS; i++) {
		struct output *out = &s->out[i];

		out->stream = s;
		out->channel = AGENT_STDOUT + (unsigned)i;
		out->credit_bytes = AGENT_WINDOW;
		out->source = (struct source){ .fd = spawned->out[i], .ready = output_ready };
		if (out->source.fd >= 0)
			loop_watch(execs->loop, &out->source, EPOLLIN);
	}
	s->next = execs->streams;
	execs->streams = s;
	execs->count++;
}

bool exec_begin(struct execs *execs, uint32_t stream, const uint8_t *payload, size_t len,
		int *error)
{
	const struct agent_exec *exec = (const struct agent_exec *)payload;
	const char *at = (const char *)(exec + 1), *end = (const char *)payload + len;
	_cleanup_free_ char **strings = NULL;
	struct spawn_request request = { .tty = exec->flags & AGENT_EXEC_TTY,
					 .rows = exec->rows, .columns = exec->columns };
	struct spawned spawned;
	char *cwd[2];
	struct exec_stream *s;
	int refused;

	*error = -EPROTO;
	if (!exec->argc || exec->argc > AGENT_MAX_ARGS || execs->count >= AGENT_MAX_STREAMS)
		return true;
	strings = calloc((size_t)exec->argc + exec->envc + 2, sizeof(*strings));
	s = calloc(1, sizeof(*s));
	*error = -ENOMEM;
	if (!strings || !s)
		goto err_free;
	*error = -EPROTO;
	request.argv = strings;
	request.env = strings + exec->argc + 1;
	at = take_strings(at, end, request.argv, exec->argc);
	at = at ? take_strings(at, end, request.env, exec->envc) : NULL;
	if (!at || take_strings(at, end, cwd, 1) != end)
		goto err_free;
	request.cwd = cwd[0];
	*error = 0;
	s->execs = execs;
	s->number = stream;
	s->tty = request.tty;
	refused = spawn(&request, &spawned);
	if (refused) {
		refuse(execs, stream, request.tty, request.argv[0], -refused);
		goto err_free;
	}
	stream_add(execs, s, &spawned);
	return true;
err_free:
	free(s);
	return true;
}

static void children_ready(struct source *source, uint32_t events)
{
	struct execs *execs = (struct execs *)((char *)source - offsetof(struct execs, children));
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct exec_stream *s = execs->streams;

		while (s && (s->pid != pid || s->exited))
			s = s->next;
		if (!s)
			continue;
		s->exited = true;
		s->status = status;
		stream_pump(s, READS_PER_EVENT);
	}
}

bool exec_credit(struct execs *execs, uint32_t stream, unsigned channel, uint32_t bytes, int *error)
{
	struct exec_stream *s = find(execs, stream);
	struct output *out;

	if (!s)
		return false;
	*error = -EPROTO;
	if (channel < AGENT_STDOUT || channel > AGENT_STDERR)
		return true;
	out = &s->out[channel - AGENT_STDOUT];
	if (bytes > AGENT_WINDOW - out->credit_bytes)
		return true;
	*error = 0;
	out->credit_bytes += bytes;
	if (!execs->loop->held)
		stream_pump(s, READS_PER_EVENT);
	return true;
}

bool exec_signal(struct execs *execs, uint32_t stream, int signal)
{
	struct exec_stream *s = find(execs, stream);

	if (!s)
		return false;
	if (s->exited)
		return true;
	/* before the child has made its group there is only the child */
	if (kill(-s->pid, signal) && kill(s->pid, signal))
		log_warn("stream %u: signal %d: %s", stream, signal, strerror(errno));
	return true;
}

bool exec_winsize(struct execs *execs, uint32_t stream, const struct agent_winsize *size)
{
	struct exec_stream *s = find(execs, stream);
	struct winsize w = { .ws_row = size->rows, .ws_col = size->columns };

	if (!s)
		return false;
	if (s->tty && s->out[0].source.fd >= 0)
		ioctl(s->out[0].source.fd, TIOCSWINSZ, &w);
	return true;
}

void execs_drained(struct execs *execs)
{
	struct exec_stream *next;

	for (struct exec_stream *s = execs->streams; s; s = next) {
		next = s->next;
		stream_pump(s, READS_PER_EVENT);
	}
}

/* -- around a clone ---------------------------------------------------------------------- */

void execs_mark(struct execs *execs)
{
	for (struct exec_stream *s = execs->streams; s; s = s->next) {
		for (int i = 0; i < EXEC_OUTPUTS; i++) {
			struct output *out = &s->out[i];
			int bytes = 0;

			if (out->source.fd >= 0 && ioctl(out->source.fd, FIONREAD, &bytes))
				bytes = 0;
			out->marked_bytes = (size_t)bytes;
		}
	}
}

/* Sends what was marked of one output. Return: false if the port has no room for it now. */
static bool output_drain(struct output *out)
{
	while (out->marked_bytes && out->credit_bytes) {
		ssize_t sent = output_send(out, out->marked_bytes);

		if (sent > 0)
			out->marked_bytes -= (size_t)sent;
		else if (out->stream->execs->port->starved)
			return false;
		else
			out->marked_bytes = 0;
	}
	return true;
}

bool execs_drain(struct execs *execs)
{
	bool done = true;

	for (struct exec_stream *s = execs->streams; s; s = s->next) {
		for (int i = 0; i < EXEC_OUTPUTS; i++) {
			if (s->out[i].source.fd >= 0 && !output_drain(&s->out[i]))
				done = false;
		}
	}
	return done;
}

void execs_become_clone(struct execs *execs)
{
	for (struct exec_stream *s = execs->streams; s; s = s->next) {
		if (s->in.source.fd >= 0) {
			s->in.head = s->in.tail = 0;
			s->in.taken_bytes = 0;
			input_end(&s->in);
		}
		for (int i = 0; i < EXEC_OUTPUTS; i++) {
			struct output *out = &s->out[i];

			if (out->source.fd < 0)
				continue;
			out->credit_bytes = AGENT_WINDOW;
			output_skip(out);
			loop_watch(execs->loop, &out->source, EPOLLIN);
		}
	}
}

int execs_init(struct execs *execs, struct loop *loop, struct port *port)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	*execs = (struct execs){ .loop = loop, .port = port };
	execs->children = (struct source){ .fd = fd, .ready = children_ready };
	loop_watch(loop, &execs->children, EPOLLIN);
	return 0;
}
