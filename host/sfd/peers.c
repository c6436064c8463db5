/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links between the daemons.
 *
 * Each daemon has one link out to every other, on which it asks, and one in from every other, on
 * which it answers. A link out that breaks is made again after PEER_RETRY_US. Requests to ourselves
 * take the same handlers by way of the event loop.
 */
#include "host/sfd/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/guest.h"
#include "host/sfd/hosts.h"
#include "host/sfd/listing.h"
#include "proto/peer.h"

#define PEER_RETRY_US 200000

/* A link that somebody made to us; `host` is known after its hello. */
struct incoming {
	struct daemon *daemon;
	struct host *host;
	struct link *link;
	LIST_ENTRY(incoming) entry;
};

struct peer_request {
	struct daemon *daemon;
	struct host *from;
	struct link *link;	/* NULL: ourselves, or the link is gone */
	json_t *msg;
	link_done *done;	/* ourselves */
	void *arg;
	LIST_ENTRY(peer_request) entry;
};

/* A message to ourselves on its way through the loop. */
struct local {
	struct daemon *daemon;
	json_t *msg;
	link_done *done;	/* NULL: an event */
	void *arg;
	size_t len;
	uint8_t bytes[];
};

/* A call that cannot be sent, answered from the loop. */
struct failed_call {
	link_done *done;
	void *arg;
};

static struct evconnlistener *listener;
static LIST_HEAD(, incoming) incomings = LIST_HEAD_INITIALIZER(incomings);
static LIST_HEAD(, peer_request) requests = LIST_HEAD_INITIALIZER(requests);

/* Requests: each answers `r`, now or later. */
static const struct request_handler {
	const char *op;
	void (*handle)(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		       size_t len);
} request_handlers[] = {
	{ "room", listing_room },
	{ "vms", listing_vms },
	{ "reserve", clones_reserve },
	{ "start", clones_start },
	{ "kill", clones_kill },
	{ "release", clones_release },
	{ "dismiss", clones_dismiss },
	{ "output", guest_output },
};

static const struct event_handler {
	const char *ev;
	void (*handle)(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes, size_t len);
} event_handlers[] = {
	{ "running", guest_clone_running },
	{ "result", guest_clone_result },
	{ "ended", guest_clone_ended },
};

static void request_free(struct peer_request *r)
{
	LIST_REMOVE(r, entry);
	json_decref(r->msg);
	free(r);
}

struct host *peer_from(const struct peer_request *r)
{
	return r->from;
}

void peer_reply(struct peer_request *r, json_t *msg)
{
	if (r->done) {
		json_t *answer = msg ? msg : json_object();

		r->done(r->arg, 0, NULL, answer, NULL, 0);
		json_decref(answer);
	} else if (r->link) {
		link_reply(r->link, r->msg, msg, NULL, 0);
	} else {
		json_decref(msg);
	}
	request_free(r);
}

void peer_refuse(struct peer_request *r, int error, const char *format, ...)
{
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (r->done)
		r->done(r->arg, error, why, NULL, NULL, 0);
	else if (r->link)
		link_refuse(r->link, r->msg, error, "%s", why);
	request_free(r);
}

/* Hands a message to its handler. `done` is set for a request of our own. */
static void dispatch(struct daemon *d, struct host *from, struct link *link, json_t *msg,
		     const uint8_t *bytes, size_t len, link_done *done, void *arg)
{
	const char *op = json_string_value(json_object_get(msg, "op"));
	const char *ev = json_string_value(json_object_get(msg, "ev"));
	struct peer_request *r;

	for (size_t i = 0; ev && i < sizeof(event_handlers) / sizeof(event_handlers[0]); i++) {
		if (!strcmp(ev, event_handlers[i].ev)) {
			event_handlers[i].handle(d, from, msg, bytes, len);
			return;
		}
	}
	if (!op) {
		log_warn("host %s: unknown event \"%s\"", from->name, ev ? ev : "");
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		if (link)
			link_refuse(link, msg, -ENOMEM, "out of memory");
		return;
	}
	*r = (struct peer_request){ .daemon = d, .from = from, .link = link, .msg = json_incref(msg),
				    .done = done, .arg = arg };
	LIST_INSERT_HEAD(&requests, r, entry);
	for (size_t i = 0; i < sizeof(request_handlers) / sizeof(request_handlers[0]); i++) {
		if (!strcmp(op, request_handlers[i].op)) {
			request_handlers[i].handle(d, r, msg, bytes, len);
			return;
		}
	}
	peer_refuse(r, -EINVAL, "unknown request \"%s\"", op);
}

/* ---- ourselves ---- */

static void deliver_local(evutil_socket_t fd, short what, void *arg)
{
	struct local *l = arg;

	(void)fd;
	(void)what;
	dispatch(l->daemon, l->daemon->self, NULL, l->msg, l->bytes, l->len, l->done, l->arg);
	json_decref(l->msg);
	free(l);
}

static void send_local(struct daemon *d, json_t *msg, const void *bytes, size_t len, link_done *done,
		       void *arg)
{
	static const struct timeval now = { 0, 0 };
	struct local *l = calloc(1, sizeof(*l) + len);

	if (!l)
		abort();	/* a promise to call done cannot be kept in any way */
	l->daemon = d;
	l->msg = msg;
	l->done = done;
	l->arg = arg;
	l->len = len;
	if (len)
		memcpy(l->bytes, bytes, len);
	event_base_once(d->base, -1, EV_TIMEOUT, deliver_local, l, &now);
}

static void deliver_failed(evutil_socket_t fd, short what, void *arg)
{
	struct failed_call *f = arg;

	(void)fd;
	(void)what;
	f->done(f->arg, -EHOSTDOWN, "the host is down", NULL, NULL, 0);
	free(f);
}

static void fail_later(struct daemon *d, link_done *done, void *arg)
{
	static const struct timeval now = { 0, 0 };
	struct failed_call *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->done = done;
	f->arg = arg;
	event_base_once(d->base, -1, EV_TIMEOUT, deliver_failed, f, &now);
}

void peer_call(struct host *to, json_t *msg, const void *bytes, size_t len, link_done *done, void *arg)
{
	if (to == to->daemon->self) {
		send_local(to->daemon, msg, bytes, len, done, arg);
	} else if (!to->out || !to->up) {
		json_decref(msg);
		fail_later(to->daemon, done, arg);
	} else if (link_call(to->out, msg, bytes, len, done, arg)) {
		fail_later(to->daemon, done, arg);
	}
}

void peer_send(struct host *to, json_t *msg, const void *bytes, size_t len)
{
	if (to == to->daemon->self)
		send_local(to->daemon, msg, bytes, len, NULL, NULL);
	else if (to->out && to->up)
		link_send(to->out, msg, bytes, len);
	else
		json_decref(msg);
}

/* ---- links in ---- */

static json_t *introduction(const struct daemon *d)
{
	return json_pack("{si ss ss ss ss sI}", "version", PEER_VERSION, "cluster", d->config.cluster,
			 "host", d->self->name, "accel", vmm_accel_name(d->config.accel), "cpu",
			 vmm_cpu_model(d->config.accel), "mem_bytes", (json_int_t)d->mem_bytes);
}

/* Checks a hello. Return: the host it is from, or NULL with a sentence. */
static struct host *check_hello(struct daemon *d, json_t *msg, char why[WHY_BYTES])
{
	const char *cluster, *name, *accel, *cpu;
	struct host *host;
	int version;

	if (json_unpack(msg, "{si ss ss ss ss}", "version", &version, "cluster", &cluster, "host", &name,
			"accel", &accel, "cpu", &cpu)) {
		snprintf(why, WHY_BYTES, "not a hello");
		return NULL;
	}
	host = hosts_find(d, name);
	if (version != PEER_VERSION)
		snprintf(why, WHY_BYTES, "it speaks version %d, we speak %d", version, PEER_VERSION);
	else if (strcmp(cluster, d->config.cluster))
		snprintf(why, WHY_BYTES, "it is of cluster \"%s\", we are of \"%s\"", cluster,
			 d->config.cluster);
	else if (!host || host == d->self)
		snprintf(why, WHY_BYTES, "host \"%s\" is not another one in our hosts file", name);
	else if (strcmp(accel, vmm_accel_name(d->config.accel)) ||
		 strcmp(cpu, vmm_cpu_model(d->config.accel)))
		snprintf(why, WHY_BYTES,
			 "it offers CPU %s on %s, we %s on %s: clones could not move between them "
			 "(choose one --accel for all hosts)",
			 cpu, accel, vmm_cpu_model(d->config.accel), vmm_accel_name(d->config.accel));
	else
		return host;
	return NULL;
}

static void incoming_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct incoming *in = arg;
	const char *op = json_string_value(json_object_get(msg, "op"));
	char why[WHY_BYTES];

	if (in->host) {
		dispatch(in->daemon, in->host, link, msg, bytes, len, NULL, NULL);
		return;
	}
	if (!op || strcmp(op, "hello")) {
		link_refuse(link, msg, -EPROTO, "say hello first");
		return;
	}
	in->host = check_hello(in->daemon, msg, why);
	if (!in->host) {
		log_warn("peers: refused a host: %s", why);
		link_refuse(link, msg, -EINVAL, "%s", why);
		return;
	}
	in->host->in = link;
	link_reply(link, msg, introduction(in->daemon), NULL, 0);
}

static void incoming_down(void *arg, struct link *link, int error, const char *why)
{
	struct incoming *in = arg;
	struct peer_request *r;

	LIST_REMOVE(in, entry);
	LIST_FOREACH(r, &requests, entry) {
		if (r->link == link)
			r->link = NULL;
	}
	if (in->host && in->host->in == link) {
		in->host->in = NULL;
		log_info("host %s: gone (%s)", in->host->name, why ? why : strerror(-error));
		clones_home_lost(in->daemon, in->host);
	} else if (!in->host && error) {
		log_warn("peers: a connection failed: %s", why ? why : strerror(-error));
	}
	free(in);
}

static const struct link_handler incoming_handler = { .message = incoming_message, .down = incoming_down };

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len, void *arg)
{
	struct daemon *d = arg;
	struct incoming *in = calloc(1, sizeof(*in));

	(void)l;
	(void)from;
	(void)len;
	if (in)
		in->link = link_accept_tls(d->base, fd, d->key, &incoming_handler, in);
	if (!in || !in->link) {
		evutil_closesocket(fd);
		free(in);
		return;
	}
	in->daemon = d;
	LIST_INSERT_HEAD(&incomings, in, entry);
}

/* ---- links out ---- */

static void connect_host(struct host *host);

static void hello_answered(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct host *host = arg;
	json_int_t mem_bytes = 0;

	(void)bytes;
	(void)len;
	if (error) {
		if (error != -ECONNRESET)
			log_err("host %s: refused us: %s", host->name, why);
		return;
	}
	json_unpack(msg, "{s?I}", "mem_bytes", &mem_bytes);
	host->mem_bytes = (uint64_t)mem_bytes;
	host->accel = host->daemon->config.accel;
	host->up = true;
	log_info("host %s: up", host->name);
}

static void outgoing_up(void *arg, struct link *link)
{
	struct host *host = arg;
	json_t *hello = introduction(host->daemon);

	json_object_set_new(hello, "op", json_string("hello"));
	link_call(link, hello, NULL, 0, hello_answered, host);
}

static void outgoing_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct host *host = arg;

	(void)link;
	(void)msg;
	(void)bytes;
	(void)len;
	log_warn("host %s: a message on the link that we made", host->name);
}

static void outgoing_down(void *arg, struct link *link, int error, const char *why)
{
	static const struct timeval retry = { 0, PEER_RETRY_US };
	struct host *host = arg;

	(void)link;
	host->out = NULL;
	if (host->up) {
		host->up = false;
		log_warn("host %s: lost (%s)", host->name, why ? why : strerror(-error));
		guest_host_lost(host->daemon, host);
	} else {
		log_debug("host %s: not there (%s)", host->name, why ? why : strerror(-error));
	}
	if (!host->daemon->stopping)
		event_add(host->retry, &retry);
}

static const struct link_handler outgoing_handler = {
	.message = outgoing_message, .up = outgoing_up, .down = outgoing_down,
};

static void retry_host(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	connect_host(arg);
}

static void connect_host(struct host *host)
{
	static const struct timeval retry = { 0, PEER_RETRY_US };
	struct daemon *d = host->daemon;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = host->addr,
				  .sin_port = htons(host->port) };
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr = d->self->addr };

	host->out = link_connect_tls(d->base, (struct sockaddr *)&to, sizeof(to), (struct sockaddr *)&local,
				     sizeof(local), d->key, &outgoing_handler, host);
	if (!host->out)
		event_add(host->retry, &retry);
}

int peers_start(struct daemon *d, char why[WHY_BYTES])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = d->self->addr,
				  .sin_port = htons(d->self->port) };

	listener = evconnlistener_new_bind(d->base, accepted, d,
					   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
					   128, (struct sockaddr *)&at, sizeof(at));
	if (!listener) {
		int rc = -errno;

		snprintf(why, WHY_BYTES, "cannot listen on %s port %u: %s", inet_ntoa(d->self->addr),
			 d->self->port, strerror(errno));
		return rc;
	}
	d->self->up = true;
	d->self->mem_bytes = d->mem_bytes;
	d->self->accel = d->config.accel;
	for (unsigned i = 0; i < d->host_count; i++) {
		struct host *host = &d->hosts[i];

		if (host == d->self)
			continue;
		host->retry = evtimer_new(d->base, retry_host, host);
		connect_host(host);
	}
	return 0;
}

void peers_stop(struct daemon *d)
{
	struct incoming *in;

	if (listener)
		evconnlistener_free(listener);
	listener = NULL;
	for (unsigned i = 0; i < d->host_count; i++) {
		if (d->hosts[i].out)
			link_close(d->hosts[i].out);
		if (d->hosts[i].retry)
			event_free(d->hosts[i].retry);
		d->hosts[i].out = NULL;
		d->hosts[i].retry = NULL;
		d->hosts[i].up = false;
	}
	while ((in = LIST_FIRST(&incomings))) {
		LIST_REMOVE(in, entry);
		link_close(in->link);
		free(in);
	}
}

unsigned peers_up(const struct daemon *d)
{
	unsigned up = 0;

	for (unsigned i = 0; i < d->host_count; i++)
		up += d->hosts[i].up;
	return up;
}

bool peers_complete(const struct daemon *d)
{
	return peers_up(d) == d->host_count;
}
