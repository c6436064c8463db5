// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window: pages of ours that the host finds by their number, reads and writes.
 *
 * In a clone the same pages are memory that guest and host share, so they are kept for ever: if the
 * kernel used them for something else, the host would go on taking that for bits.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/string.h>

#include "snowflock.h"

#define BITS_PER_PAGE (8ul * SFK_PAGE_BYTES)

static struct sfk_window *window;
static unsigned long window_pages;
static unsigned long bitmap_bits;

static unsigned long last_pfn(void)
{
	unsigned long last = 0;
	int nid;

	for_each_online_node(nid)
		last = max(last, pgdat_end_pfn(NODE_DATA(nid)));
	return last;
}

static void fill_header(void)
{
	window->magic = SFK_MAGIC;
	window->version = SFK_VERSION;
	window->gfn = page_to_pfn(virt_to_page(window));
	window->pages = window_pages;
	window->bits = bitmap_bits;
	window->state = SFK_IDLE;
}

/* As large as is needed; or as large as can be had in one piece, for the first part of RAM. */
int sfk_window_create(void)
{
	unsigned long pfns = last_pfn();

	BUILD_BUG_ON(PAGE_SIZE != SFK_PAGE_BYTES);
	window_pages = min_t(unsigned long, 1 + DIV_ROUND_UP(pfns, BITS_PER_PAGE),
			     SFK_MAX_WINDOW_PAGES);
	for (;;) {
		window = alloc_pages_exact(window_pages * PAGE_SIZE,
					   GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
		if (window)
			break;
		if (window_pages == 1)
			return -ENOMEM;
		window_pages = max(window_pages / 2, 1ul);
	}
	bitmap_bits = min(pfns, (window_pages - 1) * BITS_PER_PAGE);
	fill_header();
	return 0;
}

void sfk_window_destroy(bool keep)
{
	if (!keep)
		free_pages_exact(window, window_pages * PAGE_SIZE);
	window = NULL;
}

void sfk_window_where(struct sfk_where *where)
{
	*where = (struct sfk_where){ .version = SFK_VERSION,
				     .gfn = page_to_pfn(virt_to_page(window)),
				     .pages = window_pages };
}

unsigned long *sfk_window_bitmap(unsigned long *bits)
{
	*bits = bitmap_bits;
	return (unsigned long *)((u8 *)window + PAGE_SIZE);
}

void sfk_window_clear(void)
{
	memset((u8 *)window + PAGE_SIZE, 0, (window_pages - 1) * PAGE_SIZE);
}

void sfk_window_announce(u64 op, u64 dead, u64 hold_ns)
{
	WRITE_ONCE(window->letter.turn, 0);
	window->held_op = op;
	window->dead = dead;
	window->hold_ns = hold_ns;
	smp_store_release(&window->state, SFK_HELD);
}

bool sfk_window_has_letter(u64 op)
{
	return smp_load_acquire(&window->letter.turn) == op;
}

void sfk_window_take_letter(struct sfk_letter *letter)
{
	*letter = window->letter;
	memzero_explicit(window->letter.entropy, sizeof(window->letter.entropy));
	smp_store_release(&window->state, SFK_IDLE);
}

void sfk_window_give_up(void)
{
	smp_store_release(&window->state, SFK_IDLE);
}

void sfk_window_renew(void)
{
	fill_header();
}
