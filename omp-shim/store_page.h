/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One page of the store: what was written to it, and when. */
#ifndef OMP_SHIM_STORE_PAGE_H
#define OMP_SHIM_STORE_PAGE_H

#include "omp-shim/pieces.h"
#include "omp-shim/stamps.h"

#define MAX_LAYERS 6u

struct layer { /* no two of a page have a byte in common */
	uint32_t stamp;
	struct layer *next;
	uint64_t mask[PAGE_LINES];
};

struct page {
	uint64_t address;
	struct layer *layers;	/* those that were written last first; not empty */
	unsigned layer_count;
	uint32_t *stamps;	/* or one for each byte, STAMP_NONE where nothing was written */
	uint32_t changed;	/* its newest write's sequence number */
	struct page *newer, *older;
	uint8_t bytes[PAGE_BYTES]; /* which count only where written */
};

/* Memory in pieces of all sizes up to a page or four, freed as a whole. */
struct slabs {
	struct slab *first;
	size_t left;
	struct layer *free_layers;
};

void *slabs_get(struct slabs *slabs, size_t bytes); /* NULL: no memory */
void slabs_fini(struct slabs *slabs);

/*
 * Puts in what the member wrote, under that stamp. Return: 0; -ENOMEM; -EEXIST with *at the byte of
 * a conflict, and the page in no good state.
 */
int page_merge(struct page *page, struct stamps *stamps, struct slabs *slabs, unsigned member,
	       uint32_t stamp, const struct pieces_part *part, unsigned *at);

/* An atomic operation's bytes, all within the page. Return: 0; -ENOMEM; -EEXIST. */
int page_atomic(struct page *page, struct stamps *stamps, struct slabs *slabs, unsigned member,
		unsigned at, const uint8_t *bytes, unsigned count);

/* Return: 0; -EEXIST: a write there is no atomic operation, and the member has not seen it. */
int page_allows_atomic(const struct page *page, const struct stamps *stamps, unsigned member,
		       unsigned at, unsigned count);

/* Which bytes the member has to be given; which were ever written. */
void page_due(const struct page *page, const struct stamps *stamps, unsigned member,
	      uint64_t mask[PAGE_LINES]);
void page_written(const struct page *page, uint64_t mask[PAGE_LINES]);

#endif
