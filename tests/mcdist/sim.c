/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hosts, endpoints and time; what is between the hosts is in wire.c. */
#include "tests/mcdist/sim.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mcdist/world.h"

#define BUFFER_BYTES_PER_PAGE 12288u	/* as over UDP */
#define WINDOW_PAGES_MAX 512u

/* ── randomness ── */

static uint64_t mix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t sim_random(struct sim *sim, uint64_t below)
{
	return below ? mix(&sim->random) % below : 0;
}

/* What mcdist takes from libsodium comes from a seed too. */
static uint64_t sodium_state;

static const char *sodium_name(void)
{
	return "simulation";
}

static uint32_t sodium_number(void)
{
	return (uint32_t)mix(&sodium_state);
}

static void sodium_fill(void *const bytes, const size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)bytes)[i] = (uint8_t)mix(&sodium_state);
}

static struct randombytes_implementation sodium_numbers = {
	.implementation_name = sodium_name,
	.random = sodium_number,
	.buf = sodium_fill,
};

/* ── hosts ── */

struct sim_host_config sim_host_of_today(uint64_t bits_per_s)
{
	return (struct sim_host_config){
		.bits_per_s = bits_per_s,
		.delay_ns = 10000,
		.jitter_ns = 5000,
		.late_ns = 500000,
		.port_bytes = 1 << 20,
		.send_bytes = 4 << 20,
		.receive_bytes = 8 << 20,
		.receive_ns = 3000,
		.receive_kib_ns = 1500,
		.send_ns = 3000,
		.send_kib_ns = 1000,
	};
}

struct sim *sim_create(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	if (!sim)
		return NULL;
	sim->random = seed;
	TAILQ_INIT(&sim->waiting);
	STAILQ_INIT(&sim->free);
	sodium_state = ~seed;
	randombytes_set_implementation(&sodium_numbers);
	return sim;
}

static void endpoint_clear(struct sim_endpoint *ep)
{
	struct sim_delivery *d;

	while ((d = STAILQ_FIRST(&ep->received))) {
		STAILQ_REMOVE_HEAD(&ep->received, link);
		sim_delivery_free(ep->sim, d);
	}
	ep->received_bytes = 0;
}

void sim_destroy(struct sim *sim)
{
	if (!sim)
		return;
	for (uint32_t i = 0; i < sim->endpoint_count; i++)
		endpoint_clear(sim->endpoints[i]);
	sim_wire_fini(sim);
	sim_queue_fini(&sim->events);
	for (uint32_t i = 0; i < sim->endpoint_count; i++)
		free(sim->endpoints[i]);
	for (uint32_t i = 0; i < sim->host_count; i++)
		free(sim->hosts[i]);
	free(sim->endpoints);
	free(sim->hosts);
	free(sim);
}

/* Makes room for one more pointer. Return: false if there is no memory. */
static bool grow(void *array, uint32_t count)
{
	void ***pointers = array, **more;

	if (count & (count - 1))
		return true;	/* not full: it doubles */
	more = realloc(*pointers, (count ? 2 * (size_t)count : 1) * sizeof(void *));
	if (more)
		*pointers = more;
	return more;
}

uint32_t sim_host_add(struct sim *sim, const struct sim_host_config *config)
{
	struct sim_host *host;

	if (!grow(&sim->hosts, sim->host_count))
		return UINT32_MAX;
	host = calloc(1, sizeof(*host));
	if (!host)
		return UINT32_MAX;
	host->config = *config;
	host->on = true;
	sim->hosts[sim->host_count] = host;
	return sim->host_count++;
}

struct sim_host_config *sim_host_config(struct sim *sim, uint32_t host)
{
	return &sim->hosts[host]->config;
}

const struct sim_counters *sim_host_counters(const struct sim *sim, uint32_t host)
{
	return &sim->hosts[host]->counters;
}

uint64_t sim_now_ns(const struct sim *sim)
{
	return sim->now_ns;
}

struct sim_queue *sim_events(struct sim *sim)
{
	return &sim->events;
}

/* ── timers ── */

struct timer {
	LIST_ENTRY(timer) link;		/* of the endpoint */
	struct sim_event event;
	struct sim_endpoint *ep;
	struct mc_timer *timer;
	bool late;	/* the thread was busy when it was due; it is not held up twice */
};

static struct sim_endpoint *endpoint_of(const struct mc_transport *t)
{
	return (struct sim_endpoint *)((uintptr_t)t - offsetof(struct sim_endpoint, transport));
}

static void timer_fires(void *arg)
{
	struct timer *timer = arg;
	struct sim_endpoint *ep = timer->ep;

	if (!ep->host->on) {
		timer->event.at_ns = MC_NEVER;	/* it is due when the host is on again */
	} else if (ep->busy_ns > ep->sim->now_ns && !timer->late) {
		timer->late = true;
		sim_queue_set(&ep->sim->events, &timer->event, ep->busy_ns);
	} else {
		timer->late = false;
		timer->timer->fire(timer->timer->arg);
	}
}

static void endpoint_goes_on(struct sim_endpoint *ep)
{
	struct timer *timer;

	LIST_FOREACH(timer, &ep->timers, link) {
		if (!timer->event.place && timer->event.at_ns == MC_NEVER)
			sim_queue_set(&ep->sim->events, &timer->event, ep->sim->now_ns);
	}
	sim_endpoint_unblock(ep);
}

void sim_host_power(struct sim *sim, uint32_t host, bool on)
{
	sim->hosts[host]->on = on;
	for (uint32_t i = 0; on && i < sim->endpoint_count; i++) {
		if (sim->endpoints[i]->host == sim->hosts[host])
			endpoint_goes_on(sim->endpoints[i]);
	}
}

static int timer_set(struct mc_transport *t, struct mc_timer *timer, uint64_t at_ns)
{
	struct sim_endpoint *ep = endpoint_of(t);
	struct timer *own = timer->world;

	if (!own) {
		own = calloc(1, sizeof(*own));
		if (!own)
			return -ENOMEM;
		own->event.fire = timer_fires;
		own->event.arg = own;
		own->ep = ep;
		own->timer = timer;
		timer->world = own;
		LIST_INSERT_HEAD(&ep->timers, own, link);
	}
	sim_queue_unset(&ep->sim->events, &own->event);
	own->event.at_ns = 0;
	own->late = false;
	if (at_ns == MC_NEVER)
		return 0;
	return sim_queue_set(&ep->sim->events, &own->event,
			     at_ns > ep->sim->now_ns ? at_ns : ep->sim->now_ns);
}

static void timer_free(struct mc_transport *t, struct mc_timer *timer)
{
	struct timer *own = timer->world;

	if (!own)
		return;
	sim_queue_unset(&endpoint_of(t)->sim->events, &own->event);
	LIST_REMOVE(own, link);
	free(own);
	timer->world = NULL;
}

/* ── endpoints ── */

static uint64_t cost_ns(uint64_t each_ns, uint64_t kib_ns, size_t len)
{
	return each_ns + kib_ns * len / 1024;
}

static void endpoint_work_later(struct sim_endpoint *ep)
{
	const struct sim_host_config *config = &ep->host->config;
	struct sim_delivery *d = STAILQ_FIRST(&ep->received);
	uint64_t begin_ns = ep->busy_ns > ep->sim->now_ns ? ep->busy_ns : ep->sim->now_ns;

	if (!d || ep->work.place)
		return;
	ep->busy_ns = begin_ns +
		      cost_ns(config->receive_ns, config->receive_kib_ns, d->packet->len);
	sim_queue_set(&ep->sim->events, &ep->work, ep->busy_ns);
}

/* One datagram has been taken in: the endpoint sees it. */
static void endpoint_works(void *arg)
{
	struct sim_endpoint *ep = arg;
	struct sim_delivery *d = STAILQ_FIRST(&ep->received);

	if (!d)
		return;
	STAILQ_REMOVE_HEAD(&ep->received, link);
	ep->received_bytes -= sim_buffer_bytes(d->packet->len);
	if (ep->host->on && ep->transport.events) {
		memcpy(ep->sim->scratch, d->packet->bytes, d->packet->len);
		ep->transport.events->received(ep->transport.arg, &d->packet->from,
					       ep->sim->scratch, d->packet->len);
	}
	sim_delivery_free(ep->sim, d);
	endpoint_work_later(ep);
}

void sim_endpoint_unblock(struct sim_endpoint *ep)
{
	if (!ep->blocked || !ep->host->on || ep->send_bytes > ep->host->config.send_bytes / 2)
		return;
	ep->blocked = false;
	if (ep->transport.events)
		ep->transport.events->writable(ep->transport.arg);
}

void sim_endpoint_take(struct sim_endpoint *ep, struct sim_delivery *d)
{
	struct sim_host *host = ep->host;
	uint64_t bytes = sim_buffer_bytes(d->packet->len);

	if (!host->on || !ep->transport.events ||
	    ep->received_bytes + bytes > host->config.receive_bytes) {
		host->counters.overflowed_socket += host->on && ep->transport.events;
		sim_delivery_free(ep->sim, d);
		return;
	}
	ep->received_bytes += bytes;
	STAILQ_INSERT_TAIL(&ep->received, d, link);
	endpoint_work_later(ep);
}

static uint64_t now_ns(struct mc_transport *t)
{
	return endpoint_of(t)->sim->now_ns;
}

static int send_datagram(struct mc_transport *t, const struct mc_address *to, const void *bytes,
			 size_t len)
{
	struct sim_endpoint *ep = endpoint_of(t);
	const struct sim_host_config *config = &ep->host->config;
	uint64_t now = ep->sim->now_ns;
	int error;

	if (!ep->host->on)
		return -ENETDOWN;
	error = sim_wire_send(ep, to, bytes, len);
	if (error)
		return error;
	ep->busy_ns = (ep->busy_ns > now ? ep->busy_ns : now) +
		      cost_ns(config->send_ns, config->send_kib_ns, len);
	return 0;
}

static uint32_t window_pages(struct mc_transport *t)
{
	uint64_t pages = endpoint_of(t)->host->config.receive_bytes / BUFFER_BYTES_PER_PAGE;

	return pages < WINDOW_PAGES_MAX ? (uint32_t)pages : WINDOW_PAGES_MAX;
}

static uint64_t unsent_bytes(struct mc_transport *t)
{
	return endpoint_of(t)->send_bytes;
}

static const struct mc_transport_calls calls = {
	.now_ns = now_ns,
	.send = send_datagram,
	.join = sim_wire_join,
	.timer_set = timer_set,
	.timer_free = timer_free,
	.window_pages = window_pages,
	.unsent_bytes = unsent_bytes,
};

struct mc_transport *sim_endpoint_add(struct sim *sim, uint32_t host)
{
	struct sim_endpoint *ep;

	if (sim->endpoint_count >= UINT16_MAX || !grow(&sim->endpoints, sim->endpoint_count))
		return NULL;
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return NULL;
	ep->transport.calls = &calls;
	ep->sim = sim;
	ep->host = sim->hosts[host];
	ep->number = sim->endpoint_count;
	ep->work.fire = endpoint_works;
	ep->work.arg = ep;
	STAILQ_INIT(&ep->received);
	sim->endpoints[sim->endpoint_count++] = ep;
	return &ep->transport;
}

void sim_endpoint_forget(struct mc_transport *t)
{
	struct sim_endpoint *ep = endpoint_of(t);

	endpoint_clear(ep);
	sim_queue_unset(&ep->sim->events, &ep->work);
	sim_wire_leave(ep);
	ep->transport.events = NULL;
	ep->blocked = false;
	ep->busy_ns = 0;
}

struct sim_endpoint *sim_endpoint_of(const struct mc_transport *t)
{
	return endpoint_of(t);
}

/* ── time ── */

int sim_run(struct sim *sim, const bool *done, uint64_t until_ns)
{
	while (!*done) {
		struct sim_event *event = sim_queue_next(&sim->events);

		if (!event)
			return -EPIPE;
		if (event->at_ns > until_ns) {
			sim->now_ns = until_ns;
			sim_queue_set(&sim->events, event, event->at_ns);
			return -ETIMEDOUT;
		}
		sim->now_ns = event->at_ns;
		event->fire(event->arg);
	}
	return 0;
}
