/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In the parent: what members wrote, beside the memory of the instant.
 *
 * For each page that anybody wrote to there is a copy of what was written, and who wrote its bytes
 * when: a few *layers*, each a mask of bytes and their stamp (stamps.h), and one stamp for each byte
 * where there are more than a few. "When" is a clock of that member's: it counts its
 * synchronisations. What a member has seen of others is a vector of clocks (Fidge 1988, Mattern
 * 1989): after a barrier everything, after a lock what its last holder had seen. Two writes to a
 * byte of which neither member had seen the other are a *conflict* if the values differ; so is a
 * write and an atomic operation. Of the writes to a byte those count that no later one has seen.
 */
#ifndef OMP_SHIM_STORE_H
#define OMP_SHIM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "omp-shim/ranges.h"
#include "omp-shim/twin.h"

struct store;

/* Return: the store of a region of `members` members, the caller's to store_free(); NULL: no memory. */
struct store *store_new(unsigned members, const struct ranges *ranges);
void store_free(struct store *store);

/*
 * Member `member` wrote these pieces (checked) since its last synchronisation. Return: 0; -ENOMEM;
 * -EEXIST a conflict, at *address.
 */
int store_merge(struct store *store, unsigned member, const uint8_t *pieces, size_t len,
		uint64_t *address);

/*
 * Order. A clock is a vector of as many numbers as there are members, zeroed at the start: a lock has
 * one. store_release(): what `member` knows and wrote is behind the clock; its own time goes on.
 * store_acquire(): `member` knows what is behind the clock. A barrier is all members' release to one
 * clock, and then their acquire.
 */
void store_release(struct store *store, unsigned member, uint32_t *clock);
void store_acquire(struct store *store, unsigned member, const uint32_t *clock);

/*
 * Appends what others wrote and `member` was not given yet, as of now. Return: 0, -ENOMEM.
 */
int store_updates(struct store *store, unsigned member, struct pieces *pieces);

/* A locked instruction of a member's. Return: 0; -ENOMEM; -EFAULT outside of the ranges; -EEXIST. */
int store_fetch(struct store *store, unsigned member, uint64_t address, void *bytes, size_t count);
int store_atomic(struct store *store, unsigned member, uint64_t address, const void *bytes,
		 size_t count);

/*
 * Puts all that was written into the process's memory. Return: bytes that were; UINT64_MAX: some of
 * it is memory that this process does not have or may not write to, and nothing was put in.
 */
uint64_t store_commit(struct store *store);

#endif
