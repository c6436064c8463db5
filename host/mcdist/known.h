/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The members that a source has begun to push to, by their addresses. */
#ifndef MCDIST_KNOWN_H
#define MCDIST_KNOWN_H

#include <stdbool.h>
#include <sys/queue.h>

#include "host/mcdist/transport.h"

#define MC_KNOWN_BUCKETS 64u

struct mc_known_member;

/* Zeroed at first. */
struct mc_known {
	LIST_HEAD(, mc_known_member) buckets[MC_KNOWN_BUCKETS];
	unsigned count;
};

void mc_known_fini(struct mc_known *known);

/* True too if there are MC_MAX_MEMBERS already: no more are taken on. */
bool mc_known_has(const struct mc_known *known, const struct mc_address *member);

/* Without memory for it, it stays unknown. */
void mc_known_add(struct mc_known *known, const struct mc_address *member);

#endif
