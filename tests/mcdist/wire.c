/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the hosts: NICs, links, the switch with its ports and groups. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mcdist/world.h"

#define FRAME_DATA_BYTES 1480u	/* of IP's payload, MTU 1500 */
#define FRAME_MORE_BYTES 58u	/* IP, Ethernet, preamble, gap */
#define FRAME_BUFFER_BYTES 2304u	/* what a frame takes of a socket's buffer */
#define UDP_BYTES 8u
#define MAX_UDP_BYTES 65507u

static uint64_t frames(size_t len)
{
	return (len + UDP_BYTES + FRAME_DATA_BYTES - 1) / FRAME_DATA_BYTES;
}

static uint64_t wire_bytes(size_t len)
{
	return len + UDP_BYTES + frames(len) * FRAME_MORE_BYTES;
}

uint64_t sim_buffer_bytes(size_t len)
{
	return frames(len) * FRAME_BUFFER_BYTES;
}

static uint64_t wire_ns(const struct sim_host *host, uint64_t bytes)
{
	return bytes * 8 * 1000000000ull / host->config.bits_per_s;
}

/* ── addresses: 10.0/16 and the endpoint's number as the port; 239.0/16 for groups ── */

static struct mc_address address(uint32_t ip, uint16_t port)
{
	struct mc_address a = { .len = sizeof(struct sockaddr_in6) };
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a.at;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
	ip = htonl(ip);
	memcpy(&in6->sin6_addr.s6_addr[12], &ip, sizeof(ip));
	return a;
}

struct mc_address sim_endpoint_address(const struct mc_transport *t)
{
	uint32_t number = sim_endpoint_of(t)->number;

	return address(0x0a000000u + number, (uint16_t)(number + 1));
}

struct mc_address sim_group_address(uint16_t group)
{
	return address(0xef000000u + group, 1);
}

/* Return: the group's number, or -1 if it is an endpoint's address. */
static int group_of(const struct mc_address *a)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->at;
	const uint8_t *ip = &in6->sin6_addr.s6_addr[12];

	return ip[0] == 0xef ? (ip[2] << 8 | ip[3]) % (int)SIM_GROUPS : -1;
}

static struct sim_endpoint *endpoint_at(const struct sim *sim, const struct mc_address *a)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->at;
	uint32_t number = ntohs(in6->sin6_port) - 1u;

	return number < sim->endpoint_count ? sim->endpoints[number] : NULL;
}

/* ── groups ── */

static void group_leave(struct sim_group *g, const struct sim_endpoint *ep)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < g->count; i++) {
		if (g->members[i] != ep)
			g->members[kept++] = g->members[i];
	}
	g->count = kept;
}

int sim_wire_join(struct mc_transport *t, const struct mc_address *group, bool member)
{
	struct sim_endpoint *ep = sim_endpoint_of(t);
	int number = group_of(group);
	struct sim_group *g;

	if (number < 0)
		return -EINVAL;
	g = &ep->sim->groups[number];
	group_leave(g, ep);
	if (!member)
		return 0;
	if (g->count == g->room) {
		uint32_t room = g->room ? 2 * g->room : 16;
		struct sim_endpoint **more = realloc(g->members, room * sizeof(g->members[0]));

		if (!more)
			return -ENOMEM;
		g->members = more;
		g->room = room;
	}
	g->members[g->count++] = ep;
	return 0;
}

void sim_wire_leave(struct sim_endpoint *ep)
{
	for (unsigned i = 0; i < SIM_GROUPS; i++)
		group_leave(&ep->sim->groups[i], ep);
}

/* ── datagrams ── */

static void packet_put(struct sim_packet *p)
{
	if (--p->users == 0)
		free(p);
}

void sim_delivery_free(struct sim *sim, struct sim_delivery *d)
{
	packet_put(d->packet);
	STAILQ_INSERT_HEAD(&sim->free, d, link);
}

static void arrives(void *arg)
{
	struct sim_delivery *d = arg;

	sim_endpoint_take(d->to, d);
}

static void deliver(struct sim_endpoint *to, struct sim_packet *packet, uint64_t at_ns)
{
	struct sim *sim = to->sim;
	struct sim_delivery *d = STAILQ_FIRST(&sim->free);

	if (d)
		STAILQ_REMOVE_HEAD(&sim->free, link);
	else
		d = calloc(1, sizeof(*d));
	if (!d)
		return;	/* lost */
	d->arrives.fire = arrives;
	d->arrives.arg = d;
	d->packet = packet;
	d->to = to;
	packet->users++;
	if (sim_queue_set(&sim->events, &d->arrives, at_ns))
		sim_delivery_free(sim, d);
}

static bool happens(struct sim *sim, uint32_t ppm)
{
	return ppm && sim_random(sim, SIM_MILLION) < ppm;
}

/* A datagram goes out of the port to a host. Return: when it is there; 0: never. */
static uint64_t through_port(struct sim *sim, struct sim_host *host, uint64_t at_ns, size_t len)
{
	const struct sim_host_config *config = &host->config;
	uint64_t bytes = wire_bytes(len);

	if (host->port_ns < at_ns)
		host->port_ns = at_ns;
	if (host->port_ns - at_ns + wire_ns(host, bytes) > wire_ns(host, config->port_bytes)) {
		host->counters.overflowed_port++;
		return 0;
	}
	host->port_ns += wire_ns(host, bytes);
	host->counters.received_bytes += bytes;
	host->counters.received_datagrams++;
	if (happens(sim, config->loss_ppm)) {
		host->counters.lost++;
		return 0;
	}
	at_ns = host->port_ns + config->delay_ns + sim_random(sim, config->jitter_ns);
	return happens(sim, config->late_ppm) ? at_ns + config->late_ns : at_ns;
}

static void forward(struct sim_endpoint *to, struct sim_packet *packet, uint64_t at_ns)
{
	struct sim_host *host = to->host;
	struct sim *sim = to->sim;

	if (host->packet != packet->number) {
		host->packet = packet->number;
		host->packet_ns = through_port(sim, host, at_ns, packet->len);
	}
	if (!host->packet_ns)
		return;
	deliver(to, packet, host->packet_ns);
	if (happens(sim, host->config.duplicate_ppm))
		deliver(to, packet, host->packet_ns + sim_random(sim, host->config.late_ns));
}

/* It is out of its host: the switch copies it. */
static void has_been_sent(void *arg)
{
	struct sim_packet *packet = arg;
	struct sim_endpoint *from = packet->sender, *to;
	struct sim *sim = from->sim;
	uint64_t at_ns = sim->now_ns + from->host->config.delay_ns;
	int group = group_of(&packet->to);

	TAILQ_REMOVE(&sim->waiting, packet, link);
	from->send_bytes -= sim_buffer_bytes(packet->len);
	if (group >= 0) {
		for (uint32_t i = 0; i < sim->groups[group].count; i++) {
			to = sim->groups[group].members[i];
			if (to != from && !to->host->config.deaf)
				forward(to, packet, at_ns);
		}
	} else {
		to = endpoint_at(sim, &packet->to);
		if (to)
			forward(to, packet, at_ns);
	}
	packet_put(packet);
	sim_endpoint_unblock(from);
}

int sim_wire_send(struct sim_endpoint *ep, const struct mc_address *to, const void *bytes,
		  size_t len)
{
	struct sim_host *host = ep->host;
	struct sim *sim = ep->sim;
	uint64_t begin_ns = host->sent_ns > sim->now_ns ? host->sent_ns : sim->now_ns;
	struct sim_packet *p;

	if (len > MC_MAX_DATAGRAM || len > MAX_UDP_BYTES)
		return -EMSGSIZE;
	if (ep->send_bytes + sim_buffer_bytes(len) > host->config.send_bytes) {
		ep->blocked = true;
		return -EAGAIN;
	}
	p = malloc(sizeof(*p) + len);
	if (!p)
		return -ENOBUFS;
	*p = (struct sim_packet){ .number = ++sim->packets, .users = 1, .sender = ep, .len = len };
	p->from = sim_endpoint_address(&ep->transport);
	p->to = *to;
	p->sent.fire = has_been_sent;
	p->sent.arg = p;
	memcpy(p->bytes, bytes, len);
	host->sent_ns = begin_ns + wire_ns(host, wire_bytes(len));
	if (sim_queue_set(&sim->events, &p->sent, host->sent_ns)) {
		free(p);
		return -ENOBUFS;
	}
	TAILQ_INSERT_TAIL(&sim->waiting, p, link);
	ep->send_bytes += sim_buffer_bytes(len);
	host->counters.sent_bytes += wire_bytes(len);
	host->counters.sent_datagrams++;
	return 0;
}

/* Datagrams under way end with the world; their events are in the queue still. */
void sim_wire_fini(struct sim *sim)
{
	struct sim_packet *p;
	struct sim_event *event;
	struct sim_delivery *d;

	while ((p = TAILQ_FIRST(&sim->waiting))) {
		TAILQ_REMOVE(&sim->waiting, p, link);
		sim_queue_unset(&sim->events, &p->sent);
		packet_put(p);
	}
	while ((event = sim_queue_next(&sim->events))) {
		if (event->fire == arrives)
			sim_delivery_free(sim, event->arg);
	}
	while ((d = STAILQ_FIRST(&sim->free))) {
		STAILQ_REMOVE_HEAD(&sim->free, link);
		free(d);
	}
	for (unsigned i = 0; i < SIM_GROUPS; i++)
		free(sim->groups[i].members);
}
