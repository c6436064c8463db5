/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In each mode, at each socket (the source's, each member's and relay's, the group's): what is sent
 * again, forged, cut, foreign, or of another snapshot is counted, and nothing else happens.
 *
 * A spy reads the wire while the clones of a crowd look at their memory. Then it sends what it read
 * again, and damaged, to where it went.
 */
#include "config.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/mcdist/seal.h"
#include "tests/memtap/crowd.h"

#define THEN (1u | CONTENT_FULL)
#define HEARD_MAX 400u
#define KINDS ((PLACES) * (MC_DONE + 1u))
#define HOSTS (MEMBERS + 1)
#define GROUP_PLACE HOSTS
#define PLACES (HOSTS + 1)
#define AT_ONCE 16u		/* what a socket's buffer holds for certain */
#define COUNTED_NS 1000000000ull	/* after it was read */

struct heard {
	unsigned place;		/* where it went: a host, by node, or GROUP_PLACE */
	size_t len;
	uint8_t *bytes;
};

struct spy {
	struct crowd *crowd;
	struct sockaddr_in at[PLACES];
	int packets, sock;
	struct heard heard[HEARD_MAX + KINDS];
	unsigned count;
	bool known[KINDS];		/* one of the kind has been heard */
	uint64_t dropped[HOSTS];	/* must have been, by now */
	unsigned unsettled;
};

static struct test_host *host_of(const struct spy *s, unsigned node)
{
	return node ? &s->crowd->away[node - 1] : &s->crowd->home;
}

static unsigned places_of(const struct spy *s)
{
	return s->crowd->mode == MC_MULTICAST ? PLACES : HOSTS;
}

static void spy_init(struct spy *s, struct crowd *c)
{
	int room = 64 << 20, off = 0;

	*s = (struct spy){ .crowd = c };
	for (unsigned i = 0; i < HOSTS; i++) {
		const struct sockaddr_in6 *addr = &host_of(s, i)->addr;

		s->at[i] = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = addr->sin6_port };
		memcpy(&s->at[i].sin_addr, &addr->sin6_addr.s6_addr[12], sizeof(struct in_addr));
	}
	s->at[GROUP_PLACE] = (struct sockaddr_in){ .sin_family = AF_INET,
						   .sin_port = htons(GROUP_PORT) };
	inet_pton(AF_INET, GROUP, &s->at[GROUP_PLACE].sin_addr);
	s->packets = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    htons(ETH_P_IP));
	s->sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CU_ASSERT_FATAL(s->packets >= 0 && s->sock >= 0);
	setsockopt(s->packets, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	/* the loopback gives it to all by itself */
	setsockopt(s->sock, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof(off));
}

static void spy_fini(struct spy *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->heard[i].bytes);
	close(s->packets);
	close(s->sock);
}

static void note(struct spy *s, unsigned place, const uint8_t *bytes, size_t len)
{
	struct mc_header header;
	struct heard *h = &s->heard[s->count];
	bool *known;

	if (mc_read_header(bytes, len, &header))
		return;		/* our own */
	CU_ASSERT_FATAL(header.type <= MC_DONE);
	known = &s->known[place * (MC_DONE + 1u) + header.type];
	if (*known && s->count >= HEARD_MAX)
		return;
	*known = true;
	*h = (struct heard){ place, len, malloc(len) };
	CU_ASSERT_PTR_NOT_NULL_FATAL(h->bytes);
	memcpy(h->bytes, bytes, len);
	s->count++;
}

/* Takes an IP packet apart. */
static void note_packet(struct spy *s, const uint8_t *packet, size_t len)
{
	struct udphdr udp;
	struct iphdr ip;

	memcpy(&ip, packet, sizeof(ip));
	if (ip.protocol != IPPROTO_UDP || len < ip.ihl * 4u + sizeof(udp))
		return;
	memcpy(&udp, packet + ip.ihl * 4u, sizeof(udp));
	for (unsigned i = 0; i < PLACES; i++) {
		if (ip.daddr == s->at[i].sin_addr.s_addr && udp.dest == s->at[i].sin_port)
			note(s, i, packet + ip.ihl * 4u + sizeof(udp), ntohs(udp.len) - sizeof(udp));
	}
}

/* Reads what has been on the wire. */
static void spy_read(struct spy *s)
{
	static uint8_t packet[65536];
	ssize_t len;

	while ((len = recv(s->packets, packet, sizeof(packet), 0)) >= 0) {
		if ((size_t)len >= sizeof(struct iphdr))
			note_packet(s, packet, (size_t)len);
	}
}

static bool is_unread(const struct test_host *h)
{
	struct pollfd at[] = { { .fd = h->udp, .events = POLLIN },
			       { .fd = h->group, .events = POLLIN } };

	return poll(at, ARRAY_SIZE(at), 0) > 0 && (at[0].revents | at[1].revents) & POLLIN;
}

/*
 * Waits until all that was sent has been counted. If the host has read it all and goes on without
 * having counted it, that was not dropped.
 */
static void settle(struct spy *s)
{
	for (unsigned i = 0; i < HOSTS; i++) {
		const struct test_host *h = host_of(s, i);
		uint64_t last_ns = io_now_ns(), dropped = 0, was;

		do {
			was = dropped;
			dropped = host_stats(host_of(s, i), MEMTAP_ALL).dropped;
			if (dropped != was || is_unread(h))
				last_ns = io_now_ns();
		} while (dropped < s->dropped[i] && io_now_ns() < last_ns + COUNTED_NS);
		CU_ASSERT_EQUAL_FATAL(dropped, s->dropped[i]);
	}
	s->unsettled = 0;
}

/* Sends what has to be dropped there; by a group's socket on each member. */
static void send_bad(struct spy *s, unsigned place, const void *bytes, size_t len)
{
	unsigned first = place == GROUP_PLACE ? 1 : place;
	unsigned last = place == GROUP_PLACE ? MEMBERS : place;

	CU_ASSERT_EQUAL(sendto(s->sock, bytes, len, 0, (struct sockaddr *)&s->at[place],
			       sizeof(s->at[place])), (ssize_t)len);
	for (unsigned i = first; i <= last; i++)
		s->dropped[i]++;
	if (++s->unsettled == AT_ONCE)
		settle(s);
}

/* ── what is sent ── */

/* As it was. What went to the group is not believed at a member's own socket either. */
static void send_again(struct spy *s, const struct heard *h)
{
	send_bad(s, h->place, h->bytes, h->len);
	for (unsigned i = 1; h->place == GROUP_PLACE && i < HOSTS; i++)
		send_bad(s, i, h->bytes, h->len);
}

static void send_damaged(struct spy *s, const struct heard *h)
{
	static uint8_t bytes[MC_MAX_DATAGRAM + 1];
	const size_t lens[] = { 0, 1, sizeof(struct mc_header) - 1, sizeof(struct mc_header),
				MC_OVERHEAD_BYTES - 1, MC_OVERHEAD_BYTES, h->len / 2, h->len - 1,
				h->len + 1, sizeof(bytes) };
	const size_t inside = h->len - MC_TAG_BYTES - 1;

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, h->bytes, h->len);
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++)
		send_bad(s, h->place, bytes, lens[i]);
	for (size_t i = 0; i < sizeof(struct mc_header) + 2; i++) {
		size_t at = i < sizeof(struct mc_header) ? i :
			    i == sizeof(struct mc_header) ? inside : h->len - 1;

		bytes[at] ^= 1;
		send_bad(s, h->place, bytes, h->len);
		bytes[at] ^= 1;
	}
}

/* Bodies of a length that each type has, and that no type has. */
static void send_sealed(struct spy *s, unsigned place, struct mc_seal *seal, bool right)
{
	static const size_t lens[] = { 0, 1, 8, 16, 24, 100 };
	uint8_t datagram[200] = { 0 };

	for (unsigned type = 0; type <= MC_DONE + 1u; type++) {
		for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
			/* with the key, only what makes no sense: too short, or of no type */
			if (right && lens[i] != 1 && type > 0 && type <= MC_DONE)
				continue;
			memset(datagram, 0, sizeof(datagram));
			send_bad(s, place, datagram,
				 mc_seal_datagram(seal, type, datagram, lens[i]));
		}
	}
}

static void send_strange(struct spy *s, unsigned place)
{
	uint8_t key[MC_KEY_BYTES], other[MC_KEY_BYTES], bytes[300];
	struct mc_seal seal;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rand();
	send_bad(s, place, bytes, sizeof(bytes));
	snapshot_key(CROWD_SNAPSHOT, key);
	snapshot_key(CROWD_SNAPSHOT + 1, other);
	for (unsigned group = 0; group < 2; group++) {
		mc_seal_init(&seal, CROWD_SNAPSHOT, other, group);
		send_sealed(s, place, &seal, false);
		mc_seal_init(&seal, CROWD_SNAPSHOT + 1, key, group);
		send_sealed(s, place, &seal, false);
		mc_seal_init(&seal, CROWD_SNAPSHOT, key, group);
		send_sealed(s, place, &seal, true);
	}
}

/* With the key, and it makes sense, but not there. */
static void send_misplaced(struct spy *s)
{
	struct mc_pages page = { .gfn = 1, .pages = 1, .zero = 1 };
	struct mc_run run = { .gfn = 1, .pages = 1 };
	uint8_t key[MC_KEY_BYTES], datagram[200];
	struct mc_seal seal;

	snapshot_key(CROWD_SNAPSHOT, key);
	mc_seal_init(&seal, CROWD_SNAPSHOT, key, false);
	memcpy(datagram + sizeof(struct mc_header), &page, sizeof(page));
	send_bad(s, 0, datagram, mc_seal_datagram(&seal, MC_PAGES, datagram, sizeof(page)));
	send_bad(s, 0, datagram, mc_seal_datagram(&seal, MC_DONE, datagram, 0));
	for (unsigned i = 1; s->crowd->mode == MC_UNICAST && i < HOSTS; i++) {
		memcpy(datagram + sizeof(struct mc_header), &run, sizeof(run));
		send_bad(s, i, datagram,
			 mc_seal_datagram(&seal, MC_REQUEST, datagram, sizeof(run)));
	}
}

/* ── what must not happen ── */

struct was {
	struct memtap_stats stats[HOSTS];
};

static struct was look(const struct spy *s)
{
	struct was w;

	for (unsigned i = 0; i < HOSTS; i++)
		w.stats[i] = host_stats(host_of(s, i), MEMTAP_ALL);
	return w;
}

static void nothing_changed(const struct spy *s, const struct was *before)
{
	struct was now = look(s);
	uint8_t byte;

	for (unsigned i = 0; i < HOSTS; i++) {
		CU_ASSERT_EQUAL(now.stats[i].served, before->stats[i].served);
		CU_ASSERT_EQUAL(now.stats[i].pages_fetched, before->stats[i].pages_fetched);
		CU_ASSERT_EQUAL(now.stats[i].lockstep, before->stats[i].lockstep);
		CU_ASSERT_EQUAL(now.stats[i].complete, before->stats[i].complete);
		CU_ASSERT_EQUAL(now.stats[i].pushed, before->stats[i].pushed);
	}
	CU_ASSERT(recv(s->sock, &byte, 1, 0) < 0 && errno == EAGAIN);
}

static void send_all(struct spy *s)
{
	bool done[KINDS] = { false };

	for (unsigned i = 0; i < s->count; i++) {
		const struct heard *h = &s->heard[i];
		bool *kind = &done[h->place * (MC_DONE + 1u) + h->bytes[3]];

		send_again(s, h);
		if (!*kind)
			send_damaged(s, h);
		*kind = true;
	}
	for (unsigned place = 0; place < places_of(s); place++)
		send_strange(s, place);
	send_misplaced(s);
	settle(s);
}

static void strangers(enum mc_mode mode)
{
	struct crowd c = crowd_create((struct crowd){ mode, .content = THEN }, NULL);
	static struct spy s;
	struct was before;

	spy_init(&s, &c);
	crowd_look(&c, MEMBERS);
	/* behind all that is in the sockets' buffers still; nothing else has been dropped */
	for (unsigned i = 0; i < HOSTS; i++)
		send_bad(&s, i, "?", 1);
	settle(&s);
	spy_read(&s);
	before = look(&s);
	/* in each mode there are requests to the source; answers; and who else gets them */
	CU_ASSERT_TRUE(s.known[MC_REQUEST]);
	CU_ASSERT_TRUE(s.known[(mode == MC_MULTICAST ? GROUP_PLACE : 1) * (MC_DONE + 1u) +
			       MC_PAGES]);
	CU_ASSERT(mode != MC_TREE || s.known[1 * (MC_DONE + 1u) + MC_REQUEST]);
	send_all(&s);
	nothing_changed(&s, &before);
	printf("(%u datagrams heard; dropped: %llu by the source, %llu by a member) ", s.count,
	       (unsigned long long)s.dropped[0], (unsigned long long)s.dropped[1]);
	crowd_look(&c, MEMBERS);
	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(test_file_count(&c.cache[i], PAGE_PRESENT), CROWD_PAGES);
	spy_fini(&s);
	crowd_destroy(&c);
}

static void test_unicast(void)
{
	strangers(MC_UNICAST);
}

static void test_multicast(void)
{
	strangers(MC_MULTICAST);
}

static void test_tree(void)
{
	strangers(MC_TREE);
}

static const struct test tests[] = {
	{ "unicast", test_unicast },
	{ "multicast", test_multicast },
	{ "tree", test_tree },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	crowd_network();
	return run_tests("strangers", tests, ARRAY_SIZE(tests), argc, argv);
}
