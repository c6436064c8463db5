/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In a member: what it changed. The *twin* is a process made by the bare clone(2) system call, with
 * the memory as it was (copy-on-write) and one thread, which only waits; it dies with the member.
 * Written pages are found by the soft-dirty bits of /proc/self/pagemap (Documentation/admin-guide/mm/
 * soft-dirty.rst), bytes by comparison with the twin.
 */
#ifndef OMP_SHIM_TWIN_H
#define OMP_SHIM_TWIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "omp-shim/pieces.h"
#include "omp-shim/ranges.h"
#include "proto/omp.h"

struct twin {
	pid_t pid;
	int pagemap, memory;	/* descriptors: of this process */
	int twin_pagemap, twin_memory;
	int clear_refs;
	bool by_owner;		/* no soft-dirty bits here: pages that this process has for itself */
	struct batch *batch;
	uint64_t page_count;	/* pages compared since the beginning */
	uint64_t idle_count;	/* of these, found unchanged since the bits were cleared */
};

/* Return: 0 or -errno (a descriptor or process could not be made). */
int twin_make(struct twin *twin);
void twin_end(struct twin *twin);

/*
 * Appends to `pieces` what differs from the twin in `ranges`, and makes the twin's memory the same.
 * The ranges of a call hold those of the call before; what is added must not have been written
 * before that one. Return: 0 or -errno; -EFBIG beyond `limit` bytes of pieces; -EFAULT: something
 * was written where the twin has no memory.
 */
int twin_diff(struct twin *twin, const struct ranges *ranges, struct pieces *pieces, size_t limit);

/*
 * Writes pieces that came to this process and to its twin. They were checked by pieces_check().
 * What this process changed itself and has not sent is not lost: such bytes are left alone in it.
 * Return: 0 or -errno.
 */
int twin_apply(struct twin *twin, const uint8_t *bytes, size_t len);

/*
 * Return: 1 if this process changed any of these bytes and has not sent them: before a locked
 * instruction they have to be; 0; -errno.
 */
int twin_differs(struct twin *twin, uint64_t address, size_t count);

/* Writes to the twin alone: this process has, or will have, the same there. Return: 0 or -errno. */
int twin_put(struct twin *twin, uint64_t address, const void *bytes, size_t count);

#endif
