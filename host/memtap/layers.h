/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot of a disk: frozen layers (proto/vdisk.h), which nobody can change.
 *
 * Reading them may wait for a disk of this host. So what is read in a row is asked of the kernel in
 * advance, in pieces that double: then a page that is wanted is in memory, most of the time.
 */
#ifndef MEMTAP_LAYERS_H
#define MEMTAP_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/memtap.h"

#define MEM_LAYERS_FDS (1u + 2u * MEMTAP_MAX_LAYERS)	/* most descriptors of one stack */

struct mem_layers;

/* The base, if there is one, then file and map of `count` layers. What is not there is -1. */
struct mem_layers_fds {
	bool base;
	uint32_t count;
	const int *fds;
};

/*
 * Opens the layers of a disk of `pages` pages; the descriptors stay the caller's. Return: 0 and
 * *layers, the caller's to destroy; -EINVAL if one of them is missing or not what it should be;
 * -errno.
 */
int mem_layers_create(uint64_t pages, const struct mem_layers_fds *from,
		      struct mem_layers **layers);
void mem_layers_destroy(struct mem_layers *layers);

/* Return: PAGE_PRESENT and the page; PAGE_ZERO, and `page` is zeros as well; or -errno. */
int mem_layers_read(struct mem_layers *layers, uint64_t gfn, uint8_t page[MEMTAP_PAGE_BYTES]);

#endif
