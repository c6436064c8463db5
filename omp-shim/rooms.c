/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the parent: what members meet at, found by its key. */
#include "omp-shim/rooms.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64u

int rooms_init(struct rooms *rooms, unsigned members)
{
	*rooms = (struct rooms){ .members = members, .room = FIRST_ROOM };
	rooms->all = calloc(rooms->room, sizeof(*rooms->all));
	return rooms->all ? 0 : -ENOMEM;
}

void rooms_fini(struct rooms *rooms)
{
	for (size_t i = 0; i < rooms->room; i++) {
		free(rooms->all[i].clock);
		free(rooms->all[i].stack);
	}
	free(rooms->all);
	*rooms = (struct rooms){ 0 };
}

/* Where the key is, or would be. There is always a free place. */
static struct room *place_of(struct room *all, size_t room, enum room_kind kind, uint64_t key)
{
	size_t at = (size_t)((key + kind) * 0x9e3779b97f4a7c15u >> 32) & (room - 1);

	while (all[at].kind && (all[at].kind != kind || all[at].key != key))
		at = (at + 1) & (room - 1);
	return &all[at];
}

static int grow(struct rooms *rooms)
{
	size_t room = rooms->room * 2;
	struct room *all = calloc(room, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < rooms->room; i++) {
		const struct room *old = &rooms->all[i];

		if (old->kind)
			*place_of(all, room, old->kind, old->key) = *old;
	}
	free(rooms->all);
	rooms->all = all;
	rooms->room = room;
	return 0;
}

struct room *rooms_get(struct rooms *rooms, enum room_kind kind, uint64_t key)
{
	struct room *found = place_of(rooms->all, rooms->room, kind, key);

	if (found->kind)
		return found;
	if (rooms->count >= rooms->room / 2) {
		if (grow(rooms))
			return NULL;
		found = place_of(rooms->all, rooms->room, kind, key);
	}
	found->clock = calloc(rooms->members, sizeof(*found->clock));
	if (!found->clock)
		return NULL;
	found->kind = kind;
	found->key = key;
	found->owner = -1;
	rooms->count++;
	return found;
}

void room_chunk(struct room *loop, uint64_t chunk, bool guided, unsigned members,
		struct omp_range *range)
{
	uint64_t left = loop->iterations - loop->next;

	/* as libgomp counts it: a share of what is left, rounded up */
	if (guided && (left + members - 1) / members > chunk)
		chunk = (left + members - 1) / members;
	range->begin = loop->next;
	range->end = left < chunk ? loop->iterations : loop->next + chunk;
	loop->next = range->end;
}
