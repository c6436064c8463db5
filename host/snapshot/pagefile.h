/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page file: the pages of one VM at one instant, as far as they are known here.
 *
 * Two memfds that somebody else keeps as well: the pages, sparse, and the map (enum page_state, one
 * byte per page). Clones map the pages MAP_PRIVATE, so what is in the file can never change and a
 * page must appear at once and whole.
 *
 *   ABSENT ── put ───────→ PRESENT
 *      ├───── set_zero ──→ ZERO
 *      └───── set_dead ──→ DEAD
 *
 * There are no other transitions. Only the one thread of memtap makes them.
 */
#ifndef SNAPSHOT_PAGEFILE_H
#define SNAPSHOT_PAGEFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "host/snapshot/uffd.h"
#include "proto/memtap.h"

struct snap_file;

/*
 * Opens a page file for a VM of `pages` pages. The descriptors are taken over if it works.
 * Return: 0 and *file, the caller's to destroy; -EINVAL if a memfd has not the right size; -errno.
 */
int snap_file_create(int page_fd, int map_fd, uint64_t pages, struct snap_file **file);
void snap_file_destroy(struct snap_file *file);

enum page_state snap_file_state(const struct snap_file *file, uint64_t gfn);

/*
 * How many pages from `gfn` on have this state, looking at `max` of them at most (inside the RAM).
 */
uint64_t snap_file_run(const struct snap_file *file, uint64_t gfn, uint64_t max,
		       enum page_state state);

/*
 * Puts an absent page in: as zeros if it is all zeros, else as it is. Return: its new state, or
 * -errno (-ENOMEM when memory is short; then it is absent still).
 */
int snap_file_put(struct snap_file *file, uint64_t gfn, const uint8_t page[SNAP_PAGE_BYTES]);

/* An absent page is known to be all zeros. */
void snap_file_set_zero(struct snap_file *file, uint64_t gfn);

/*
 * Absent pages whose bits are set are dead. `bits`: one for each page, in 64-bit words,
 * little-endian. Some 60 us for 1 GB, whatever the bits are.
 */
void snap_file_set_dead(struct snap_file *file, const uint64_t *bits);

/* Reads a page that is present. Return: 0 or -errno. */
int snap_file_read(const struct snap_file *file, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES]);

/* Reads one page of a memfd; a hole gives zeros and stays one. Return: 0 or -errno. */
int snap_page_read(int memfd, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES]);

bool snap_page_is_zero(const uint8_t page[SNAP_PAGE_BYTES]);

#endif
