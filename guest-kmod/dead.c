// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dead pages: those that are free at the instant, and in a clone those that are freed later.
 *
 * The first are found in the page allocator's lists of free blocks, while nobody can take one out.
 * The largest blocks come first: they are few and have most of the memory, so what does not fit
 * into the time that a parent may be held is little. Free pages that CPUs keep at hand for themselves
 * come last. The others are told by a tracepoint, before the allocator has the page.
 *
 * With page_poison=1 the allocator checks that free pages still have the pattern it filled them
 * with, so none is dead. With init_on_free=1 it counts on zeros, which dead pages become.
 */
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>

#include "snowflock.h"

#define BUDGET_NS (2500 * NSEC_PER_USEC)
#define BLOCKS_BETWEEN_LOOKS 64u

static unsigned long *bitmap;
static unsigned long bitmap_bits;
static bool recording;
static struct tracepoint *page_free;

/* ---- at the instant ---- */

struct walk {
	u64 until_ns;
	u64 dead;
	unsigned int blocks;
};

/* Return: false if time is over. */
static bool declare_block(struct walk *walk, const struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);

	if (pfn + (1ul << order) <= bitmap_bits) {
		bitmap_set(bitmap, pfn, 1u << order);
		walk->dead += 1ul << order;
	}
	return ++walk->blocks % BLOCKS_BETWEEN_LOOKS || ktime_get_mono_fast_ns() <= walk->until_ns;
}

static bool declare_list(struct walk *walk, const struct list_head *list, unsigned int order)
{
	const struct page *page;

	list_for_each_entry(page, list, buddy_list) {
		if (!declare_block(walk, page, order))
			return false;
	}
	return true;
}

static bool declare_zone(struct walk *walk, struct zone *zone, unsigned int order)
{
	unsigned int type;

	if (!populated_zone(zone))
		return true;
	for (type = 0; type < MIGRATE_TYPES; type++) {
		if (!declare_list(walk, &zone->free_area[order].free_list[type], order))
			return false;
	}
	return true;
}

static bool declare_order(struct walk *walk, unsigned int order)
{
	int nid, i;

	for_each_online_node(nid) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			if (!declare_zone(walk, &NODE_DATA(nid)->node_zones[i], order))
				return false;
		}
	}
	return true;
}

/* What one CPU keeps: lists of each type for small blocks, then those of the size of a huge page. */
static bool declare_cpu(struct walk *walk, const struct per_cpu_pages *kept)
{
	const struct page *page;
	unsigned int i;

	for (i = 0; i < NR_PCP_LISTS; i++) {
		unsigned int order = i < NR_LOWORDER_PCP_LISTS ? i / MIGRATE_PCPTYPES :
								 pageblock_order;

		list_for_each_entry(page, &kept->lists[i], pcp_list) {
			if (!declare_block(walk, page, order))
				return false;
		}
	}
	return true;
}

static void declare_cpus(struct walk *walk)
{
	int nid, i, cpu;

	for_each_online_node(nid) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(nid)->node_zones[i];

			for_each_online_cpu(cpu) {
				if (populated_zone(zone) &&
				    !declare_cpu(walk, per_cpu_ptr(zone->per_cpu_pageset, cpu)))
					return;
			}
		}
	}
}

/* The allocator's locks are not held by anybody: nobody is scheduled away with one. */
u64 sfk_dead_declare(void)
{
	struct walk walk = { .until_ns = ktime_get_mono_fast_ns() + BUDGET_NS };
	unsigned int order = ARRAY_SIZE(((struct zone *)NULL)->free_area);

	if (!sfk_do_hints || page_poisoning_enabled_static())
		return 0;
	while (order > 0 && declare_order(&walk, order - 1))
		order--;
	if (!order)
		declare_cpus(&walk);
	return walk.dead;
}

/* ---- later, in a clone ---- */

/* Blocks are aligned to their size, so one is a part of a word or some whole words. */
static void notrace probe_page_free(void *data, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);
	unsigned long pages = 1ul << order;
	unsigned long *word = bitmap + BIT_WORD(pfn), bits;

	if (likely(!READ_ONCE(recording)) || pfn + pages > bitmap_bits)
		return;
	if (pages < BITS_PER_LONG) {
		bits = ((1ul << pages) - 1) << (pfn % BITS_PER_LONG);
		atomic_long_or(bits, (atomic_long_t *)word);
		return;
	}
	for (; pages; pages -= BITS_PER_LONG)
		WRITE_ONCE(*word++, ~0ul);
}

void sfk_dead_record(void)
{
	WRITE_ONCE(recording, sfk_do_later && !page_poisoning_enabled_static());
}

static void find_page_free(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "mm_page_free"))
		*(struct tracepoint **)found = tracepoint;
}

int sfk_dead_prepare(void)
{
	struct tracepoint *found = NULL;
	int err;

	if (!recording)
		sfk_window_clear();
	if (page_free)
		return 0;
	bitmap = sfk_window_bitmap(&bitmap_bits);
	for_each_kernel_tracepoint(find_page_free, &found);
	if (!found)
		return -EOPNOTSUPP;
	err = tracepoint_probe_register(found, probe_page_free, NULL);
	if (!err)
		page_free = found;
	return err;
}

void sfk_dead_exit(void)
{
	WRITE_ONCE(recording, false);
	if (!page_free)
		return;
	tracepoint_probe_unregister(page_free, probe_page_free, NULL);
	tracepoint_synchronize_unregister();
}
