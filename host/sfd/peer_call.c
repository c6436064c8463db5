/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sends calls and follows them to their one answer; hands requests to who serves them. */
#include "host/sfd/peer_call.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/guest.h"
#include "host/sfd/listing.h"
#include "host/sfd/probe.h"

/* A call of ours that has no answer yet. */
struct call {
	link_done *done;
	void *arg;
	LIST_ENTRY(call) entry;
};

/* What the loop is to deliver: a message to ourselves, or that a host is down. */
struct delivery {
	json_t *msg;	   /* NULL: the call's host is down */
	struct call *call; /* NULL: an event */
	size_t len;
	TAILQ_ENTRY(delivery) entry;
	uint8_t bytes[];
};

struct peer_request {
	struct host *from;
	struct link *link; /* NULL: ourselves, or the link is gone */
	struct call *call; /* ours, from ourselves */
	json_t *msg;
	LIST_ENTRY(peer_request) entry;
};

struct peer_calls {
	struct daemon *daemon;
	LIST_HEAD(, call) open;
	LIST_HEAD(, peer_request) requests;
	TAILQ_HEAD(, delivery) deliveries;
	unsigned delivery_count;
	struct event *deliver;
};

static void serve_alive(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
			size_t len)
{
	(void)d;
	(void)msg;
	(void)bytes;
	(void)len;
	peer_reply(r, NULL);
}

/* Requests: each answers `r`, now or later. */
static const struct request_handler {
	const char *op;
	void (*handle)(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		       size_t len);
} request_handlers[] = {
	{ "alive", serve_alive },      { "room", listing_room },      { "vms", listing_vms },
	{ "reserve", clones_reserve }, { "start", clones_start },     { "kill", clones_kill },
	{ "release", clones_release }, { "dismiss", clones_dismiss }, { "output", guest_output },
	{ "hear", probe_hear },        { "memory", listing_memory },
};

static const struct event_handler {
	const char *ev;
	void (*handle)(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
		       size_t len);
} event_handlers[] = {
	{ "running", guest_clone_running },
	{ "result", guest_clone_result },
	{ "ended", guest_clone_ended },
};

/* ---- requests ---- */

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

static void call_answered(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			  size_t len)
{
	struct call *call = arg;
	link_done *done = call->done;
	void *done_arg = call->arg;

	LIST_REMOVE(call, entry);
	free(call);
	done(done_arg, error, why, msg, bytes, len);
}

void peer_reply(struct peer_request *r, json_t *msg)
{
	struct call *call = r->call;

	if (r->link)
		link_reply(r->link, r->msg, json_incref(msg), NULL, 0);
	request_free(r);
	if (call) {
		json_t *answer = msg ? msg : json_object();

		call_answered(call, 0, NULL, answer, NULL, 0);
		if (!msg)
			json_decref(answer);
	}
	json_decref(msg);
}

void peer_refuse(struct peer_request *r, int error, const char *format, ...)
{
	struct call *call = r->call;
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (r->link)
		link_refuse(r->link, r->msg, error, "%s", why);
	request_free(r);
	if (call)
		call_answered(call, error, why, NULL, NULL, 0);
}

void peer_requests_orphan(struct daemon *d, struct link *link)
{
	struct peer_request *r;

	LIST_FOREACH(r, &d->calls->requests, entry) {
		if (r->link == link)
			r->link = NULL;
	}
}

static void dispatch_request(struct daemon *d, struct host *from, struct link *link,
			     struct call *call, const char *op, json_t *msg, const uint8_t *bytes,
			     size_t len)
{
	struct peer_request *r = calloc(1, sizeof(*r));

	if (!r)
		abort(); /* the promise of an answer cannot be kept in any way */
	*r = (struct peer_request){
		.from = from, .link = link, .call = call, .msg = json_incref(msg)
	};
	LIST_INSERT_HEAD(&d->calls->requests, r, entry);
	for (size_t i = 0; i < ARRAY_SIZE(request_handlers); i++) {
		if (!strcmp(op, request_handlers[i].op)) {
			request_handlers[i].handle(d, r, msg, bytes, len);
			return;
		}
	}
	peer_refuse(r, -EINVAL, "unknown request \"%.40s\"", op);
}

static void dispatch(struct daemon *d, struct host *from, struct link *link, struct call *call,
		     json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *op = json_string_value(json_object_get(msg, "op"));
	const char *ev = json_string_value(json_object_get(msg, "ev"));

	if (op) {
		dispatch_request(d, from, link, call, op, msg, bytes, len);
		return;
	}
	for (size_t i = 0; ev && i < ARRAY_SIZE(event_handlers); i++) {
		if (!strcmp(ev, event_handlers[i].ev)) {
			event_handlers[i].handle(d, from, msg, bytes, len);
			return;
		}
	}
	log_warn("host %s: unknown event \"%.40s\"", from->name, ev ? ev : "");
}

void peer_dispatch(struct daemon *d, struct host *from, struct link *link, json_t *msg,
		   const uint8_t *bytes, size_t len)
{
	dispatch(d, from, link, NULL, msg, bytes, len);
}

/* ---- calls ---- */

static void deliver_one(struct peer_calls *calls, struct delivery *y)
{
	struct daemon *d = calls->daemon;

	if (y->msg)
		dispatch(d, d->self, NULL, y->call, y->msg, y->bytes, y->len);
	else
		call_answered(y->call, -EHOSTDOWN, "the host is down", NULL, NULL, 0);
	json_decref(y->msg);
	free(y);
}

/* Delivers what waits now; what that leads to has its turn later. */
static void deliver(evutil_socket_t fd, short what, void *arg)
{
	struct peer_calls *calls = arg;
	unsigned count = calls->delivery_count;

	(void)fd;
	(void)what;
	while (count--) {
		struct delivery *y = TAILQ_FIRST(&calls->deliveries);

		TAILQ_REMOVE(&calls->deliveries, y, entry);
		calls->delivery_count--;
		deliver_one(calls, y);
	}
}

static void deliver_later(struct peer_calls *calls, struct call *call, json_t *msg,
			  const void *bytes, size_t len)
{
	struct delivery *y = calloc(1, sizeof(*y) + len);

	if (!y)
		abort(); /* see dispatch_request() */
	y->call = call;
	y->msg = msg;
	y->len = len;
	if (len)
		memcpy(y->bytes, bytes, len);
	TAILQ_INSERT_TAIL(&calls->deliveries, y, entry);
	calls->delivery_count++;
	event_active(calls->deliver, EV_TIMEOUT, 0);
}

void peer_call(struct host *to, json_t *msg, const void *bytes, size_t len, link_done *done,
	       void *arg)
{
	struct peer_calls *calls = to->daemon->calls;
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		abort();
	*call = (struct call){ .done = done, .arg = arg };
	LIST_INSERT_HEAD(&calls->open, call, entry);
	if (to == to->daemon->self) {
		deliver_later(calls, call, msg, bytes, len);
		return;
	}
	if (to->out && to->up && !link_call(to->out, msg, bytes, len, call_answered, call))
		return;
	if (!to->out || !to->up)
		json_decref(msg);
	deliver_later(calls, call, NULL, NULL, 0);
}

void peer_send(struct host *to, json_t *msg, const void *bytes, size_t len)
{
	if (to == to->daemon->self)
		deliver_later(to->daemon->calls, NULL, msg, bytes, len);
	else if (to->out && to->up)
		link_send(to->out, msg, bytes, len);
	else
		json_decref(msg);
}

struct peer_calls *peer_calls_new(struct daemon *d)
{
	struct peer_calls *calls = calloc(1, sizeof(*calls));

	if (!calls)
		return NULL;
	calls->daemon = d;
	calls->deliver = event_new(d->base, -1, 0, deliver, calls);
	if (!calls->deliver) {
		free(calls);
		return NULL;
	}
	LIST_INIT(&calls->open);
	LIST_INIT(&calls->requests);
	TAILQ_INIT(&calls->deliveries);
	return calls;
}

void peer_calls_free(struct peer_calls *calls)
{
	struct peer_request *r;
	struct delivery *y;
	struct call *call;

	if (!calls)
		return;
	while ((y = TAILQ_FIRST(&calls->deliveries))) {
		TAILQ_REMOVE(&calls->deliveries, y, entry);
		json_decref(y->msg);
		free(y);
	}
	while ((r = LIST_FIRST(&calls->requests)))
		request_free(r);
	while ((call = LIST_FIRST(&calls->open)))
		call_answered(call, -ECANCELED, "this daemon ends", NULL, NULL, 0);
	event_free(calls->deliver);
	free(calls);
}
