/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of what comes over UDP: bytes as they are, and bodies of all kinds behind an authentic
 * seal, into an endpoint that serves one snapshot and fetches another.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/mcdist/mcdist.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/udp.h"
#include "host/mcdist/wire.h"
#include "tests/memtap/fuzz.h"

#define PAGES 100u
#define SERVED 1u
#define FETCHED 2u

static struct event_base *base;
static struct mc_transport *udp;
static struct mc_endpoint *endpoint;
static struct sockaddr_in address;
static struct mc_counters counters;
static struct mc_want wants[PAGES];
static struct mc_fetch *fetch;
static struct mc_seal seals[2];
static int sock;

static int read_page(void *arg, uint64_t gfn, uint8_t page[MC_PAGE_BYTES])
{
	(void)arg;
	if (gfn >= PAGES)
		abort();
	memset(page, (int)gfn, MC_PAGE_BYTES);
	return gfn % 3 ? 1 : 0;
}

static size_t wake(void *arg, const struct mc_span **spans)
{
	static const struct mc_span few[] = { { 1, 8, 0 }, { 90, 1, 0 }, { 99, 1, 0 } };

	(void)arg;
	*spans = few;
	return ARRAY_SIZE(few);
}

static void asked(void *arg, const struct mc_span *span)
{
	(void)arg;
	if (span->gfn >= PAGES || span->gfn + span->pages > PAGES)
		abort();
}

static void arrived(void *arg, const struct mc_arrival *a)
{
	volatile uint8_t sum = 0;

	(void)arg;
	if (a->gfn >= PAGES)
		abort();
	for (unsigned i = 0; a->page && i < MC_PAGE_BYTES; i++)
		sum ^= a->page[i];
	mc_fetch_done(fetch, &wants[a->gfn], true);
}

static void pushed(void *arg)
{
	(void)arg;
}

static uint32_t lacks(void *arg)
{
	(void)arg;
	return PAGES;
}

static void start(void)
{
	static const struct mc_fetch_calls fetch_calls = { .arrived = arrived,
							   .read_page = read_page,
							   .asked = asked,
							   .pushed = pushed,
							   .lacks = lacks };
	static struct mc_address places[2];
	static const struct mc_way tree = { .mode = MC_TREE, .node = 1, .nodes = 2,
					    .places = places };
	static struct mc_way group = { .mode = MC_MULTICAST, .nodes = 2, .places = places,
				       .push_pages_per_s = 1000, .compress = true };
	static const struct mc_server_calls calls = { read_page, asked, wake };
	struct mc_snapshot served = { .number = SERVED, .pages = PAGES };
	struct mc_snapshot fetched = { .number = FETCHED, .pages = PAGES };
	struct sockaddr_in6 from = { .sin6_family = AF_INET6 };
	socklen_t len = sizeof(address);
	int mine = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address = (struct sockaddr_in){ .sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	base = event_base_new();
	if (sodium_init() < 0 || bind(mine, (struct sockaddr *)&address, len) < 0 ||
	    getsockname(mine, (struct sockaddr *)&address, &len) < 0)
		abort();
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &from.sin6_addr);
	from.sin6_port = address.sin_port;	/* its requests come back to it */
	udp = mc_udp_create(base, mine, -1);
	if (!udp || !mc_udp_address(udp, &from, &places[0]))
		abort();
	places[1] = group.group = places[0];
	endpoint = mc_endpoint_create(udp, &counters);
	fetch = mc_fetch_create(endpoint, &fetched, &tree, &fetch_calls, NULL);
	if (!fetch || !mc_server_create(endpoint, &served, &group, &calls, NULL))
		abort();
	mc_seal_init(&seals[0], SERVED, served.key, false);
	mc_seal_init(&seals[1], FETCHED, fetched.key, false);
}

/* A body that is right, or nearly. Return: its length. */
static size_t make_body(struct fuzz_input *in, enum mc_type type, uint8_t *body)
{
	size_t len = 0, data = 0;

	if (type == MC_PAGES) {
		struct mc_pages head = { fuzz_number(in), (uint32_t)fuzz_number(in),
					 (uint32_t)fuzz_number(in) };

		memcpy(body, &head, sizeof(head));
		len = sizeof(head);
		for (unsigned i = fuzz_byte(in) % (MC_MAX_PAGES + 1); i; i--) {
			struct mc_page page = { fuzz_byte(in) % 4, MC_PAGE_BYTES };

			if (page.coding)
				page.bytes = page.coding == MC_SAME ? 8 : fuzz_byte(in);
			memcpy(body + len, &page, sizeof(page));
			len += sizeof(page);
			data += page.bytes;
		}
		len += data;
	}
	if (type == MC_JOIN || type == MC_REPORT) {
		len = type == MC_JOIN ? sizeof(struct mc_join) : sizeof(struct mc_report);
		for (size_t i = 0; i < len; i += 4) {
			uint32_t word = (uint32_t)fuzz_number(in);

			memcpy(body + i, &word, sizeof(word));
		}
	}
	for (unsigned i = fuzz_byte(in) % (MC_MAX_RUNS + 2); type == MC_REQUEST && i; i--) {
		struct mc_run run = { fuzz_number(in), (uint32_t)fuzz_number(in),
				      fuzz_byte(in) % 9 };

		memcpy(body + len, &run, sizeof(run));
		len += sizeof(run);
	}
	while (fuzz_byte(in) % 16 == 1 && len > 0)
		body[fuzz_number(in) % len] ^= fuzz_byte(in), len -= fuzz_byte(in) % 2;
	return len;
}

static size_t make_datagram(struct fuzz_input *in, uint8_t *datagram)
{
	uint8_t kind = fuzz_byte(in);
	static const enum mc_type types[] = { MC_REQUEST, MC_PAGES, MC_JOIN,   MC_PAGES,
					      MC_REPORT,  MC_DONE,  MC_REQUEST, MC_PAGES };
	enum mc_type type = types[kind % 8];
	size_t len;

	if (kind % 16 == 15) {
		len = in->left < MC_MAX_DATAGRAM ? in->left : MC_MAX_DATAGRAM;
		memcpy(datagram, in->at, len);
		in->left = 0;
		return len;
	}
	len = make_body(in, type, datagram + sizeof(struct mc_header));
	return mc_seal_datagram(&seals[kind >> 3 & 1], type, datagram, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t datagram[MC_MAX_DATAGRAM], drain[MC_MAX_DATAGRAM];
	struct fuzz_input in = { data, size };

	if (!base)
		start();
	while (in.left) {
		uint64_t gfn = fuzz_byte(&in) % PAGES;
		size_t len = make_datagram(&in, datagram);

		wants[gfn].gfn = gfn;
		mc_fetch_want(fetch, &wants[gfn], fuzz_byte(&in) % 2 ? MC_NOW : MC_AHEAD);
		sendto(sock, datagram, len, 0, (struct sockaddr *)&address, sizeof(address));
		event_base_loop(base, EVLOOP_NONBLOCK);
		while (recv(sock, drain, sizeof(drain), 0) > 0)
			;
	}
	return 0;
}
