/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the simulated hosts do: a source, its members, and the clones on each that touch pages.
 *
 * mcdist is the real one. memtap is played: which pages are there, who waits for one, a few pages
 * ahead when a clone reads on in a row. A page that comes is compared with the source's, each byte
 * of it.
 */
#ifndef TESTS_MCDIST_CROWD_H
#define TESTS_MCDIST_CROWD_H

#include "host/mcdist/mcdist.h"
#include "host/memtap/times.h"
#include "tests/mcdist/sim.h"

enum crowd_order {
	CROWD_ROW,	/* pages in a row, the same in each clone */
	CROWD_SAME,	/* a random order, the same in each clone */
	CROWD_RANDOM,	/* another random order in each */
	CROWD_ORDERS,
};

struct crowd_config {
	uint32_t source;	/* host */
	uint32_t first, members;	/* a host for each member, from `first` on */
	uint32_t clones;	/* of each member */
	uint64_t pages;		/* of RAM */
	uint64_t working;	/* of these, the first: what each clone touches */
	uint32_t zero_percent;	/* pages that are all zeros */
	uint32_t same_percent;	/* pages that equal the one before the last */
	enum crowd_order order;
	uint64_t think_ns;	/* a clone's own work between two pages */
	uint64_t skew_ns;	/* a host begins this late at most, and again each clone on it */
	enum mc_mode mode;
	uint32_t push_pages_per_s;
	bool compress;
	bool sealed;		/* really; else as large, but no cipher */
	uint32_t number;	/* of the snapshot, small */
};

struct crowd_result {
	uint64_t done_ns;	/* when the last clone was; 0: not yet */
	uint64_t faults;	/* that had to wait */
	uint64_t median_ns, p99_ns, max_ns;	/* of these */
	uint64_t wrong;		/* pages that are not the source's */
	uint64_t twice;		/* pages that came though they were there already */
	uint64_t lacking;	/* wanted pages of hosts that still count, not there */
	struct mc_counters source, members;
};

struct crowd;

/* Begins at this moment. Return: the caller's to destroy, before the world; or NULL. */
struct crowd *crowd_create(struct sim *sim, const struct crowd_config *config);
void crowd_destroy(struct crowd *c);

/* True when each clone that counts is done; for sim_run(). */
const bool *crowd_is_done(const struct crowd *c);

/* A member, from 0, does not count any more. */
void crowd_excuse(struct crowd *c, uint32_t member);

/* The source's process dies; another begins in its place. Return: 0 or -errno. */
void crowd_source_end(struct crowd *c);
int crowd_source_begin(struct crowd *c);

/* Pages that a member has. */
uint64_t crowd_has(const struct crowd *c, uint32_t member);

/* When the last clone of a member was done; 0: not yet. */
uint64_t crowd_done_ns(const struct crowd *c, uint32_t member);

struct crowd_result crowd_result(const struct crowd *c);

#endif
