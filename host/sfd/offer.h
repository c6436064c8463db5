/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which host takes which clone of a ticket. */
#ifndef HOST_SFD_OFFER_H
#define HOST_SFD_OFFER_H

#include <stdint.h>

struct host;

/* How many clones a host could take, and how many it was given. */
struct offer {
	struct host *host;
	unsigned room, given;
};

/* The room of a host with `free_bytes` for clones that are counted with `each_bytes`. */
unsigned offer_room(uint64_t free_bytes, uint64_t each_bytes);

/*
 * The host for the next clone: the one with the fewest that has room left, the roomiest of these;
 * none gets more than `per_host` (0: no limit). Return: NULL if there is none; `given` is the
 * caller's to count up.
 */
struct offer *offer_best(struct offer *offers, unsigned count, unsigned per_host);

#endif
