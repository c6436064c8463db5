/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a page travels: as it is, compressed, or as a reference to an equal one.
 *
 * Whether two pages are equal is found by a hash and decided by comparing their bytes.
 */
#ifndef MCDIST_CODING_H
#define MCDIST_CODING_H

#include "host/mcdist/mcdist.h"
#include "host/mcdist/wire.h"

struct mc_coder;

/* Reads pages by `read_page`. Return: the caller's to destroy, or NULL. */
struct mc_coder *mc_coder_create(mc_read_page *read_page, void *arg);
void mc_coder_destroy(struct mc_coder *coder);

/*
 * Adds the page that lies in the writer's room, compressed if that pays; with `same`, as a
 * reference if an equal one went out before, and remembers it for later ones.
 */
void mc_coder_add(struct mc_coder *coder, struct mc_pages_writer *w, uint64_t gfn, bool same,
		  struct mc_counters *counters);

/* Decompresses a page. Return: false if it is none. */
bool mc_decompress(const struct mc_coded *coded, uint8_t page[MC_PAGE_BYTES]);

/* Where a reference points. */
uint64_t mc_same_gfn(const struct mc_coded *coded);

#endif
