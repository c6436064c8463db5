/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sends probes, listens for them, asks and answers who heard one.
 *
 * All questions that are open at a time are about one number, which is sent to the group again and
 * again until they are answered. A host remembers the last number of each other one, so it does
 * not matter whether a probe comes before the question or after it. The number is new for every
 * round: an old probe, sent again by whomever, answers nothing.
 */
#include "host/sfd/probe.h"

#include <endian.h>
#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/fields.h"
#include "host/sfd/hex.h"
#include "host/sfd/probe_wire.h"

#define SEND_EVERY_MS  40
#define ASK_AGAIN_S    60
#define PROBE_TTL      1 /* what is farther than the next router is not a wire of ours */

/* What we heard of another host, and its question if it is open. */
struct listening {
	struct daemon *daemon;
	uint64_t heard;	 /* the last number; 0: none */
	uint64_t wanted; /* that is asked about */
	struct peer_request *request; /* NULL: no question is open */
	struct event *limit;
};

struct probes {
	struct probe_cluster cluster;
	int in, out; /* -1: there is no multicast here */
	struct event *readable, *send, *again;
	uint64_t number; /* of the round */
	unsigned asked;	 /* questions of ours that are open */
	uint64_t dropped;
	struct listening *hosts; /* [index] */
};

/* ---- sockets ---- */

int probe_group_socket(const struct sockaddr_in *group)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof(off)) ||
	    bind(fd, (const struct sockaddr *)group, sizeof(*group)))
		return -errno;
	return steal_fd(&fd);
}

int probe_send_from(int fd, struct in_addr addr)
{
	int ttl = PROBE_TTL;

	return setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &addr, sizeof(addr)) ||
			       setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl))
		       ? -errno
		       : 0;
}

int probe_join(int fd, struct in_addr group, struct in_addr addr)
{
	struct ip_mreq member = { .imr_multiaddr = group, .imr_interface = addr };

	return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &member, sizeof(member)) ? -errno : 0;
}

static int out_socket(struct in_addr addr)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = addr };
	int rc = fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ? -errno : 0;

	if (!rc)
		rc = probe_send_from(fd, addr);
	return rc ? rc : steal_fd(&fd);
}

static int open_sockets(struct probes *p, struct in_addr addr)
{
	int rc;

	p->out = out_socket(addr);
	if (p->out < 0)
		return p->out;
	p->in = probe_group_socket(&p->cluster.group);
	rc = p->in < 0 ? p->in : probe_join(p->in, p->cluster.group.sin_addr, addr);
	if (rc && p->in >= 0)
		close(p->in);
	if (rc)
		p->in = -1;
	return rc;
}

/* ---- hearing ---- */

static void answer(struct listening *l, bool heard)
{
	evtimer_del(l->limit);
	peer_reply(steal_ptr(&l->request), json_pack("{sb}", "heard", heard));
}

static void take_probes(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct probes *p = d->probes;
	uint8_t bytes[PEER_PROBE_BYTES + 1];
	ssize_t len;

	(void)what;
	while ((len = recv(fd, bytes, sizeof(bytes), 0)) >= 0) {
		struct listening *l;
		uint64_t number;
		uint32_t host;

		if (probe_read(&p->cluster, bytes, (size_t)len, &host, &number) ||
		    host >= d->host_count) {
			if (!p->dropped++)
				log_warn("probes: one that is not of this cluster was dropped");
			continue;
		}
		l = &p->hosts[host];
		l->heard = number;
		if (l->request && l->wanted == number)
			answer(l, true);
	}
}

static void heard_nothing(evutil_socket_t fd, short what, void *arg)
{
	struct listening *l = arg;
	struct probes *p = l->daemon->probes;

	(void)fd;
	(void)what;
	if (p->in >= 0)
		take_probes(p->in, 0, l->daemon); /* a busy machine is not a deaf one */
	if (l->request)
		answer(l, false);
}

void probe_hear(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		size_t len)
{
	static const struct timeval limit = { PEER_HEAR_MS / 1000, PEER_HEAR_MS % 1000 * 1000 };
	struct listening *l = &d->probes->hosts[peer_from(r)->index];
	uint64_t number;

	(void)bytes;
	(void)len;
	if (hex_parse(field_text(msg, "number", ""), (uint8_t *)&number, sizeof(number))) {
		peer_refuse(r, -EINVAL, "a question without a number");
		return;
	}
	if (l->request)
		answer(l, false); /* it gave that question up */
	l->request = r;
	l->wanted = le64toh(number);
	if (d->probes->in < 0 || l->heard == l->wanted)
		answer(l, l->heard == l->wanted);
	else
		evtimer_add(l->limit, &limit);
}

/* ---- asking ---- */

static void send_probe(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval next = { 0, SEND_EVERY_MS * 1000 };
	struct daemon *d = arg;
	struct probes *p = d->probes;
	uint8_t bytes[PEER_PROBE_BYTES];

	(void)fd;
	(void)what;
	probe_write(&p->cluster, d->self->index, p->number, bytes);
	if (sendto(p->out, bytes, sizeof(bytes), 0, (struct sockaddr *)&p->cluster.group,
		   sizeof(p->cluster.group)) < 0)
		log_debug("probes: not sent: %s", strerror(errno));
	if (p->asked)
		evtimer_add(p->send, &next);
}

static void told_heard(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		       size_t len)
{
	struct host *host = arg;
	struct daemon *d = host->daemon;
	bool heard = false;

	(void)bytes;
	(void)len;
	if (!d->probes) /* we end */
		return;
	d->probes->asked--;
	if (!host->up)
		return;
	if (error)
		log_warn("host %s: does not tell whether it hears us: %s", host->name, why);
	else if (!field_bool(msg, "heard", &heard))
		log_warn("host %s: its answer makes no sense", host->name);
	if (!host->probed || host->hears != heard)
		log_info("host %s: %s our multicast", host->name, heard ? "hears" : "does not hear");
	host->hears = heard;
	host->probed = true;
	daemon_host_up(d);
}

void probe_ask(struct daemon *d, struct host *host)
{
	struct probes *p = d->probes;
	char text[2 * sizeof(p->number) + 1];
	uint64_t number;

	if (d->config.distribution != DISTRIBUTE_AUTO || host == d->self)
		return;
	if (p->out < 0) {
		host->probed = true;
		return;
	}
	if (!p->asked++) {
		randombytes_buf(&p->number, sizeof(p->number));
		event_active(p->send, EV_TIMEOUT, 0);
	}
	number = htole64(p->number);
	hex_print((uint8_t *)&number, sizeof(number), text);
	peer_call(host, json_pack("{ss ss}", "op", "hear", "number", text), NULL, 0, told_heard,
		  host);
}

static void ask_all_again(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < d->host_count; i++) {
		if (d->hosts[i].up && d->hosts[i].probed)
			probe_ask(d, &d->hosts[i]);
	}
}

bool probe_settled(const struct daemon *d)
{
	for (unsigned i = 0; i < d->host_count; i++) {
		const struct host *host = &d->hosts[i];

		if (host != d->self && host->up && !host->probed)
			return d->config.distribution != DISTRIBUTE_AUTO;
	}
	return true;
}

/* ---- all of it ---- */

static int make_events(struct daemon *d)
{
	static const struct timeval again = { ASK_AGAIN_S, 0 };
	struct probes *p = d->probes;

	p->hosts = calloc(d->host_count, sizeof(*p->hosts));
	p->send = evtimer_new(d->base, send_probe, d);
	p->again = event_new(d->base, -1, EV_PERSIST, ask_all_again, d);
	p->readable = event_new(d->base, p->in, EV_READ | EV_PERSIST, take_probes, d);
	if (!p->hosts || !p->send || !p->again || !p->readable)
		return -ENOMEM;
	for (unsigned i = 0; i < d->host_count; i++) {
		p->hosts[i].daemon = d;
		p->hosts[i].limit = evtimer_new(d->base, heard_nothing, &p->hosts[i]);
		if (!p->hosts[i].limit)
			return -ENOMEM;
	}
	event_add(p->again, &again);
	if (p->in >= 0)
		event_add(p->readable, NULL);
	return 0;
}

int probe_start(struct daemon *d)
{
	struct probes *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	d->probes = p;
	p->in = p->out = -1;
	probe_cluster_make(&p->cluster, d->config.cluster, d->key);
	rc = open_sockets(p, d->self->addr);
	if (rc)
		log_warn("probes: no multicast on this host: %s", strerror(-rc));
	return make_events(d);
}

void probe_stop(struct daemon *d)
{
	struct probes *p = d->probes;
	struct event *events[] = { p ? p->readable : NULL, p ? p->send : NULL, p ? p->again : NULL };

	if (!p)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		if (events[i])
			event_free(events[i]);
	}
	for (unsigned i = 0; p->hosts && i < d->host_count; i++) {
		if (p->hosts[i].limit)
			event_free(p->hosts[i].limit);
	}
	if (p->in >= 0)
		close(p->in);
	if (p->out >= 0)
		close(p->out);
	sodium_memzero(&p->cluster, sizeof(p->cluster));
	free(p->hosts);
	free(p);
	d->probes = NULL;
}
