/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memtap ↔ memtap on other hosts: pages of a snapshot, over UDP.
 *
 * The source is the memtap of the parent's host; a member is one that lacks pages of the snapshot.
 * How they reach each other is decided by sfd and the same for all of a snapshot (enum mc_mode):
 *
 *   MC_UNICAST    members ask the source, which answers the one who asked.
 *   MC_MULTICAST  members ask the source; it answers to the group, and every member takes what
 *                 comes, whether it asked or not. What a member has missed of it, it asks another
 *                 member for.
 *   MC_TREE       the source and the members, in the order that sfd gave them, are a tree: the
 *                 source, node 0, has one child, node 1; every other node k has up to
 *                 MC_TREE_CHILDREN, 2k and 2k + 1. So k's parent is k / 2, and the source sends
 *                 each page once. A member asks its parent; a member that is asked for what it
 *                 lacks asks its own parent, and answers when it has it. One whose parent does not
 *                 answer asks the source.
 *
 * Who speaks first: a member, with MC_JOIN, repeated until the first pages came. Nothing is
 * acknowledged: who asked and got no answer asks again, with MC_RUN_AGAIN. A request that cannot be
 * answered (unknown snapshot, page outside the RAM, a datagram that does not authenticate) gets
 * nothing at all. Who asks again for what was sent to it a moment ago, or is about to be, gets it
 * once.
 *
 * Who is there. A JOIN may be lost, or the source may be another than the one that heard it: a
 * source takes a request or a report of one that it has not heard of for a JOIN.
 *
 * Lockstep. Clones do the same things at the same time, so many members ask for one page at once.
 * In MC_MULTICAST the source answers the first and ignores the others for MC_LOCKSTEP_NS: the
 * answer is on its way to them too. A run with MC_RUN_ALONE is answered at once, and to that member
 * alone.
 *
 * Flow. While pages come, each member says every MC_REPORT_NS (in large groups more seldom) how
 * many datagrams of the source it got and missed (by their counters) and how many pages per second
 * it could take in. The source sends to the group no faster than its slowest member can take, and
 * slower when it misses much; a member that says nothing for MC_SILENT_NS is not waited for.
 *
 * Repair. A datagram to the group also tells which pages were in the MC_TOLD datagrams that went to
 * the group 1, 2, 4 and 8 before it (struct mc_told). So a member knows what it missed as soon as
 * any of these arrives. It asks a neighbour for that, with MC_REQUEST: node k asks node k / 2
 * first, and another member if that one is silent; node 1 asks the source. A member that is asked
 * answers what it has to the one who asks. What it lacks it answers when that comes, and if it has
 * been told of it too, it asks its own neighbour. Who asked MC_REPAIR_TRIES times in vain asks the
 * source, with MC_RUN_AGAIN. So what members lose costs the source nearly nothing, however many
 * there are.
 *
 * End game. A page that has been to the group and that the source is asked for still has been lost
 * on the way to few, or they have come late: it goes to the one who asks. If another asks for it
 * soon after (in MC_ALONE_NS), they are not so few, and it goes to all once more.
 *
 * Push. What was not asked for is sent when nothing that was asked for waits: first the pages that
 * clones of earlier snapshots of the same VM needed in their first moments (at MC_JOIN), then, if
 * sfd wants it, all the rest at a bounded rate; MC_DONE ends it, and a member then asks for what it
 * lacks still, so that the snapshot is complete there and the source no longer needed.
 *
 * Pages. A page of zeros is a bit. A page equal to one that was sent before is a reference, if the
 * source has compared them byte by byte; a member that lacks that one asks for the page. Others are
 * compressed by LZ4 where that makes them smaller by at least a quarter.
 *
 * Every datagram is sealed with ChaCha20-Poly1305 (RFC 8439, libsodium's IETF variant) under the
 * snapshot's key: the header is authenticated, the body encrypted. The nonce is `sender` (4 bytes,
 * random per process and snapshot, so that no two senders ever use one nonce) and `counter` (8
 * bytes, little-endian, counting up from 1). Receivers keep a sliding window per sender and drop
 * what they have seen or what is too old. What is sent to a group has a sender of its own, an odd
 * number; other senders are even: gaps in the counters of an odd one are losses.
 *
 * All integers little-endian. A datagram with pages is larger than an Ethernet frame; IP fragments
 * it, and half a datagram never arrives.
 *
 * Changelog: 1: unicast request and pages. 2: pages of the wake-up path. 3: modes, joining,
 * reports, push; references and LZ4; requests say what was asked before. 4: one child of the
 * source; repair.
 */
#ifndef PROTO_MCDIST_H
#define PROTO_MCDIST_H

#include <stdint.h>

#define MC_MAGIC 0x4d53		/* "SM" */
#define MC_VERSION 4
#define MC_KEY_BYTES 32
#define MC_TAG_BYTES 16
#define MC_PAGE_BYTES 4096
#define MC_MAX_RUNS 64		/* runs of pages in one request */
#define MC_MAX_PAGES 8		/* pages in one MC_PAGES */
#define MC_MAX_MEMBERS 4096
#define MC_TREE_CHILDREN 2
#define MC_TOLD 4		/* struct mc_told in an MC_PAGES to a group */
#define MC_REPAIR_TRIES 3
#define MC_LOCKSTEP_NS 5000000ull	/* at least; longer where round trips are */
#define MC_ALONE_NS 50000000ull
#define MC_REPORT_NS 20000000ull
#define MC_SILENT_NS 1000000000ull

enum mc_mode { MC_UNICAST = 0, MC_MULTICAST = 1, MC_TREE = 2, MC_MODES };

enum mc_type {
	MC_REQUEST = 1,		/* member → source or member. body: struct mc_run[1..MC_MAX_RUNS] */
	/*
	 * body: struct mc_pages, then struct mc_page[] and the data; of a group's sender (an odd
	 * one) then struct mc_told[MC_TOLD]
	 */
	MC_PAGES = 2,
	MC_JOIN = 3,		/* member → source or parent. body: struct mc_join */
	MC_REPORT = 4,		/* member → source or parent. body: struct mc_report */
	MC_DONE = 5,		/* source → members: nothing more is pushed. body: empty */
};

struct mc_header {
	uint16_t magic;
	uint8_t version;
	uint8_t type;		/* enum mc_type */
	uint32_t sender;
	uint64_t counter;
	uint64_t snapshot;
};
_Static_assert(sizeof(struct mc_header) == 24, "no padding");

#define MC_RUN_AGAIN 1u	/* it was asked for before, and did not come */
#define MC_RUN_AHEAD 2u	/* nobody waits for it yet */
#define MC_RUN_ALONE 4u	/* with MC_RUN_AGAIN: what goes to the group seems not to come here */
#define MC_RUN_FLAGS (MC_RUN_AGAIN | MC_RUN_AHEAD | MC_RUN_ALONE)
struct mc_run {
	uint64_t gfn;		/* first page */
	uint32_t pages;		/* 1..MC_MAX_PAGES */
	uint32_t flags;		/* MC_RUN_… */
};
_Static_assert(sizeof(struct mc_run) == 16, "no padding");

struct mc_pages {
	uint64_t gfn;		/* first page */
	uint32_t pages;		/* 1..MC_MAX_PAGES */
	/*
	 * bit i, for each page: gfn + i is all zeros, and there is no struct mc_page for it. From
	 * bit MC_MAX_PAGES on: for how many microseconds the sender lacked the pages after it was
	 * asked, which is no part of the way to it and back
	 */
	uint32_t zero;
};
_Static_assert(sizeof(struct mc_pages) == 16, "no padding");

enum mc_coding {
	MC_PLAIN = 0,		/* MC_PAGE_BYTES of data */
	MC_LZ4 = 1,		/* `bytes` of data, an LZ4 block that makes MC_PAGE_BYTES */
	MC_SAME = 2,		/* 8 bytes of data: the gfn of a page of this snapshot that is equal */
};

/* One for each page that is not zero, in order, all of them before the data of the first. */
struct mc_page {
	uint16_t coding;	/* enum mc_coding */
	uint16_t bytes;		/* of data: 1..MC_PAGE_BYTES */
};
_Static_assert(sizeof(struct mc_page) == 4, "no padding");

/* Which pages were in the datagram to the group 1, 2, 4, 8 before this one: MC_TOLD of them. */
struct mc_told {
	uint64_t span;		/* first page · MC_MAX_PAGES + how many - 1; UINT64_MAX: none */
};
_Static_assert(sizeof(struct mc_told) == 8, "no padding");

struct mc_join {
	uint32_t node;		/* the member's place in sfd's order: 1… */
	uint32_t flags;		/* 0 */
};
_Static_assert(sizeof(struct mc_join) == 8, "no padding");

struct mc_report {
	uint32_t node;
	uint32_t sender;	/* whose datagrams these are */
	uint32_t received;	/* datagrams with pages since the last report */
	uint32_t missed;	/* that the counters say there were, and did not come */
	uint32_t takes_pages_per_s;	/* at most, as measured; 0: no telling */
	uint32_t lacks;		/* pages it does not have yet; UINT32_MAX: no telling */
};
_Static_assert(sizeof(struct mc_report) == 24, "no padding");

#define MC_MAX_DATAGRAM \
	(sizeof(struct mc_header) + sizeof(struct mc_pages) + MC_MAX_PAGES * \
	 (sizeof(struct mc_page) + MC_PAGE_BYTES) + MC_TOLD * sizeof(struct mc_told) + MC_TAG_BYTES)

#endif
