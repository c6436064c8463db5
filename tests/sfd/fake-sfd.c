/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon without VMs, for tests of sfctl: it takes sfd's options and speaks proto/control.h, and
 * its guests know a few commands, in the table below. What it sees of importance goes line by line
 * to FAKE_LOG. FAKE_START asks for trouble at the start: "fail" (a sentence instead of k), "mute"
 * (never ready), "crash".
 */
#include <argp.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/link.h"
#include "proto/agent-port.h"
#include "proto/control.h"

#define MAX_STREAMS 512

struct options {
	const char *dir, *host, *cluster, *mem;
	int ready_fd;
};

/* A stream: a file that comes in, or a command. */
struct stream {
	struct link *link;
	json_int_t number;
	char *path; /* a file */
	uint64_t left;
	unsigned sum;
	const struct program *program; /* a command */
	json_t *request;
	size_t window;	       /* room for output */
	size_t unacknowledged; /* input the sender sent without room */
	unsigned long flood;   /* bytes still to print */
};

struct program {
	const char *name;
	void (*start)(struct stream *stream);
	void (*input)(struct stream *stream, const uint8_t *bytes, size_t len);
	void (*credit)(struct stream *stream);
	void (*signal)(struct stream *stream, int signal);
};

static struct options options;
static struct event_base *base;
static struct stream streams[MAX_STREAMS];
static json_int_t last_stream;
static json_t *puts_seen; /* lines about the files put, for the command "files" */

static void record(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void record(const char *format, ...)
{
	const char *path = getenv("FAKE_LOG");
	FILE *file = path ? fopen(path, "ae") : NULL;
	va_list args;

	if (!file)
		return;
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	fputc('\n', file);
	fclose(file);
}

/* ── What a command can do ── */

static void print(struct stream *s, int channel, const void *bytes, size_t len)
{
	if (channel == AGENT_STDOUT)
		s->window -= len;
	link_send(
		s->link,
		json_pack("{s:s, s:I, s:i}", "ev", "data", "stream", s->number, "channel", channel),
		bytes, len);
}

static void print_line(struct stream *s, int channel, const char *line)
{
	print(s, channel, line, strlen(line));
	print(s, channel, "\n", 1);
}

static void end(struct stream *s, int wait_status)
{
	link_send(s->link,
		  json_pack("{s:s, s:I, s:i}", "ev", "exited", "stream", s->number, "status",
			    wait_status),
		  NULL, 0);
	s->program = NULL;
}

static const char *argument(const struct stream *s, size_t i)
{
	const char *text =
		json_string_value(json_array_get(json_object_get(s->request, "argv"), i));

	return text ? text : "";
}

static void die_of_signal(struct stream *s, int signal)
{
	end(s, signal);
}

static void start_echo(struct stream *s)
{
	for (size_t i = 1; *argument(s, i); i++)
		print_line(s, AGENT_STDOUT, argument(s, i));
	print_line(s, AGENT_STDERR, "on stderr");
	end(s, 0);
}

static void start_exit(struct stream *s)
{
	end(s, atoi(argument(s, 1)) << 8);
}

static void start_killed(struct stream *s)
{
	end(s, atoi(argument(s, 1)));
}

static void start_nothing(struct stream *s)
{
	(void)s;
}

static void start_ready(struct stream *s)
{
	print_line(s, AGENT_STDOUT, "ready");
}

/* Gives the input back, byte for byte, and room for as much. */
static void input_cat(struct stream *s, const uint8_t *bytes, size_t len)
{
	if (!len) {
		end(s, 0);
		return;
	}
	if (len > AGENT_MAX_DATA || len > AGENT_WINDOW)
		record("too much at a time: %zu", len);
	print(s, AGENT_STDOUT, bytes, len);
	link_send(s->link,
		  json_pack("{s:s, s:I, s:i, s:I}", "ev", "credit", "stream", s->number, "channel",
			    AGENT_STDIN, "bytes", (json_int_t)len),
		  NULL, 0);
}

/* Never gives room: counts what comes all the same. */
static void input_full(struct stream *s, const uint8_t *bytes, size_t len)
{
	char line[64];

	(void)bytes;
	s->unacknowledged += len;
	if (s->unacknowledged > AGENT_WINDOW)
		record("beyond the window: %zu", s->unacknowledged);
	if (s->unacknowledged < AGENT_WINDOW && len)
		return;
	snprintf(line, sizeof(line), "%zu", s->unacknowledged);
	print_line(s, AGENT_STDOUT, line);
	end(s, 0);
}

/* Prints as many bytes as asked, as fast as the windows allow. */
static void flood(struct stream *s)
{
	static const uint8_t zeros[AGENT_MAX_DATA];

	while (s->flood && s->window) {
		size_t some = s->flood < sizeof(zeros) ? s->flood : sizeof(zeros);

		some = some < s->window ? some : s->window;
		print(s, AGENT_STDOUT, zeros, some);
		s->flood -= some;
	}
	if (!s->flood)
		end(s, 0);
}

static void start_flood(struct stream *s)
{
	s->flood = strtoul(argument(s, 1), NULL, 10);
	flood(s);
}

static void signal_trap(struct stream *s, int signal)
{
	char line[32];

	snprintf(line, sizeof(line), "signal %d", signal);
	print_line(s, AGENT_STDOUT, line);
	end(s, 42 << 8);
}

static void signal_ignored(struct stream *s, int signal)
{
	(void)signal;
	print_line(s, AGENT_STDOUT, "no");
}

static void start_vanish(struct stream *s)
{
	(void)s;
	_exit(1);
}

static void start_lost(struct stream *s)
{
	link_send(s->link,
		  json_pack("{s:s, s:s, s:s}", "ev", "lost", "vm", "h1.1", "reason",
			    "QEMU \x1b[31mended"),
		  NULL, 0);
}

static void start_files(struct stream *s)
{
	size_t i;
	json_t *line;

	json_array_foreach (puts_seen, i, line)
		print_line(s, AGENT_STDOUT, json_string_value(line));
	end(s, 0);
}

static void start_env(struct stream *s)
{
	_cleanup_free_ char *text = json_dumps(s->request, JSON_COMPACT | JSON_SORT_KEYS);

	print_line(s, AGENT_STDOUT, text);
	end(s, 0);
}

static void tell_clone(struct stream *s, json_t *event)
{
	json_object_set_new(event, "ev", json_string("clone"));
	link_send(s->link, event, NULL, 0);
}

/* Two clones: one does its work, one is lost; one prints. */
static void start_clones(struct stream *s)
{
	tell_clone(s, json_pack("{s:s, s:i, s:i, s:{s:i, s:i}, s:f}", "step", "ticket", "n", 3,
				"granted", 2, "hosts", "h1", 1, "h2", 1, "ms", 12.5));
	tell_clone(s, json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:i, s:i}", "step", "cloned", "op", 1,
				"n", 3, "granted", 2, "pause_ms", 9.25, "hold_ms", 0.5, "dead_pages",
				230403, "descriptor_bytes", 400000));
	for (int id = 1; id <= 2; id++)
		tell_clone(s, json_pack("{s:s, s:i, s:i, s:s, s:f}", "step", "running", "op", 1,
					"id", id, "host", id == 1 ? "h1" : "h2", "ms", 40.0 + id));
	tell_clone(s, json_pack("{s:s, s:i, s:i, s:s, s:f}", "step", "answered", "op", 1, "id", 2,
				"host", "h2", "ms", 63.0));
	link_send(s->link,
		  json_pack("{s:s, s:I, s:i, s:i}", "ev", "data", "stream", s->number, "channel",
			    AGENT_STDOUT, "clone", 2),
		  "from clone 2\n", 13);
	tell_clone(s, json_pack("{s:s, s:i, s:i, s:s, s:s, s:i, s:i, s:i, s:i}", "step", "ended",
				"op", 1, "id", 2, "host", "h2", "state", "exited", "status", 0,
				"faults", 7, "pages_fetched", 5, "bytes_fetched", 20480));
	tell_clone(s, json_pack("{s:s, s:i, s:i, s:s, s:s, s:s, s:i, s:i, s:i}", "step", "ended",
				"op", 1, "id", 1, "host", "h1", "state", "lost", "reason",
				"its host is gone", "faults", 0, "pages_fetched", 0,
				"bytes_fetched", 0));
	tell_clone(s, json_pack("{s:s, s:i, s:f}", "step", "joined", "op", 1, "join_ms", 3.0));
	end(s, 0);
}

static const struct program programs[] = {
	{ .name = "echo", .start = start_echo },
	{ .name = "exit", .start = start_exit },
	{ .name = "killed", .start = start_killed },
	{ .name = "cat", .start = start_nothing, .input = input_cat, .signal = die_of_signal },
	{ .name = "full", .start = start_nothing, .input = input_full, .signal = die_of_signal },
	{ .name = "flood", .start = start_flood, .credit = flood, .signal = die_of_signal },
	{ .name = "trap", .start = start_ready, .signal = signal_trap },
	{ .name = "stubborn", .start = start_ready, .signal = signal_ignored },
	{ .name = "vanish", .start = start_vanish },
	{ .name = "lost", .start = start_lost },
	{ .name = "files", .start = start_files },
	{ .name = "env", .start = start_env },
	{ .name = "clones", .start = start_clones },
};

/* ── Requests ── */

static struct stream *stream_new(struct link *link)
{
	struct stream *s = &streams[++last_stream % MAX_STREAMS];

	json_decref(s->request);
	free(s->path);
	*s = (struct stream){ .link = link, .number = last_stream, .window = AGENT_WINDOW };
	return s;
}

static struct stream *stream_of(const json_t *msg)
{
	json_int_t number = json_integer_value(json_object_get(msg, "stream"));
	struct stream *s = &streams[number % MAX_STREAMS];

	return s->number == number ? s : NULL;
}

static void stored(struct stream *s, const char *error)
{
	char line[1024];

	snprintf(line, sizeof(line), "%s %u", s->path, s->sum);
	json_array_append_new(puts_seen, json_string(line));
	link_send(s->link,
		  json_pack("{s:s, s:I, s:o}", "ev", "stored", "stream", s->number, "errno",
			    error ? json_string(error) : json_integer(0)),
		  NULL, 0);
}

static void op_hello(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *version = getenv("FAKE_VERSION");

	(void)bytes;
	(void)len;
	link_reply(link, msg,
		   json_pack("{s:i, s:s, s:s, s:s, s:i}", "version",
			     version ? atoi(version) : CONTROL_VERSION, "cluster", options.cluster,
			     "host", options.host, "accel", "tcg", "hosts", 1),
		   NULL, 0);
}

static void op_boot(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *name = json_string_value(json_object_get(msg, "name"));

	(void)bytes;
	(void)len;
	json_decref(puts_seen);
	puts_seen = json_array();
	if (name && !strcmp(name, "refused")) {
		link_refuse(link, msg, -ENOMEM, "no memory for the guests");
		return;
	}
	record("booted %lld%s", (long long)json_integer_value(json_object_get(msg, "mem_bytes")),
	       json_is_true(json_object_get(msg, "ipv6")) ? " ipv6" : "");
	link_send(link,
		  json_pack("{s:s, s:s, s:s}", "ev", "boot", "vm", "h1.1", "step", "starting"),
		  NULL, 0);
	link_send(link, json_pack("{s:s, s:s, s:s}", "ev", "boot", "vm", "h1.1", "step", "kernel"),
		  NULL, 0);
	if (name && !strcmp(name, "never"))
		return;
	link_send(link, json_pack("{s:s, s:s, s:s}", "ev", "boot", "vm", "h1.1", "step", "agent"),
		  NULL, 0);
	link_reply(link, msg, json_pack("{s:s}", "vm", "h1.1"), NULL, 0);
}

static void op_put(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *path = json_string_value(json_object_get(msg, "path"));
	struct stream *s = stream_new(link);

	(void)bytes;
	(void)len;
	if (asprintf(&s->path, "%s %llo %lld", path,
		     (unsigned long long)json_integer_value(json_object_get(msg, "mode")),
		     (long long)json_integer_value(json_object_get(msg, "length"))) < 0)
		abort();
	s->left = (uint64_t)json_integer_value(json_object_get(msg, "length"));
	link_reply(link, msg, json_pack("{s:I}", "stream", s->number), NULL, 0);
	if (strstr(path, "/full/"))
		stored(s, "ENOSPC");
	else if (!s->left)
		stored(s, NULL);
}

static void put_data(struct stream *s, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + bytes[i];
	s->left -= len;
	link_send(s->link,
		  json_pack("{s:s, s:I, s:i, s:I}", "ev", "credit", "stream", s->number, "channel",
			    AGENT_STDIN, "bytes", (json_int_t)len),
		  NULL, 0);
	if (!s->left)
		stored(s, NULL);
}

static void op_exec(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct stream *s = stream_new(link);

	(void)bytes;
	(void)len;
	s->request = json_incref(msg);
	link_reply(link, msg, json_pack("{s:I}", "stream", s->number), NULL, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
		if (!strcmp(programs[i].name, argument(s, 0)))
			s->program = &programs[i];
	}
	if (s->program)
		s->program->start(s);
	else
		end(s, 127 << 8);
}

static void op_data(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct stream *s = stream_of(msg);

	(void)link;
	if (s && s->path)
		put_data(s, bytes, len);
	else if (s && s->program && s->program->input)
		s->program->input(s, bytes, len);
}

static void op_credit(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct stream *s = stream_of(msg);

	(void)link;
	(void)bytes;
	(void)len;
	if (!s || json_object_get(msg, "clone") ||
	    json_integer_value(json_object_get(msg, "channel")) != AGENT_STDOUT)
		return;
	s->window += (size_t)json_integer_value(json_object_get(msg, "bytes"));
	if (s->window > AGENT_WINDOW)
		record("more room than there is: %zu", s->window);
	if (s->program && s->program->credit)
		s->program->credit(s);
}

static void op_signal(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct stream *s = stream_of(msg);
	int signal = (int)json_integer_value(json_object_get(msg, "signal"));

	(void)bytes;
	(void)len;
	record("signal %d", signal);
	link_reply(link, msg, NULL, NULL, 0);
	if (s && s->program && s->program->signal)
		s->program->signal(s, signal);
}

static void op_nothing(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	link_reply(link, msg, NULL, NULL, 0);
}

static void op_record(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	link_reply(link, msg,
		   json_pack("{s:{s:[{s:i, s:i}]}}", "record", "clones", "n", 3, "granted", 2),
		   NULL, 0);
}

static void op_destroy(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	record("destroyed");
	link_reply(link, msg, NULL, NULL, 0);
}

static void op_ps(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	link_reply(link, msg,
		   json_pack("{s:[{s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:s, s:i, s:I}]}", "vms",
			     "id", "h1.1", "name", "a\x1b[2Jb", "kind", "vm", "host", "h1", "state",
			     "running", "mem_bytes", (json_int_t)536870912, "cpus", 1, "address",
			     "10.0.0.1", "pid", 4711, "uptime_ms", (json_int_t)61000),
		   NULL, 0);
}

static void op_hosts(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	link_reply(link, msg,
		   json_pack("{s:[{s:s, s:s}]}", "hosts", "name", options.host, "state", "up"),
		   NULL, 0);
}

static void op_by_id(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *id = json_string_value(json_object_get(msg, "id"));

	(void)bytes;
	(void)len;
	if (id && !strcmp(id, "h1.1"))
		link_reply(link, msg,
			   json_pack("{s:s, s:I, s:{s:i}}", "id", id, "mem_bytes",
				     (json_int_t)1048576, "counters", "faults", 3),
			   NULL, 0);
	else
		link_refuse(link, msg, -ENOENT, "there is no VM %s", id);
}

static void op_shutdown(struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	record("shutdown");
	link_reply(link, msg, NULL, NULL, 0);
	if (!getenv("FAKE_STAYS"))
		event_base_loopexit(base, NULL);
}

static const struct {
	const char *name;
	void (*serve)(struct link *link, json_t *msg, const uint8_t *bytes, size_t len);
} ops[] = {
	{ "hello", op_hello },	     { "boot", op_boot },	{ "put", op_put },
	{ "exec", op_exec },	     { "data", op_data },	{ "credit", op_credit },
	{ "signal", op_signal },     { "winsize", op_nothing }, { "watch", op_nothing },
	{ "record", op_record },     { "destroy", op_destroy }, { "ps", op_ps },
	{ "hosts", op_hosts },	     { "show", op_by_id },	{ "kill", op_by_id },
	{ "shutdown", op_shutdown },
};

static void on_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *op = json_string_value(json_object_get(msg, "op"));

	(void)arg;
	for (unsigned i = 0; op && i < ARRAY_SIZE(ops); i++) {
		if (!strcmp(ops[i].name, op)) {
			ops[i].serve(link, msg, bytes, len);
			return;
		}
	}
	link_refuse(link, msg, -EINVAL, "unknown request");
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	(void)arg;
	(void)error;
	(void)why;
	for (unsigned i = 0; i < MAX_STREAMS; i++) {
		if (streams[i].link != link)
			continue;
		streams[i].program = NULL;
		streams[i].number = -1;
	}
	record("connection ended");
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
			  struct sockaddr *from, int len, void *arg)
{
	static const struct link_handler handler = { .message = on_message, .down = on_down };

	(void)listener;
	(void)from;
	(void)len;
	(void)arg;
	link_from_fd(base, fd, &handler, NULL);
}

/* ── Start ── */

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)state;
	switch (key) {
	case 'd': options.dir = arg; return 0;
	case 'h': options.host = arg; return 0;
	case 'c': options.cluster = arg; return 0;
	case 'm': options.mem = arg; return 0;
	case 'r': options.ready_fd = atoi(arg); return 0;
	default: return key < 128 && key > 32 ? 0 : ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option table[] = {
	{ "cluster", 'c', "X", 0, NULL, 0 },
	{ "host", 'h', "X", 0, NULL, 0 },
	{ "hosts", 'H', "X", 0, NULL, 0 },
	{ "key", 'k', "X", 0, NULL, 0 },
	{ "dir", 'd', "X", 0, NULL, 0 },
	{ "guest", 'g', "X", 0, NULL, 0 },
	{ "libexec-dir", 'l', "X", 0, NULL, 0 },
	{ "mem", 'm', "X", 0, NULL, 0 },
	{ "accel", 'a', "X", 0, NULL, 0 },
	{ "ready-fd", 'r', "X", 0, NULL, 0 },
	{ 0 },
};

int main(int argc, char **argv)
{
	static const struct argp argp = { .options = table, .parser = parse };
	const char *trouble = getenv("FAKE_START");
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	argp_parse(&argp, argc, argv, 0, NULL, &options);
	signal(SIGPIPE, SIG_IGN);
	if (trouble && !strcmp(trouble, "crash"))
		abort();
	if (trouble && !strcmp(trouble, "fail")) {
		fprintf(stderr, "a line of the log\n");
		dprintf(options.ready_fd, "the fuse is blown\n");
		return 1;
	}
	record("started %s %s mem=%s SF_CLUSTER=%s SF_HOST=%s", options.cluster, options.host,
	       options.mem ? options.mem : "-", getenv("SF_CLUSTER"), getenv("SF_HOST"));
	base = event_base_new();
	if (chdir(options.dir))
		return 1;
	strcpy(at.sun_path, CONTROL_SOCKET);
	if (!evconnlistener_new_bind(base, on_connection, NULL, LEV_OPT_CLOSE_ON_EXEC, 16,
				     (struct sockaddr *)&at, sizeof(at)))
		return 1;
	if (!trouble || strcmp(trouble, "mute"))
		dprintf(options.ready_fd, "k");
	event_base_dispatch(base);
	return 0;
}
