/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LZ4 blocks, and a table of contents that went out: for each hash the last one. */
#include "host/mcdist/coding.h"

#include <endian.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#define CONTENTS 16384u			/* remembered */
#define PAYS_BYTES (MC_PAGE_BYTES / 4 * 3)	/* a compressed page is not larger */

struct content {
	uint64_t hash;		/* 0: none */
	uint64_t gfn;
};

struct mc_coder {
	mc_read_page *read_page;
	void *arg;
	struct content contents[CONTENTS];
};

struct mc_coder *mc_coder_create(mc_read_page *read_page, void *arg)
{
	struct mc_coder *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->read_page = read_page;
	c->arg = arg;
	return c;
}

void mc_coder_destroy(struct mc_coder *coder)
{
	free(coder);
}

/* Good enough to find candidates, and faster than reading the page was. */
static uint64_t hash_of(const uint8_t *page)
{
	uint64_t lanes[4] = { 1, 2, 3, 4 };

	for (unsigned i = 0; i < MC_PAGE_BYTES; i += sizeof(lanes)) {
		uint64_t words[4];

		memcpy(words, page + i, sizeof(words));
		for (unsigned k = 0; k < 4; k++) {
			lanes[k] = (lanes[k] ^ words[k]) * 0x9e3779b97f4a7c15ull;
			lanes[k] ^= lanes[k] >> 29;
		}
	}
	return (lanes[0] ^ lanes[1] * 3 ^ lanes[2] * 5 ^ lanes[3] * 7) | 1;
}

/* Return: true, and *gfn of an equal page that went out before. */
static bool find_same(struct mc_coder *c, const uint8_t *page, uint64_t *gfn)
{
	uint64_t hash = hash_of(page);
	struct content *found = &c->contents[(hash >> 20) % CONTENTS];
	uint8_t other[MC_PAGE_BYTES];

	if (found->hash == hash && found->gfn != *gfn &&
	    c->read_page(c->arg, found->gfn, other) == 1 && !memcmp(page, other, MC_PAGE_BYTES)) {
		*gfn = found->gfn;
		return true;
	}
	*found = (struct content){ hash, *gfn };
	return false;
}

void mc_coder_add(struct mc_coder *coder, struct mc_pages_writer *w, uint64_t gfn, bool same,
		  struct mc_counters *counters)
{
	uint8_t *room = mc_pages_room(w);
	char packed[PAYS_BYTES];
	int bytes;

	if (same && find_same(coder, room, &gfn)) {
		gfn = htole64(gfn);
		memcpy(room, &gfn, sizeof(gfn));
		mc_pages_add(w, MC_SAME, sizeof(gfn));
		counters->same++;
		return;
	}
	bytes = LZ4_compress_default((const char *)room, packed, MC_PAGE_BYTES, PAYS_BYTES);
	if (bytes <= 0) {
		mc_pages_add(w, MC_PLAIN, MC_PAGE_BYTES);
		return;
	}
	memcpy(room, packed, (size_t)bytes);
	mc_pages_add(w, MC_LZ4, (uint16_t)bytes);
	counters->compressed++;
}

bool mc_decompress(const struct mc_coded *coded, uint8_t page[MC_PAGE_BYTES])
{
	return LZ4_decompress_safe((const char *)coded->data, (char *)page, coded->bytes,
				   MC_PAGE_BYTES) == MC_PAGE_BYTES;
}

uint64_t mc_same_gfn(const struct mc_coded *coded)
{
	uint64_t gfn;

	memcpy(&gfn, coded->data, sizeof(gfn));
	return le64toh(gfn);
}
