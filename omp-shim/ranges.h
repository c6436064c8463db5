/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which memory of the process a region's members may change for all to see. */
#ifndef OMP_SHIM_RANGES_H
#define OMP_SHIM_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end; /* [start, end) */
};

/* Sorted, not overlapping, none empty. Zeroed at the start; ranges_fini() when done. */
struct ranges {
	struct range *all;
	size_t count, room;
};

/* Each keeps it sorted and merged. Return: 0 or -ENOMEM. */
int ranges_add(struct ranges *ranges, uint64_t start, uint64_t end);
int ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end);
bool ranges_hold(const struct ranges *ranges, uint64_t start, uint64_t end); /* all of it */
void ranges_fini(struct ranges *ranges);

/*
 * Writable private mappings of this process (/proc/self/maps), without the data of the libraries
 * that keep their own (libc, the loader, libgomp, libsf, libxenstore, libcapstone, libseccomp,
 * this one: by dl_iterate_phdr()), vdso and the like. Return: 0 or -errno; -ENOTSUP with *shared
 * set to the address of a writable shared mapping.
 */
int ranges_of_process(struct ranges *ranges, uint64_t *shared);

/*
 * The TLS of the calling thread: the blocks of modules that are not those above. Return: 0 or
 * -ENOMEM.
 */
int ranges_of_tls(struct ranges *ranges);

#endif
