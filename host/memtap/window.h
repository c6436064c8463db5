/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clone's window (proto/kmod.h): the page that says who it is, and what it has freed since.
 *
 * Our mapping leaves the window's first page out: a look at it would put a page of zeros there, and
 * the clone would never ask for the real one. Everything in it can be written by the clone at any
 * time.
 */
#ifndef MEMTAP_WINDOW_H
#define MEMTAP_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "host/snapshot/uffd.h"

struct mem_window {
	uint64_t first;		/* page of the file that it begins at */
	uint64_t pages;		/* 0: there is none */
	uint8_t *rest;		/* all but the first page: the bitmap, then the first's image */
};

/*
 * Opens the window of a clone with `ram_pages` of RAM. `fd` stays the caller's. Return: 0, -EINVAL
 * if it is not inside the RAM or the memfd has not the right size, or -errno.
 */
int mem_window_open(struct mem_window *window, int fd, uint64_t first, uint64_t pages,
		    uint64_t ram_pages);
void mem_window_close(struct mem_window *window);

/* Is this page of the file in the window? */
static inline bool mem_window_has(const struct mem_window *window, uint64_t gfn)
{
	return gfn - window->first < window->pages;
}

/* Has the clone freed this page of the file at any time since its first moment? */
bool mem_window_is_dead(const struct mem_window *window, uint64_t gfn);

/*
 * A clone looks at a page of its window that is missing: puts it in and wakes it. Return: 0 or
 * -errno.
 */
int mem_window_answer(const struct mem_window *window, const struct snap_uffd *uffd, uint64_t gfn);

#endif
