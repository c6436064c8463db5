/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long things took: a histogram that is right to one part in eight. */
#ifndef MEMTAP_TIMES_H
#define MEMTAP_TIMES_H

#include <stdint.h>

#define MEM_TIMES_SUB 8u	/* buckets for each power of two */
#define MEM_TIMES_BUCKETS (40u * MEM_TIMES_SUB)

struct mem_times {
	uint64_t count;
	uint32_t buckets[MEM_TIMES_BUCKETS];
};

void mem_times_add(struct mem_times *t, uint64_t ns);
void mem_times_merge(struct mem_times *t, const struct mem_times *more);

/* Return: the time in ns that `percent` (1..100) of all do not exceed; 0 if there are none. */
uint64_t mem_times_percentile(const struct mem_times *t, unsigned percent);

#endif
