/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One source and several members, as processes, and a clone on each member: by multicast, in a tree,
 * by unicast.
 */
#ifndef TESTS_MEMTAP_CROWD_H
#define TESTS_MEMTAP_CROWD_H

#include "proto/mcdist.h"
#include "tests/memtap/harness.h"

#define CROWD_PAGES 2048u
#define CROWD_SNAPSHOT 5u
#define MEMBERS 4u
#define GROUP "239.77.0.1"
#define GROUP_PORT 7702

struct crowd {
	enum mc_mode mode;
	uint32_t push_pages_per_s;
	uint32_t compress;
	uint64_t content;
	unsigned deaf;		/* this member's group socket gets nothing; 0: none, else 1… */
	struct test_host home, away[MEMBERS];
	struct test_vm parent, clones[MEMBERS];
	struct test_file store, cache[MEMBERS];
	int places;
};

/*
 * A network of this program's own, where the loopback carries groups, and sockets for them from here
 * on. Ends the program with 77 if there can be none.
 */
void crowd_network(void);

/* A crowd that has begun. `fault`: the source's. */
struct crowd crowd_create(struct crowd c, const char *fault);
void crowd_destroy(struct crowd *c);

/* Adds how pages travel to a request of node `node`; its first descriptor is to be c->places. */
struct memtap_request crowd_request(const struct crowd *c, struct memtap_request r, uint32_t node);

/* Says MEMTAP_ARM to the source, MEMTAP_BEGIN to a member. */
void crowd_arm(struct crowd *c, uint32_t flags);
void crowd_begin(struct crowd *c, unsigned member, uint32_t flags);

/* All clones look at all of their memory at once; but for `but` (MEMBERS: for none). */
void crowd_look(struct crowd *c, unsigned but);

#endif
