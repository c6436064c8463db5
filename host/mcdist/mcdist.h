/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages between hosts: one endpoint, many snapshots, who serves and who fetches.
 *
 * An endpoint is one host's place in the network (transport.h). On it a snapshot may be served
 * (pages come from a callback) or fetched (pages go to a callback), each datagram sealed with the
 * snapshot's key. How pages travel, and what all of it is called, is in proto/mcdist.h.
 *
 *   endpoint.c   datagrams come in, are judged, and go to the snapshot they belong to
 *   fetch.c      the member: what is wanted is waited for, and asked for again
 *   arrive.c     pages that come
 *   ask.c        what is wanted becomes requests
 *   member.c     whom it asks, its joining and reports
 *   repair.c     what was sent to a group and missed: a neighbour is asked
 *   server.c     the source: what is asked for
 *   giver.c      what is owed to one, and pages into datagrams
 *   group.c      what is owed to all, lockstep, the end game; flow.c: how fast
 *   push.c       what nobody asked for
 *   recent.c     what was given to whom a moment ago
 *   known.c      who has joined
 *   relay.c      a member that others ask
 *   coding.c     pages of zeros, equal ones, compressed ones
 *
 * The one who fetches is the only one who cares: a page that does not come is asked for again, at
 * first after a time that follows the measured round trip, then after twice as long each time, and
 * for ever. How many pages may be under way at once follows what the transport takes in and what
 * is lost.
 *
 * For one thread. Knows nothing of userfaultfd, page files, sockets or event loops.
 */
#ifndef MCDIST_MCDIST_H
#define MCDIST_MCDIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "host/mcdist/transport.h"
#include "proto/mcdist.h"

struct mc_endpoint;
struct mc_server;
struct mc_fetch;

struct mc_counters {
	uint64_t retries;	/* requests for a page that were sent again */
	uint64_t dropped;	/* datagrams refused: forged, replayed, cut, foreign */
	uint64_t served;	/* pages sent, zeros as well: */
	uint64_t multicast;	/* of these to a group, */
	uint64_t pushed;	/* without being asked for, */
	uint64_t relayed;	/* as one who is not the source, */
	uint64_t same;		/* as a reference, */
	uint64_t compressed;	/* by LZ4 */
	uint64_t lockstep;	/* pages asked for that were on their way to all already */
	uint64_t reports;	/* MC_REPORT sent and taken */
};

/* Some pages in a row. */
struct mc_span {
	uint64_t gfn;
	uint32_t pages;		/* 1..MC_MAX_PAGES */
	uint32_t flags;		/* MC_RUN_…, where it is asked for; waited, where it is given */
};

/* A snapshot as all ends know it. */
struct mc_snapshot {
	uint64_t number;
	uint64_t pages;		/* of the VM's RAM */
	uint8_t key[MC_KEY_BYTES];
};

/* How its pages travel: the same for all its hosts, but for `node`. */
struct mc_way {
	enum mc_mode mode;
	uint32_t node;		/* this host's place in the order; source: 0 */
	uint32_t nodes;		/* in `places`; a source need not know them */
	const struct mc_address *places;	/* [0]: the source. Borrowed for the call */
	struct mc_address group;	/* MC_MULTICAST */
	uint32_t push_pages_per_s;	/* source: of all the rest; 0: none of it */
	bool compress;			/* source: LZ4 and references */
};

/*
 * On a transport, whose events it takes; the transport stays the caller's and must outlive it.
 * Return: the caller's to destroy after its servers and fetches, or NULL (errno).
 */
struct mc_endpoint *mc_endpoint_create(struct mc_transport *transport,
				       struct mc_counters *counters);
void mc_endpoint_destroy(struct mc_endpoint *ep);

/*
 * Reads a page for whoever asked: 1 and the page; 0 if it is all zeros; or -errno if it is not
 * here or there is no telling now.
 */
typedef int mc_read_page(void *arg, uint64_t gfn, uint8_t page[MC_PAGE_BYTES]);

/* What a server calls. */
struct mc_server_calls {
	mc_read_page *read_page;
	/* Somebody asks for pages; NULL: of no concern. */
	void (*asked)(void *arg, const struct mc_span *span);
	/*
	 * What one who begins will need first, the first of it first. Return: how many spans
	 * (borrowed, read at once) *spans has. NULL: nobody knows.
	 */
	size_t (*wake)(void *arg, const struct mc_span **spans);
};

/*
 * Serves a snapshot; `calls` must outlive it. Return: the caller's to destroy, or NULL (errno;
 * EEXIST if it is served already, EINVAL if it is known with another key or size, or the way makes
 * no sense).
 */
struct mc_server *mc_server_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				   const struct mc_way *way, const struct mc_server_calls *calls,
				   void *arg);
void mc_server_destroy(struct mc_server *server);

/* A page that came. */
struct mc_arrival {
	uint64_t gfn;
	const uint8_t *page;	/* MC_PAGE_BYTES, borrowed; NULL: all zeros */
	uint32_t wire_bytes;	/* its part of the datagram */
};

/* What a fetch calls. None of it may destroy the fetch. */
struct mc_fetch_calls {
	/* An authentic page, wanted or not. What wanted it must be told: mc_fetch_done(). */
	void (*arrived)(void *arg, const struct mc_arrival *arrival);
	/* A page that has arrived before, for references and for who asks us. */
	mc_read_page *read_page;
	/* Others ask us for pages that are not here: they are to be wanted. NULL: they get none. */
	void (*asked)(void *arg, const struct mc_span *span);
	/* All was pushed: what is lacking still is to be wanted. NULL: of no concern. */
	void (*pushed)(void *arg);
	/* How many pages are lacking. NULL: no telling. */
	uint32_t (*lacks)(void *arg);
};

/* How a wanted page stands. */
enum mc_want_state {
	MC_IDLE,	/* not wanted, or not any more */
	MC_QUEUED,	/* to be asked for */
	MC_IN_FLIGHT,	/* asked for */
};

enum mc_urgency { MC_NOW, MC_AHEAD };	/* somebody waits; somebody may want it soon */

/* One wanted page: part of something of the caller's, zeroed but for gfn before it is wanted. */
struct mc_want {
	TAILQ_ENTRY(mc_want) link;
	uint64_t gfn;
	uint64_t sent_ns;	/* last time */
	uint64_t due_ns;	/* when to ask again */
	uint32_t tries;		/* times it was asked for again */
	uint8_t repairs;	/* times a neighbour was asked, */
	uint8_t of_neighbour;	/* and it is now */
	uint8_t passed;		/* answers that came to what was asked for later */
	uint8_t state;		/* enum mc_want_state */
	uint8_t urgency;	/* enum mc_urgency */
};

/*
 * Begins to fetch a snapshot, and joins those who do; `calls` must outlive it. A page is wanted
 * once at a time. Several fetches of one snapshot are possible. Return: the caller's to destroy, or
 * NULL (errno; EINVAL as above, or if this endpoint serves the snapshot itself).
 */
struct mc_fetch *mc_fetch_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				 const struct mc_way *way, const struct mc_fetch_calls *calls,
				 void *arg);

/* Forgets what is wanted; the wants are the caller's. */
void mc_fetch_destroy(struct mc_fetch *fetch);

/* Wants a page; one that is wanted already becomes urgent if it was not. */
void mc_fetch_want(struct mc_fetch *fetch, struct mc_want *want, enum mc_urgency urgency);

/* A wanted page is here (arrived: measure the round trip), or no more wanted. */
void mc_fetch_done(struct mc_fetch *fetch, struct mc_want *want, bool arrived);

#endif
