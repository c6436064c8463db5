/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member of a group that has missed what was sent to all: it knows what, and asks a neighbour.
 *
 * For each page there is a bit: it was in a datagram to the group that did not come here. A page
 * with the bit is asked of a neighbour when it is wanted; one that is wanted already, at once, for
 * there is no answer to wait for. Who is asked is the one that answers: when two questions in a row
 * have brought no word from it, it is the next one's turn, and when all have been silent, the
 * source's for a while. The first neighbour of node k is k / 2, so that a page that all have missed
 * is asked for along a tree, and the source sends it once; the others are drawn by lot.
 */
#include "host/mcdist/fetch.h"

#include <sodium.h>
#include <stdlib.h>

#define SILENT_TRIES 2u
#define ALONE_NS 100000000ull	/* then they are tried again */
#define DRAWS 4u		/* for each neighbour */

static void add(struct mc_repair *r, const struct mc_address *place)
{
	if (!place->len)
		return;
	for (uint32_t i = 0; i < r->count; i++) {
		if (mc_address_is(&r->neighbours[i], place))
			return;
	}
	r->neighbours[r->count++] = *place;
}

void mc_repair_init(struct mc_fetch *f, const struct mc_way *way)
{
	struct mc_repair *r = &f->repair;

	if (way->mode != MC_MULTICAST || f->member.deaf || !way->node || way->node >= way->nodes)
		return;
	r->missed = calloc((f->session->snapshot.pages + 7) / 8, 1);
	if (!r->missed)
		return;	/* the source is asked */
	add(r, &way->places[way->node / 2]);
	/* node 1 has the source, and nobody else */
	for (unsigned i = 0; way->node > 1 && i < DRAWS * MC_NEIGHBOURS &&
			     r->count < MC_NEIGHBOURS; i++) {
		uint32_t node = 1 + randombytes_uniform(way->nodes - 1);

		if (node != way->node)
			add(r, &way->places[node]);
	}
}

void mc_repair_fini(struct mc_fetch *f)
{
	free(f->repair.missed);
}

bool mc_repair_missed(const struct mc_fetch *f, uint64_t gfn)
{
	return f->repair.missed && f->repair.missed[gfn / 8] >> gfn % 8 & 1;
}

bool mc_repair_takes(const struct mc_fetch *f, const struct mc_want *w)
{
	return mc_repair_missed(f, w->gfn) && w->repairs < MC_REPAIR_TRIES && f->repair.count &&
	       f->repair.alone_ns <= mc_now_ns(f->session->ep);
}

const struct mc_address *mc_repair_neighbour(const struct mc_fetch *f)
{
	return &f->repair.neighbours[f->repair.at];
}

void mc_repair_heard(struct mc_fetch *f, const struct mc_address *from)
{
	struct mc_repair *r = &f->repair;

	if (r->count && mc_address_is(from, &r->neighbours[r->at]))
		r->silent = r->moved = 0;
}

void mc_repair_lost(struct mc_fetch *f)
{
	struct mc_repair *r = &f->repair;

	if (++r->silent < SILENT_TRIES)
		return;
	r->silent = 0;
	r->at = (r->at + 1) % r->count;
	if (++r->moved < r->count)
		return;
	r->moved = 0;
	r->alone_ns = mc_now_ns(f->session->ep) + ALONE_NS;
}

/* What the source was asked for, or was to be, has been answered, in vain. */
static void divert(struct mc_fetch *f, struct mc_wants *wants, const struct mc_span *span)
{
	struct mc_want *w, *next;

	for (w = TAILQ_FIRST(wants); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->gfn - span->gfn >= span->pages || w->of_neighbour || !mc_repair_takes(f, w))
			continue;
		if (w->state == MC_IN_FLIGHT) {
			mc_fetch_lost(f, w);
		} else {
			TAILQ_REMOVE(wants, w, link);
			mc_ask_enqueue(f, w);
		}
	}
}

static void ask_neighbour(struct mc_fetch *f, const struct mc_span *span)
{
	divert(f, &f->flight, span);
	divert(f, &f->queues[MC_NOW], span);
	divert(f, &f->queues[MC_AHEAD], span);
	mc_ask_soon(f);
}

void mc_repair_told(struct mc_fetch *f, const struct mc_heard *heard,
		    const struct mc_span told[MC_TOLD])
{
	struct mc_repair *r = &f->repair;

	for (unsigned i = 0; r->missed && i < MC_TOLD; i++) {
		bool fresh = false;

		if (!told[i].pages || heard->counter <= 1u << i ||
		    mc_windows_had(&f->session->windows, heard->sender, heard->counter - (1u << i)))
			continue;
		for (uint64_t gfn = told[i].gfn; gfn < told[i].gfn + told[i].pages; gfn++) {
			fresh |= !mc_repair_missed(f, gfn);
			r->missed[gfn / 8] |= (uint8_t)(1u << gfn % 8);
		}
		if (fresh)
			ask_neighbour(f, &told[i]);
	}
}
