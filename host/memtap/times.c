/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log-linear buckets: below MEM_TIMES_SUB one for each value, then MEM_TIMES_SUB per power of two.
 */
#include "host/memtap/times.h"

#define SUB_BITS 3
_Static_assert(MEM_TIMES_SUB == 1u << SUB_BITS, "buckets per power of two");

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift, bucket;

	if (ns < MEM_TIMES_SUB)
		return (unsigned)ns;
	shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
	bucket = (shift + 1) * MEM_TIMES_SUB + (unsigned)(ns >> shift) - MEM_TIMES_SUB;
	return bucket < MEM_TIMES_BUCKETS ? bucket : MEM_TIMES_BUCKETS - 1;
}

/* The highest time that falls into a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
	unsigned shift;

	if (bucket < MEM_TIMES_SUB)
		return bucket;
	shift = bucket / MEM_TIMES_SUB - 1;
	return ((uint64_t)(bucket % MEM_TIMES_SUB + MEM_TIMES_SUB + 1) << shift) - 1;
}

void mem_times_add(struct mem_times *t, uint64_t ns)
{
	t->count++;
	t->buckets[bucket_of(ns)]++;
}

void mem_times_merge(struct mem_times *t, const struct mem_times *more)
{
	t->count += more->count;
	for (unsigned i = 0; i < MEM_TIMES_BUCKETS; i++)
		t->buckets[i] += more->buckets[i];
}

uint64_t mem_times_percentile(const struct mem_times *t, unsigned percent)
{
	uint64_t rank = (t->count * percent + 99) / 100, seen = 0;

	for (unsigned i = 0; rank && i < MEM_TIMES_BUCKETS; i++) {
		seen += t->buckets[i];
		if (seen >= rank)
			return bucket_end(i);
	}
	return 0;
}
