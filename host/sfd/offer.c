/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Spreads clones evenly: the work of each is alike, and so is its need for a CPU. */
#include "host/sfd/offer.h"

#include <stddef.h>

#include "proto/xenstore-tree.h"

unsigned offer_room(uint64_t free_bytes, uint64_t each_bytes)
{
	uint64_t room = each_bytes ? free_bytes / each_bytes : SF_MAX_CLONES;

	return room < SF_MAX_CLONES ? (unsigned)room : SF_MAX_CLONES;
}

struct offer *offer_best(struct offer *offers, unsigned count, unsigned per_host)
{
	struct offer *best = NULL;

	for (unsigned i = 0; i < count; i++) {
		struct offer *o = &offers[i];

		if (o->given >= o->room || (per_host && o->given >= per_host))
			continue;
		if (!best || o->given < best->given ||
		    (o->given == best->given && o->room > best->room))
			best = o;
	}
	return best;
}
