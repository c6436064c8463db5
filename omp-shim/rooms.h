/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the parent: what members meet at, found by its key: locks, singles, loops, ordered regions. */
#ifndef OMP_SHIM_ROOMS_H
#define OMP_SHIM_ROOMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/omp.h"

enum room_kind { ROOM_NONE, ROOM_LOCK, ROOM_SINGLE, ROOM_LOOP, ROOM_ORDERED, ROOM_BARRIER };

struct room {
	enum room_kind kind;
	uint64_t key;
	int owner;	     /* a lock's; the member that does the single; -1: none */
	bool set;	     /* single: there is a value. Loop: iterations are known */
	uint64_t value;	     /* single: the copy. Ordered: the next iteration */
	uint64_t iterations, next; /* loop */
	uint32_t *clock;     /* members numbers (store.h) */
	uint8_t *stack;	     /* single: pieces that go with the copy */
	size_t stack_bytes;
};

struct rooms {
	struct room *all; /* a hash table with open addressing */
	size_t count, room;
	unsigned members;
};

/* Return: 0 or -ENOMEM. */
int rooms_init(struct rooms *rooms, unsigned members);
void rooms_fini(struct rooms *rooms);

/* Return: the room, made if there was none; good until the next call. NULL: no memory. */
struct room *rooms_get(struct rooms *rooms, enum room_kind kind, uint64_t key);

/* A loop's next iterations for one of `members`: `chunk`, or guided as many as is fair and at least that. */
void room_chunk(struct room *loop, uint64_t chunk, bool guided, unsigned members,
		struct omp_range *range);

#endif
