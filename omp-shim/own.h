/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of the shim's own: whole pages, never from the program's heap, and never compared:
 * ranges_of_process() leaves it out. What a member notes down would go home otherwise.
 */
#ifndef OMP_SHIM_OWN_H
#define OMP_SHIM_OWN_H

#include <stddef.h>
#include <stdint.h>

/*
 * Makes `block` (NULL: none yet) `need` bytes or more; what is new is zero. *room is how many there
 * are. Return: the block, which may have moved, the caller's to own_free(); NULL: no memory, and all
 * is as it was.
 */
void *own_grow(void *block, size_t *room, size_t need);
void own_free(void *block);

/* Calls `each` with the bounds of every block; it must not get or free any. Return: how many. */
size_t own_walk(void (*each)(void *arg, uint64_t start, uint64_t end), void *arg);

#endif
