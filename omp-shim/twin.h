/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In a member: what it changed. The *twin* is a process made by the bare clone(2) system call, with
 * the memory as it was (copy-on-write) and one thread, which only waits; it dies with the member.
 * Written pages are found by the soft-dirty bits of /proc/self/pagemap (Documentation/admin-guide/mm/
 * soft-dirty.rst), bytes by comparison with the twin.
 */
#ifndef OMP_SHIM_TWIN_H
#define OMP_SHIM_TWIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "omp-shim/ranges.h"
#include "proto/omp.h"

struct twin {
	pid_t pid;
	int pagemap;		/* descriptor */
	uint64_t *entries;	/* of pagemap, as many as are read at a time */
	uint64_t page_count;	/* pages compared since the beginning */
};

/* Pieces that are put together or taken apart. */
struct pieces {
	uint8_t *bytes;
	size_t len, room;
};

/* Return: 0 or -errno (a descriptor or process could not be made). */
int twin_make(struct twin *twin);
void twin_end(struct twin *twin);

/*
 * Appends to `pieces` what differs from the twin in `ranges`, and makes the twin's memory the same.
 * Return: 0 or -errno; -EFBIG beyond `limit` bytes of pieces.
 */
int twin_diff(struct twin *twin, const struct ranges *ranges, struct pieces *pieces, size_t limit);

/*
 * Writes pieces that came to this process and to its twin. They were checked by pieces_check().
 * What this process changed itself and has not sent is not lost: such bytes are left alone in it.
 * Return: 0 or -errno.
 */
int twin_apply(struct twin *twin, const uint8_t *bytes, size_t len);

/* Writes to the twin alone: this process has, or will have, the same there. Return: 0 or -errno. */
int twin_put(struct twin *twin, uint64_t address, const void *bytes, size_t count);

/* True if they are pieces as proto/omp.h says, all within `ranges`. */
bool pieces_check(const uint8_t *bytes, size_t len, const struct ranges *ranges);
int pieces_add(struct pieces *pieces, uint64_t address, const void *bytes, size_t count);
void pieces_fini(struct pieces *pieces);

#endif
