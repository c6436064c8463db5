/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * malloc() and its family. Outside of regions that are away they are the C library's. In a member,
 * memory comes from a part of the address space that is the member's alone, reserved in the parent
 * before the first clone, and with it goes home what is in it, the allocator's own notes included:
 * the parent may free it later. Memory of others that a member frees is freed by the parent when the
 * region is done.
 */
#ifndef OMP_SHIM_HEAP_H
#define OMP_SHIM_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "omp-shim/ranges.h"

#define HEAP_PART_BYTES (16ull << 30) /* of address space, for each member */

/* In the parent: parts for `members` members (more than before, or as many). Return: 0 or -errno. */
int heap_reserve(unsigned members);

/* In member `number`: from now on memory comes from its part. */
void heap_enter(unsigned number);

/*
 * In the parent: adds all of all parts, where pieces may come from. In a member: what is in use of
 * them, and takes out the rest; so it is asked again before each comparison, while pieces of others
 * are checked against what the parent has. Return: 0 or -ENOMEM.
 */
int heap_ranges(struct ranges *ranges);

/* What this member freed that was not its own: `*count` addresses, good until the member's end. */
const uint64_t *heap_frees(size_t *count);

#endif
