/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages between hosts: one UDP socket, many snapshots, who serves and who fetches.
 *
 * An endpoint owns the socket. On it a snapshot may be served (pages come from a callback) and
 * fetched (pages go to a callback), each datagram sealed with the snapshot's key (proto/mcdist.h).
 *
 * The one who fetches is the only one who cares: a page that does not come is asked for again, at
 * first after a time that follows the measured round trip, then after twice as long each time, and
 * for ever. How many pages may be under way at once follows the socket's buffer and what is lost.
 *
 * On libevent, for one thread. Knows nothing of userfaultfd or page files.
 */
#ifndef MCDIST_MCDIST_H
#define MCDIST_MCDIST_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/mcdist.h"

struct event_base;
struct mc_endpoint;
struct mc_server;
struct mc_fetch;

struct mc_counters {
	uint64_t retries;	/* requests for a page that were sent again */
	uint64_t dropped;	/* datagrams refused: forged, replayed, cut, foreign */
	uint64_t served;	/* pages sent, zeros as well */
};

/* Some pages in a row. */
struct mc_span {
	uint64_t gfn;
	uint32_t pages;		/* 1..MC_MAX_PAGES */
};

/* A snapshot as both ends know it. */
struct mc_snapshot {
	uint64_t number;
	uint64_t pages;		/* of the VM's RAM */
	uint8_t key[MC_KEY_BYTES];
};

/*
 * Takes over a bound UDP socket (AF_INET or AF_INET6), if it works. Return: the caller's to
 * destroy after its servers and fetches, or NULL (errno).
 */
struct mc_endpoint *mc_endpoint_create(struct event_base *base, int sock,
				       struct mc_counters *counters);
void mc_endpoint_destroy(struct mc_endpoint *ep);

/*
 * Reads a page for whoever asked: 1 and the page; 0 if it is all zeros; or -errno if there is no
 * telling now, and then nothing is answered.
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
 * EEXIST if it is served already, EINVAL if it is known with another key or size).
 */
struct mc_server *mc_server_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				   const struct mc_server_calls *calls, void *arg);
void mc_server_destroy(struct mc_server *server);

/* A page that came. */
struct mc_arrival {
	uint64_t gfn;
	const uint8_t *page;	/* MC_PAGE_BYTES, borrowed; NULL: all zeros */
	uint32_t wire_bytes;	/* its part of the datagram */
};
typedef void mc_arrived(void *arg, const struct mc_arrival *arrival);

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
	uint8_t state;		/* enum mc_want_state */
	uint8_t urgency;	/* enum mc_urgency */
};

/*
 * Begins to fetch a snapshot from the page server at `from`. Every authentic page that arrives is
 * handed to `arrived`, wanted or not. Several fetches of one snapshot are possible. Return: the
 * caller's to destroy, or NULL (errno; EINVAL as above, or if this endpoint serves it itself).
 */
struct mc_fetch *mc_fetch_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				 const struct sockaddr_in6 *from, mc_arrived *arrived, void *arg);

/* Forgets what is wanted; the wants are the caller's. */
void mc_fetch_destroy(struct mc_fetch *fetch);

/*
 * Asks once for what clones need at first. It arrives as if it had been wanted, all or in part or
 * not at all.
 */
void mc_fetch_wake(struct mc_fetch *fetch);

/* Wants a page; one that is wanted already becomes urgent if it was not. */
void mc_fetch_want(struct mc_fetch *fetch, struct mc_want *want, enum mc_urgency urgency);

/* A wanted page is here (arrived: measure the round trip), or no more wanted. */
void mc_fetch_done(struct mc_fetch *fetch, struct mc_want *want, bool arrived);

#endif
