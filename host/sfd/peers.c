/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links between the daemons.
 *
 * Each daemon has one link out to every other, on which it asks, and one in from every other, on
 * which it answers. A link out that breaks is made again, at first soon, then ever more seldom.
 *
 * A host whose machine or network is gone is noticed by TCP. A daemon that hangs is not: its kernel
 * goes on acknowledging. So every second each daemon asks every other one whether it is alive, and
 * one that was not heard of for PEER_SILENT_S seconds, on either link, is lost.
 */
#include "host/sfd/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/family.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"
#include "host/sfd/hosts.h"
#include "host/sfd/peer_call.h"
#include "host/sfd/probe.h"
#include "proto/peer.h"

#define PEER_RETRY_MS	      200   /* doubled with every failure, to … */
#define PEER_RETRY_MAX_MS     1600  /* … this for a host that is not there, */
#define PEER_RETRY_REFUSED_MS 12800 /* and this for one that has another key */
#define PEER_SILENT_S	      6
#define PEER_MAX_STRANGERS    64 /* links in without a hello, at a time */
#define PEER_COMPLAIN_S	      10 /* between two lines in the log about strangers */

/* A link that somebody made to us; `host` is known after its hello. */
struct incoming {
	struct daemon *daemon;
	struct host *host;
	struct link *link;
	struct in_addr addr;
	LIST_ENTRY(incoming) entry;
};

struct peers {
	struct evconnlistener *listener;
	struct event *tick;
	LIST_HEAD(, incoming) incomings;
	unsigned strangers;
	uint64_t complained_ns;
	unsigned unsaid; /* complaints since then */
};

/* ---- links in ---- */

/* A stranger may try as often as he likes: that must not fill the log. */
static void complain(struct peers *p, struct in_addr from, const char *why)
{
	uint64_t now = io_now_ns();

	if (p->complained_ns && now - p->complained_ns < PEER_COMPLAIN_S * 1000000000ull) {
		p->unsaid++;
		return;
	}
	log_warn("peers: refused a connection from %s: %s (%u more since the last line about it)",
		 inet_ntoa(from), why, p->unsaid);
	p->complained_ns = now;
	p->unsaid = 0;
}

static void incoming_free(struct incoming *in)
{
	if (!in->host)
		in->daemon->peers->strangers--;
	LIST_REMOVE(in, entry);
	free(in);
}

static json_t *introduction(const struct daemon *d)
{
	return json_pack("{si ss ss ss ss sI}", "version", PEER_VERSION, "cluster",
			 d->config.cluster, "host", d->self->name, "accel",
			 vmm_accel_name(d->config.accel), "cpu", vmm_cpu_model(d->config.accel),
			 "mem_bytes", (json_int_t)d->mem_bytes);
}

/* Checks a hello. Return: the host it is from, or NULL with a sentence. */
static struct host *check_hello(struct daemon *d, json_t *msg, char why[WHY_BYTES])
{
	const char *cluster = field_text(msg, "cluster", ""), *name = field_text(msg, "host", "");
	const char *accel = field_text(msg, "accel", ""), *cpu = field_text(msg, "cpu", "");
	struct host *host = hosts_find(d, name);
	uint64_t version = field_or(msg, "version", 0);

	if (version != PEER_VERSION)
		snprintf(why, WHY_BYTES, "it speaks version %llu, we speak %d",
			 (unsigned long long)version, PEER_VERSION);
	else if (strcmp(cluster, d->config.cluster))
		snprintf(why, WHY_BYTES, "it is of cluster \"%.40s\", we are of \"%s\"", cluster,
			 d->config.cluster);
	else if (!host || host == d->self)
		snprintf(why, WHY_BYTES, "host \"%.63s\" is not another one in our hosts file",
			 name);
	else if (strcmp(accel, vmm_accel_name(d->config.accel)) ||
		 strcmp(cpu, vmm_cpu_model(d->config.accel)))
		snprintf(why, WHY_BYTES,
			 "it offers CPU %.40s on %.8s, we %s on %s: clones could not move between "
			 "them "
			 "(choose one --accel for all hosts)",
			 cpu, accel, vmm_cpu_model(d->config.accel),
			 vmm_accel_name(d->config.accel));
	else
		return host;
	return NULL;
}

/* The host made another link, so the one it had is dead, whatever TCP still hopes. */
static void replace_incoming(struct daemon *d, struct host *host)
{
	struct incoming *in;

	LIST_FOREACH(in, &d->peers->incomings, entry) {
		if (in->host != host || in->link != host->in)
			continue;
		host->in = NULL;
		log_info("host %s: connects again", host->name);
		peer_requests_orphan(d, in->link);
		link_close(in->link);
		incoming_free(in);
		clones_home_lost(d, host);
		return;
	}
}

static void serve_hello(struct incoming *in, json_t *msg)
{
	struct daemon *d = in->daemon;
	char why[WHY_BYTES];
	struct host *host = check_hello(d, msg, why);

	if (!host) {
		complain(d->peers, in->addr, why);
		link_refuse(in->link, msg, -EINVAL, "%s", why);
		return;
	}
	if (host->in)
		replace_incoming(d, host);
	d->peers->strangers--;
	in->host = host;
	host->in = in->link;
	host->silent_s = 0;
	link_reply(in->link, msg, introduction(d), NULL, 0);
}

static void incoming_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes,
			     size_t len)
{
	struct incoming *in = arg;

	if (in->host) {
		in->host->heard = true;
		peer_dispatch(in->daemon, in->host, link, msg, bytes, len);
	} else if (strcmp(field_text(msg, "op", ""), "hello")) {
		link_refuse(link, msg, -EPROTO, "say hello first");
	} else {
		serve_hello(in, msg);
	}
}

static void incoming_down(void *arg, struct link *link, int error, const char *why)
{
	struct incoming *in = arg;
	struct daemon *d = in->daemon;
	struct host *host = in->host;
	bool current = host && host->in == link;

	peer_requests_orphan(d, link);
	if (!host && error)
		complain(d->peers, in->addr, why);
	incoming_free(in);
	if (!current)
		return;
	host->in = NULL;
	log_info("host %s: gone (%s)", host->name, why);
	clones_home_lost(d, host);
}

static const struct link_handler incoming_handler = { .message = incoming_message,
						      .down = incoming_down };

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
{
	struct daemon *d = arg;
	struct incoming *in =
		d->peers->strangers < PEER_MAX_STRANGERS ? calloc(1, sizeof(*in)) : NULL;

	(void)l;
	(void)len;
	if (in)
		in->link = link_accept_tls(d->base, fd, d->key, &incoming_handler, in);
	if (!in || !in->link) {
		evutil_closesocket(fd);
		free(in);
		return;
	}
	in->daemon = d;
	in->addr = ((struct sockaddr_in *)from)->sin_addr;
	LIST_INSERT_HEAD(&d->peers->incomings, in, entry);
	d->peers->strangers++;
}

/* ---- links out ---- */

static void retry_later(struct host *host, unsigned max_ms)
{
	struct timeval later;

	host->retry_ms = host->retry_ms * 2 < max_ms ? host->retry_ms * 2 : max_ms;
	later = (struct timeval){ host->retry_ms / 1000, host->retry_ms % 1000 * 1000 };
	event_add(host->retry, &later);
}

static void hello_answered(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			   size_t len)
{
	struct host *host = arg;

	(void)bytes;
	(void)len;
	if (error) {
		if (error !=
		    -ECONNRESET) /* it stays connected: nothing changes until it is restarted */
			log_err("host %s: refused us: %s", host->name, why);
		return;
	}
	host->mem_bytes = field_or(msg, "mem_bytes", 0);
	host->accel = host->daemon->config.accel;
	host->retry_ms = PEER_RETRY_MS / 2;
	host->up = true;
	log_info("host %s: up", host->name);
	family_host_up(host->daemon, host);
	probe_ask(host->daemon, host);
	daemon_host_up(host->daemon);
}

static void outgoing_up(void *arg, struct link *link)
{
	struct host *host = arg;
	json_t *hello = introduction(host->daemon);

	host->silent_s = 0;
	json_object_set_new(hello, "op", json_string("hello"));
	link_call(link, hello, NULL, 0, hello_answered, host);
}

static void outgoing_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes,
			     size_t len)
{
	struct host *host = arg;

	(void)msg;
	(void)bytes;
	(void)len;
	log_warn("host %s: a message on the link that we made", host->name);
	link_break(link, -EPROTO, "it spoke out of turn");
}

static void outgoing_down(void *arg, struct link *link, int error, const char *why)
{
	struct host *host = arg;

	(void)link;
	host->out = NULL;
	host->silent_s = 0;
	if (host->up) {
		host->up = host->probed = host->hears = false;
		log_warn("host %s: lost (%s)", host->name, why);
		family_host_lost(host->daemon, host);
		guest_host_lost(host->daemon, host);
	} else if (error == -EACCES && host->retry_ms < PEER_RETRY_REFUSED_MS) {
		log_warn("host %s: %s", host->name, why);
	} else {
		log_debug("host %s: not there (%s)", host->name, why);
	}
	if (!host->daemon->stopping)
		retry_later(host, error == -EACCES ? PEER_RETRY_REFUSED_MS : PEER_RETRY_MAX_MS);
}

static const struct link_handler outgoing_handler = {
	.message = outgoing_message,
	.up = outgoing_up,
	.down = outgoing_down,
};

static void connect_host(evutil_socket_t fd, short what, void *arg)
{
	struct host *host = arg;
	struct daemon *d = host->daemon;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr = host->addr,
				  .sin_port = htons(host->port) };
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr = d->self->addr };

	(void)fd;
	(void)what;
	host->out = link_connect_tls(d->base, (struct sockaddr *)&to, sizeof(to),
				     (struct sockaddr *)&local, sizeof(local), d->key,
				     &outgoing_handler, host);
	if (!host->out)
		retry_later(host, PEER_RETRY_MAX_MS);
}

/* ---- who is alive ---- */

static void alive_answered(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			   size_t len)
{
	struct host *host = arg;

	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
	if (!error)
		host->heard = true;
}

static void look_at_host(struct host *host)
{
	static const char why[] = "its daemon does not answer";

	if (!host->out && !host->in)
		return;
	host->silent_s = host->heard ? 0 : host->silent_s + 1;
	host->heard = false;
	if (host->silent_s < PEER_SILENT_S) {
		if (host->up)
			peer_call(host, json_pack("{ss}", "op", "alive"), NULL, 0, alive_answered,
				  host);
		return;
	}
	host->silent_s = 0;
	if (host->out)
		link_break(host->out, -ETIMEDOUT, why);
	if (host->in)
		link_break(host->in, -ETIMEDOUT, why);
}

/* Once a second of ours: when we hang ourselves nobody else is to blame. */
static void tick(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < d->host_count; i++) {
		if (&d->hosts[i] != d->self)
			look_at_host(&d->hosts[i]);
	}
}

/* ---- all of it ---- */

static int listen_for_peers(struct daemon *d, char why[WHY_BYTES])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr = d->self->addr,
				  .sin_port = htons(d->self->port) };
	int rc;

	d->peers->listener = evconnlistener_new_bind(d->base, accepted, d,
						     LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
							     LEV_OPT_REUSEABLE,
						     128, (struct sockaddr *)&at, sizeof(at));
	if (d->peers->listener)
		return 0;
	rc = -errno;
	snprintf(why, WHY_BYTES,
		 "cannot listen on %s port %u: %s (is another daemon of this host running?)",
		 inet_ntoa(d->self->addr), d->self->port, strerror(errno));
	return rc;
}

int peers_start(struct daemon *d, char why[WHY_BYTES])
{
	static const struct timeval second = { 1, 0 };
	struct peers *p = calloc(1, sizeof(*p));
	int rc;

	d->peers = p;
	d->calls = peer_calls_new(d);
	if (p)
		p->tick = event_new(d->base, -1, EV_PERSIST, tick, d);
	if (!p || !d->calls || !p->tick) {
		snprintf(why, WHY_BYTES, "out of memory");
		return -ENOMEM;
	}
	LIST_INIT(&p->incomings);
	rc = listen_for_peers(d, why);
	if (rc)
		return rc;
	event_add(p->tick, &second);
	d->self->up = true;
	d->self->mem_bytes = d->mem_bytes;
	d->self->accel = d->config.accel;
	for (unsigned i = 0; i < d->host_count; i++) {
		struct host *host = &d->hosts[i];

		if (host == d->self)
			continue;
		host->retry_ms = PEER_RETRY_MS / 2;
		host->retry = evtimer_new(d->base, connect_host, host);
		if (!host->retry)
			return -ENOMEM;
		connect_host(-1, 0, host);
	}
	return 0;
}

void peers_stop(struct daemon *d)
{
	struct incoming *in;

	if (!d->peers)
		return;
	if (d->peers->listener)
		evconnlistener_free(d->peers->listener);
	d->peers->listener = NULL;
	if (d->peers->tick)
		event_free(d->peers->tick);
	d->peers->tick = NULL;
	for (unsigned i = 0; i < d->host_count; i++) {
		struct host *host = &d->hosts[i];

		link_close(host->out);
		if (host->retry)
			event_free(host->retry);
		host->out = host->in = NULL;
		host->retry = NULL;
		host->up = false;
	}
	while ((in = LIST_FIRST(&d->peers->incomings))) {
		peer_requests_orphan(d, in->link);
		link_close(in->link);
		incoming_free(in);
	}
}

void peers_free(struct daemon *d)
{
	peer_calls_free(d->calls);
	d->calls = NULL;
	free(d->peers);
	d->peers = NULL;
}

bool peers_complete(const struct daemon *d)
{
	for (unsigned i = 0; i < d->host_count; i++) {
		if (!d->hosts[i].up)
			return false;
	}
	return true;
}
