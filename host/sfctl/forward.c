/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run --publish: connections, each joined to an `sf connect` in the guest.
 *
 * A connection lives until both of its sides have gone: its stream by the answer to exec or by the
 * exit of `sf connect`, its socket when all that came was written, or when it broke. Bytes are taken
 * from the socket as the guest has room for them, and room is given to the guest as the socket takes
 * its bytes, so that little waits here, however slow a side is.
 */
#include "host/sfctl/forward.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/cleanup.h"
#include "common/link.h"
#include "host/sfctl/text.h"
#include "proto/agent-port.h"

#define MAX_CONNECTIONS 64 /* at a time; more wait in the kernel's queue */
#define QUEUE 512
#define ENDPOINT_BYTES 80 /* "[address]:port" */

struct connection {
	LIST_ENTRY(connection) entry;
	struct forward *forward;
	struct bufferevent *socket; /* NULL: gone */
	int64_t stream;		    /* -1: not known yet */
	size_t window;		    /* bytes the guest takes */
	size_t owed;		    /* that came from the guest; room not yet given back */
	bool in_ended, in_told;	    /* the socket's end came; the guest was told */
	bool out_ended;		    /* the guest's end came */
	bool gone;		    /* the guest's side has ended */
};

struct listener {
	struct evconnlistener *socket;
	struct forward *forward;
	uint16_t guest_port;
};

struct forward {
	struct event_base *base;
	struct link *link; /* NULL: not yet, or no more */
	const char *vm;
	json_t *env;
	struct listener *listeners;
	unsigned listener_count;
	LIST_HEAD(, connection) connections;
	unsigned connection_count;
	char said[256]; /* the last complaint */
};

/* ── Options ── */

static bool parse_port(const char *text, unsigned least, uint16_t *port)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	*port = (uint16_t)number;
	return *text >= '0' && *text <= '9' && !*end && number >= least && number <= UINT16_MAX;
}

int publish_list_add(struct publish_list *list, const char *argument)
{
	_cleanup_free_ char *copy = strdup(argument), *endpoint = NULL;
	struct publish *ports = reallocarray(list->ports, list->count + 1, sizeof(*ports)), *p;
	char *colon = copy ? strrchr(copy, ':') : NULL, *before;
	uint16_t port;
	int len = sizeof(p->at);

	if (ports)
		list->ports = ports;
	if (!copy || !ports)
		return -ENOMEM;
	p = &ports[list->count];
	*p = (struct publish){ 0 };
	if (!colon || !parse_port(colon + 1, 1, &p->guest_port))
		return -EINVAL;
	*colon = 0;
	before = strrchr(copy, ':');
	if (!parse_port(before ? before + 1 : copy, 0, &port))
		return -EINVAL;
	if (before)
		*before = 0;
	if (asprintf(&endpoint, "%s:1", before ? copy : "127.0.0.1") < 0)
		return -ENOMEM;
	if (evutil_parse_sockaddr_port(endpoint, (struct sockaddr *)&p->at, &len))
		return -EINVAL;
	/* the port is at the same place in both families; 0 is the kernel's choice */
	((struct sockaddr_in *)&p->at)->sin_port = htons(port);
	p->at_len = (socklen_t)len;
	list->count++;
	return 0;
}

void publish_list_fini(struct publish_list *list)
{
	free(list->ports);
	*list = (struct publish_list){ 0 };
}

/* ── Connections ── */

/* Says something once, however many connections it is true of in a row. */
static void say_once(struct forward *f, const char *text, size_t len)
{
	const char *newline = memchr(text, '\n', len);
	char line[sizeof(f->said)];

	snprintf(line, sizeof(line), "%.*s", (int)(newline ? newline - text : (ssize_t)len), text);
	for (char *at = line; *at; at++)
		*at = (unsigned char)*at < ' ' || *at == 127 ? '?' : *at;
	if (!strcmp(line, f->said))
		return;
	memcpy(f->said, line, sizeof(line));
	complain("%s", line);
}

static void listeners_enable(struct forward *f)
{
	bool on = f->link && f->connection_count < MAX_CONNECTIONS;

	for (unsigned i = 0; i < f->listener_count; i++) {
		if (on)
			evconnlistener_enable(f->listeners[i].socket);
		else
			evconnlistener_disable(f->listeners[i].socket);
	}
}

static void socket_close(struct connection *c)
{
	if (c->socket)
		bufferevent_free(c->socket);
	c->socket = NULL;
}

/* Frees a connection of which both sides are gone. */
static void connection_settle(struct connection *c)
{
	struct forward *f = c->forward;

	if (c->socket || !c->gone)
		return;
	LIST_REMOVE(c, entry);
	f->connection_count--;
	free(c);
	listeners_enable(f);
}

static void on_signalled(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			 size_t len)
{
	(void)arg; /* the connection may be gone by now: nothing is to be done */
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
}

/* The socket is gone: `sf connect` need not go on. */
static void stream_end(struct connection *c)
{
	if (c->forward->link && c->stream >= 0 && !c->gone)
		link_call(c->forward->link,
			  json_pack("{s:s, s:I, s:i}", "op", "signal", "stream",
				    (json_int_t)c->stream, "signal", SIGTERM),
			  NULL, 0, on_signalled, NULL);
}

static void give_back(struct connection *c)
{
	if (c->owed && c->forward->link && !c->gone)
		link_send(c->forward->link,
			  json_pack("{s:s, s:I, s:i, s:I}", "op", "credit", "stream",
				    (json_int_t)c->stream, "channel", AGENT_STDOUT, "bytes",
				    (json_int_t)c->owed),
			  NULL, 0);
	c->owed = 0;
}

/* Sends to the guest what it has room for, and the end behind it. */
static void send_input(struct connection *c)
{
	struct evbuffer *in = c->socket ? bufferevent_get_input(c->socket) : NULL;
	uint8_t bytes[AGENT_MAX_DATA];

	if (!in || !c->forward->link || c->stream < 0 || c->gone)
		return;
	while (c->window && evbuffer_get_length(in)) {
		size_t room = c->window < sizeof(bytes) ? c->window : sizeof(bytes);
		int got = evbuffer_remove(in, bytes, room);

		if (got <= 0)
			return;
		c->window -= (size_t)got;
		link_send(c->forward->link,
			  json_pack("{s:s, s:I, s:i}", "op", "data", "stream",
				    (json_int_t)c->stream, "channel", AGENT_STDIN),
			  bytes, (size_t)got);
	}
	if (!c->in_ended || c->in_told || evbuffer_get_length(in))
		return;
	c->in_told = true;
	link_send(c->forward->link,
		  json_pack("{s:s, s:I, s:i}", "op", "data", "stream", (json_int_t)c->stream,
			    "channel", AGENT_STDIN),
		  NULL, 0);
}

static void on_readable(struct bufferevent *socket, void *arg)
{
	(void)socket;
	send_input(arg);
}

/* All that came was written: the guest has room again, or there is nothing more to come. */
static void on_written(struct bufferevent *socket, void *arg)
{
	struct connection *c = arg;

	give_back(c);
	if (c->gone) {
		socket_close(c);
		connection_settle(c);
	} else if (c->out_ended) {
		shutdown(bufferevent_getfd(socket), SHUT_WR);
	}
}

/* The socket's end: of what it sends, or of all. */
static void on_end(struct bufferevent *socket, short what, void *arg)
{
	struct connection *c = arg;

	(void)socket;
	if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING)) {
		c->in_ended = true;
		send_input(c);
		return;
	}
	socket_close(c);
	stream_end(c);
	give_back(c);
	connection_settle(c);
}

/* The guest's side is gone: the socket goes when what waits is written. */
static void stream_gone(struct connection *c)
{
	c->gone = true;
	if (c->socket && !evbuffer_get_length(bufferevent_get_output(c->socket)))
		socket_close(c);
	connection_settle(c);
}

static void on_exec(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	struct connection *c = arg;

	(void)bytes;
	(void)len;
	if (error) {
		if (error != -ECONNRESET && c->forward->link)
			say_once(c->forward, why, strlen(why));
		stream_gone(c);
		return;
	}
	c->stream = json_integer_value(json_object_get(msg, "stream"));
	if (c->socket)
		send_input(c);
	else
		stream_end(c);
}

/* Runs `sf connect` in the guest. Return: 0 or -errno. */
static int connection_open(struct connection *c, uint16_t guest_port)
{
	char port[8];

	snprintf(port, sizeof(port), "%u", guest_port);
	return link_call(c->forward->link,
			 json_pack("{s:s, s:s, s:[s,s,s], s:O, s:s, s:n}", "op", "exec", "vm",
				   c->forward->vm, "argv", "sf", "connect", port, "env",
				   c->forward->env, "cwd", "/", "tty"),
			 NULL, 0, on_exec, c);
}

static void on_connection(struct evconnlistener *socket, evutil_socket_t fd,
			  struct sockaddr *address, int len, void *arg)
{
	struct listener *listener = arg;
	struct forward *f = listener->forward;
	struct connection *c = calloc(1, sizeof(*c));

	(void)socket;
	(void)address;
	(void)len;
	if (!c) {
		evutil_closesocket(fd);
		return;
	}
	*c = (struct connection){ .forward = f, .stream = -1, .window = AGENT_WINDOW };
	LIST_INSERT_HEAD(&f->connections, c, entry);
	f->connection_count++;
	c->socket = bufferevent_socket_new(f->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->socket)
		evutil_closesocket(fd);
	if (!c->socket || connection_open(c, listener->guest_port)) {
		socket_close(c);
		stream_gone(c);
		return;
	}
	bufferevent_setcb(c->socket, on_readable, on_written, on_end, c);
	/* so much may wait here */
	bufferevent_setwatermark(c->socket, EV_READ, 0, AGENT_MAX_DATA);
	bufferevent_enable(c->socket, EV_READ | EV_WRITE);
	listeners_enable(f);
}

/* ── Events ── */

static struct connection *find(struct forward *f, int64_t stream)
{
	struct connection *c = NULL;

	if (f && stream >= 0)
		LIST_FOREACH(c, &f->connections, entry)
			if (c->stream == stream)
				break;
	return c;
}

void forward_data(struct forward *f, int64_t stream, int channel, const uint8_t *bytes, size_t len)
{
	struct connection *c = find(f, stream);

	if (c && channel == AGENT_STDERR && len)
		say_once(f, (const char *)bytes, len);
	if (!c || channel != AGENT_STDOUT)
		return;
	c->owed += len;
	if (!c->socket) {
		give_back(c);
	} else if (len) {
		bufferevent_write(c->socket, bytes, len);
	} else {
		c->out_ended = true;
		if (!evbuffer_get_length(bufferevent_get_output(c->socket)))
			shutdown(bufferevent_getfd(c->socket), SHUT_WR);
	}
}

void forward_credit(struct forward *f, int64_t stream, size_t bytes)
{
	struct connection *c = find(f, stream);

	if (!c)
		return;
	c->window += bytes;
	send_input(c);
}

void forward_exited(struct forward *f, int64_t stream)
{
	struct connection *c = find(f, stream);

	if (c)
		stream_gone(c);
}

/* ── Life ── */

static void endpoint_text(evutil_socket_t fd, char text[ENDPOINT_BYTES])
{
	struct sockaddr_storage at = { 0 };
	socklen_t len = sizeof(at);
	char address[64] = "?";
	bool six;

	getsockname(fd, (struct sockaddr *)&at, &len);
	six = at.ss_family == AF_INET6;
	evutil_inet_ntop(at.ss_family,
			 six ? (void *)&((struct sockaddr_in6 *)&at)->sin6_addr
			     : (void *)&((struct sockaddr_in *)&at)->sin_addr,
			 address, sizeof(address));
	snprintf(text, ENDPOINT_BYTES, six ? "[%s]:%u" : "%s:%u", address,
		 ntohs(((struct sockaddr_in *)&at)->sin_port));
}

static bool listener_init(struct listener *l, struct forward *f, const struct publish *p)
{
	int error;

	*l = (struct listener){ .forward = f, .guest_port = p->guest_port };
	l->socket = evconnlistener_new_bind(
		f->base, on_connection, l,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE | LEV_OPT_DISABLED,
		QUEUE, (const struct sockaddr *)&p->at, (int)p->at_len);
	error = errno;
	if (!l->socket)
		complain("cannot publish port %u of the VM as port %u here: %s", p->guest_port,
			 ntohs(((const struct sockaddr_in *)&p->at)->sin_port), strerror(error));
	return l->socket;
}

struct forward *forward_new(struct event_base *base, const struct publish_list *list)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (!f || !(f->listeners = calloc(list->count + 1, sizeof(*f->listeners)))) {
		complain("no memory");
		free(f);
		return NULL;
	}
	f->base = base;
	LIST_INIT(&f->connections);
	for (; f->listener_count < list->count; f->listener_count++) {
		if (!listener_init(&f->listeners[f->listener_count], f,
				   &list->ports[f->listener_count])) {
			forward_free(f);
			return NULL;
		}
	}
	return f;
}

void forward_start(struct forward *f, struct link *link, const char *vm, json_t *env)
{
	f->link = link;
	f->vm = vm;
	f->env = env;
	listeners_enable(f);
}

void forward_stop(struct forward *f)
{
	struct connection *c, *next;

	if (!f)
		return;
	f->link = NULL;
	for (unsigned i = 0; i < f->listener_count; i++)
		evconnlistener_free(f->listeners[i].socket);
	f->listener_count = 0;
	for (c = LIST_FIRST(&f->connections); c; c = next) {
		next = LIST_NEXT(c, entry);
		socket_close(c);
		connection_settle(c);
	}
}

void forward_free(struct forward *f)
{
	struct connection *c;

	if (!f)
		return;
	forward_stop(f);
	while ((c = LIST_FIRST(&f->connections))) {
		LIST_REMOVE(c, entry);
		free(c);
	}
	free(f->listeners);
	free(f);
}

bool forward_tell(const struct forward *f, unsigned which, char *text, size_t bytes)
{
	char endpoint[ENDPOINT_BYTES];

	if (which >= f->listener_count)
		return false;
	endpoint_text(evconnlistener_get_fd(f->listeners[which].socket), endpoint);
	snprintf(text, bytes, "%s leads to port %u of the VM", endpoint,
		 f->listeners[which].guest_port);
	return true;
}
