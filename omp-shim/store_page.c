/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One page of the store: layers as long as there are few, then a stamp for each byte. */
#include "omp-shim/store_page.h"

#include <errno.h>

#include "omp-shim/own.h"

#define SLAB_BYTES (4u << 20)

struct slab {
	struct slab *next;
	uint8_t bytes[];
};

/* -- memory ----------------------------------------------------------------------------------- */

void *slabs_get(struct slabs *slabs, size_t bytes)
{
	size_t room = 0;
	struct slab *slab;

	bytes = (bytes + 15) & ~(size_t)15;
	if (slabs->left < bytes) {
		slab = own_grow(NULL, &room, SLAB_BYTES);
		if (!slab)
			return NULL;
		slab->next = slabs->first;
		slabs->first = slab;
		slabs->left = SLAB_BYTES - sizeof(*slab);
	}
	slabs->left -= bytes;
	return slabs->first->bytes + slabs->left;
}

void slabs_fini(struct slabs *slabs)
{
	while (slabs->first) {
		struct slab *next = slabs->first->next;

		own_free(slabs->first);
		slabs->first = next;
	}
	memset(slabs, 0, sizeof(*slabs));
}

/* -- layers ----------------------------------------------------------------------------------- */

static bool is_empty(const uint64_t mask[PAGE_LINES])
{
	uint64_t any = 0;

	for (unsigned line = 0; line < PAGE_LINES; line++)
		any |= mask[line];
	return !any;
}

/* Return: the page's layer of that stamp, made if need be; NULL: no memory. */
static struct layer *get_layer(struct page *page, struct slabs *slabs, uint32_t stamp)
{
	struct layer *layer;

	for (layer = page->layers; layer; layer = layer->next) {
		if (layer->stamp == stamp)
			return layer;
	}
	layer = slabs->free_layers;
	if (layer)
		slabs->free_layers = layer->next;
	else
		layer = slabs_get(slabs, sizeof(*layer));
	if (!layer)
		return NULL;
	memset(layer->mask, 0, sizeof(layer->mask));
	layer->stamp = stamp;
	layer->next = page->layers;
	page->layers = layer;
	page->layer_count++;
	return layer;
}

static void drop_empty(struct page *page, struct slabs *slabs)
{
	struct layer **at = &page->layers, *layer;

	while ((layer = *at)) {
		if (!is_empty(layer->mask)) {
			at = &layer->next;
			continue;
		}
		*at = layer->next;
		layer->next = slabs->free_layers;
		slabs->free_layers = layer;
		page->layer_count--;
	}
}

/* One stamp for each byte from now on. */
static int split(struct page *page, struct slabs *slabs)
{
	uint32_t *each;

	if (page->stamps)
		return 0;
	each = slabs_get(slabs, PAGE_BYTES * sizeof(*each));
	if (!each)
		return -ENOMEM;
	memset(each, 0, PAGE_BYTES * sizeof(*each));
	for (struct layer *layer = page->layers; layer; layer = layer->next) {
		for (unsigned line = 0; line < PAGE_LINES; line++) {
			uint64_t left = layer->mask[line];

			for (; left; left &= left - 1)
				each[line * LINE_BYTES + (unsigned)__builtin_ctzll(left)] =
					layer->stamp;
		}
		memset(layer->mask, 0, sizeof(layer->mask));
	}
	drop_empty(page, slabs);
	page->stamps = each;
	return 0;
}

/* Layers that nobody can care about become one. Return: 0 or -ENOMEM. */
static int fold(struct page *page, struct stamps *stamps, struct slabs *slabs)
{
	struct layer *old = get_layer(page, slabs, STAMP_OLD);

	if (!old)
		return -ENOMEM;
	if (stamps->looked != stamps->sequence)
		stamps_look(stamps);
	for (struct layer *layer = page->layers; layer; layer = layer->next) {
		if (layer == old || !stamps_old(stamps, layer->stamp))
			continue;
		for (unsigned line = 0; line < PAGE_LINES; line++)
			old->mask[line] |= layer->mask[line];
		memset(layer->mask, 0, sizeof(layer->mask));
	}
	drop_empty(page, slabs);
	return page->layer_count > MAX_LAYERS ? split(page, slabs) : 0;
}

/* Return: true if the bytes of both are the same; else *at is one that is not. */
static bool same(const struct page *page, const struct pieces_part *part, unsigned line,
		 uint64_t mask, unsigned *at)
{
	for (; mask; mask &= mask - 1) {
		*at = line * LINE_BYTES + (unsigned)__builtin_ctzll(mask);
		if (page->bytes[*at] != part->page[*at])
			return false;
	}
	return true;
}

/*
 * A layer that the member has not seen: what it wrote there must be the same, and is from then on
 * both's. `rest` is what of the part is only the member's. Return: as page_merge().
 */
static int meet(struct page *page, struct stamps *stamps, struct slabs *slabs, struct layer *layer,
		uint32_t stamp, const struct pieces_part *part, uint64_t *rest, unsigned *at)
{
	const bool atomic = stamps->all[layer->stamp].atomic;
	struct layer *both = NULL;
	uint32_t joint;

	for (unsigned line = part->first_line; line < part->end_line; line++) {
		uint64_t common = layer->mask[line] & part->mask[line];

		if (!common)
			continue;
		if (atomic || !same(page, part, line, common, at)) {
			*at = atomic ? line * LINE_BYTES + (unsigned)__builtin_ctzll(common) : *at;
			return -EEXIST;
		}
		joint = both ? both->stamp : stamps_join(stamps, layer->stamp, stamp);
		both = both ? both : joint ? get_layer(page, slabs, joint) : NULL;
		if (!both)
			return -ENOMEM;
		layer->mask[line] &= ~common;
		both->mask[line] |= common;
		rest[line] &= ~common;
	}
	return 0;
}

static int merge_layers(struct page *page, struct stamps *stamps, struct slabs *slabs,
			unsigned member, uint32_t stamp, const struct pieces_part *part,
			unsigned *at)
{
	uint64_t rest[PAGE_LINES];
	struct layer *mine;
	int rc = 0;

	memcpy(rest, part->mask, sizeof(rest));
	for (struct layer *layer = page->layers; layer && !rc; layer = layer->next) {
		if (layer->stamp == stamp)
			continue;
		if (!stamps_seen(stamps, member, layer->stamp)) {
			rc = meet(page, stamps, slabs, layer, stamp, part, rest, at);
			continue;
		}
		for (unsigned line = part->first_line; line < part->end_line; line++)
			layer->mask[line] &= ~part->mask[line];
	}
	mine = rc ? NULL : get_layer(page, slabs, stamp);
	if (!mine)
		return rc ? rc : -ENOMEM;
	for (unsigned line = part->first_line; line < part->end_line; line++)
		mine->mask[line] |= rest[line];
	if (page->layer_count > 1)
		drop_empty(page, slabs);
	return page->layer_count > MAX_LAYERS ? fold(page, stamps, slabs) : 0;
}

/* -- a stamp for each byte -------------------------------------------------------------------- */

static int merge_bytes(struct page *page, struct stamps *stamps, unsigned member, uint32_t stamp,
		       const struct pieces_part *part, unsigned *at)
{
	uint32_t asked = STAMP_NONE; /* whose answer is known */
	bool seen = true;

	for (unsigned line = part->first_line; line < part->end_line; line++) {
		for (uint64_t left = part->mask[line]; left; left &= left - 1) {
			unsigned byte = line * LINE_BYTES + (unsigned)__builtin_ctzll(left);
			uint32_t *old = &page->stamps[byte], joint;

			if (*old != asked) {
				asked = *old;
				seen = stamps_seen(stamps, member, asked);
			}
			if (seen) {
				*old = stamp;
				continue;
			}
			*at = byte;
			if (stamps->all[asked].atomic || page->bytes[byte] != part->page[byte])
				return -EEXIST;
			joint = stamps_join(stamps, asked, stamp);
			if (joint == STAMP_NONE)
				return -ENOMEM;
			*old = joint;
		}
	}
	return 0;
}

int page_merge(struct page *page, struct stamps *stamps, struct slabs *slabs, unsigned member,
	       uint32_t stamp, const struct pieces_part *part, unsigned *at)
{
	int rc = page->stamps ? merge_bytes(page, stamps, member, stamp, part, at)
			      : merge_layers(page, stamps, slabs, member, stamp, part, at);

	if (rc)
		return rc;
	for (unsigned line = part->first_line; line < part->end_line; line++)
		line_copy(page->bytes + line * LINE_BYTES, part->page + line * LINE_BYTES,
			  part->mask[line]);
	return 0;
}

/* -- atomic operations ------------------------------------------------------------------------ */

static uint32_t stamp_of(const struct page *page, unsigned at)
{
	if (page->stamps)
		return page->stamps[at];
	for (const struct layer *layer = page->layers; layer; layer = layer->next) {
		if (layer->mask[at / LINE_BYTES] >> at % LINE_BYTES & 1)
			return layer->stamp;
	}
	return STAMP_NONE;
}

int page_allows_atomic(const struct page *page, const struct stamps *stamps, unsigned member,
		       unsigned at, unsigned count)
{
	for (unsigned i = at; i < at + count; i++) {
		uint32_t stamp = stamp_of(page, i);

		if (!stamps->all[stamp].atomic && !stamps_seen(stamps, member, stamp))
			return -EEXIST;
	}
	return 0;
}

int page_atomic(struct page *page, struct stamps *stamps, struct slabs *slabs, unsigned member,
		unsigned at, const uint8_t *bytes, unsigned count)
{
	unsigned end;
	int rc = page_allows_atomic(page, stamps, member, at, count);

	if (!rc)
		rc = split(page, slabs);
	if (rc)
		return rc;
	memcpy(page->bytes + at, bytes, count);
	for (unsigned from = at; from < at + count; from = end) {
		uint32_t stamp = page->stamps[from];

		for (end = from + 1; end < at + count && page->stamps[end] == stamp;)
			end++;
		stamp = stamps_atomic(stamps, member, stamp, page->address + from, end - from);
		if (stamp == STAMP_NONE)
			return -ENOMEM;
		for (unsigned i = from; i < end; i++)
			page->stamps[i] = stamp;
	}
	return 0;
}

/* -- what there is ---------------------------------------------------------------------------- */

void page_due(const struct page *page, const struct stamps *stamps, unsigned member,
	      uint64_t mask[PAGE_LINES])
{
	uint32_t asked = STAMP_NONE;
	bool due = false;

	memset(mask, 0, PAGE_LINES * sizeof(*mask));
	for (const struct layer *layer = page->layers; layer; layer = layer->next) {
		for (unsigned i = 0; stamps_due(stamps, member, layer->stamp) && i < PAGE_LINES; i++)
			mask[i] |= layer->mask[i];
	}
	for (unsigned i = 0; page->stamps && i < PAGE_BYTES; i++) {
		if (page->stamps[i] != asked) {
			asked = page->stamps[i];
			due = stamps_due(stamps, member, asked);
		}
		mask[i / LINE_BYTES] |= (uint64_t)due << i % LINE_BYTES;
	}
}

void page_written(const struct page *page, uint64_t mask[PAGE_LINES])
{
	memset(mask, 0, PAGE_LINES * sizeof(*mask));
	for (const struct layer *layer = page->layers; layer; layer = layer->next) {
		for (unsigned line = 0; line < PAGE_LINES; line++)
			mask[line] |= layer->mask[line];
	}
	for (unsigned i = 0; page->stamps && i < PAGE_BYTES; i++)
		mask[i / LINE_BYTES] |= (uint64_t)(page->stamps[i] != STAMP_NONE) << i % LINE_BYTES;
}
