/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory of the shim's own: mappings in a list, whose links are at their beginning. */
#define _GNU_SOURCE
#include "omp-shim/own.h"

#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define HEAD_BYTES 64u /* keeps what follows aligned */
#define PAGE_BYTES 4096u

struct own {
	struct own *next, *before;
	size_t bytes;
};
_Static_assert(sizeof(struct own) <= HEAD_BYTES, "the head fits");

static struct own *first;
static bool taken;

static void lock(void)
{
	while (__atomic_exchange_n(&taken, true, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void unlock(void)
{
	__atomic_store_n(&taken, false, __ATOMIC_RELEASE);
}

static struct own *head_of(void *block)
{
	return (struct own *)((uint8_t *)block - HEAD_BYTES);
}

static void take_out(struct own *own)
{
	if (own->before)
		own->before->next = own->next;
	else
		first = own->next;
	if (own->next)
		own->next->before = own->before;
}

static void put_in(struct own *own)
{
	own->before = NULL;
	own->next = first;
	if (first)
		first->before = own;
	first = own;
}

/* Return: the mapping with that many bytes, in the list; NULL: no memory, and nothing changed. */
static struct own *resize(struct own *own, size_t bytes)
{
	struct own *grown;

	if (own) {
		take_out(own);
		grown = mremap(own, own->bytes, bytes, MREMAP_MAYMOVE);
	} else {
		grown = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (grown != MAP_FAILED)
		grown->bytes = bytes;
	else
		grown = NULL;
	if (grown || own)
		put_in(grown ? grown : own);
	return grown;
}

void *own_grow(void *block, size_t *room, size_t need)
{
	struct own *own = block ? head_of(block) : NULL;
	size_t bytes;

	if (own && *room >= need)
		return block;
	if (need > SIZE_MAX / 4)
		return NULL;
	if (own && need < 2 * *room) /* so that many small steps cost little */
		need = 2 * *room;
	bytes = (need + HEAD_BYTES + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	lock();
	own = resize(own, bytes);
	unlock();
	if (!own)
		return NULL;
	*room = bytes - HEAD_BYTES;
	return (uint8_t *)own + HEAD_BYTES;
}

void own_free(void *block)
{
	if (!block)
		return;
	lock();
	take_out(head_of(block));
	unlock();
	munmap(head_of(block), head_of(block)->bytes);
}

size_t own_walk(void (*each)(void *arg, uint64_t start, uint64_t end), void *arg)
{
	size_t count = 0;

	lock();
	for (const struct own *own = first; own; own = own->next, count++) {
		if (each)
			each(arg, (uintptr_t)own, (uintptr_t)own + own->bytes);
	}
	unlock();
	return count;
}
