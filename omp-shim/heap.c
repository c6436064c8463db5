/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * malloc() and its family: the C library's outside of members, in a member that of its part.
 *
 * A part begins with its notes (struct part), and each block with a header of 16 bytes. Small blocks
 * are of size classes, four to each power of two, taken from the top of what is in use, and kept in
 * lists when they are freed. Large ones are whole pages; freed ones are kept in one list by
 * address, joined with their neighbours, and their pages given back, so that they read as zeros.
 *
 * The shim's own calls in a member get memory from one more part, which is nobody's business: it
 * is not compared, and what the shim frees is not the parent's to free.
 */
#define _GNU_SOURCE
#include "omp-shim/heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "omp-shim/libraries.h"
#include "omp-shim/team.h"

#define PAGE_BYTES	  4096u
#define PART_MAGIC	  0x70616568u /* "heap" */
#define SMALL_BYTES	  32768u      /* blocks up to these are of a class */
#define CLASSES		  48u
#define EXPORT		  __attribute__((visibility("default")))
#define likely(condition) __builtin_expect(!!(condition), 1)

struct block { /* 16 bytes before what the program has */
	uint64_t bytes;	 /* of it all, with this; of a piece within one (aligned): 0 */
	uint64_t before; /* of an aligned one: how many bytes before is the block it is in */
};

struct free_block {
	struct block block;
	struct free_block *next;
};

struct part {
	uint32_t magic, lock;
	uint64_t top;			    /* bytes in use, with this */
	struct free_block *small[CLASSES];
	struct free_block *large;	    /* by address */
};

struct area { /* parts that were reserved together */
	uint8_t *start;
	unsigned first, count;
};

#define AREAS 32u
static struct area areas[AREAS];
static unsigned area_count, part_count;

static struct {
	struct part *part; /* the member's; NULL: this is none */
	struct part *own;  /* the shim's */
	uint64_t *frees;   /* what was another's */
	size_t count, room;
	uint32_t lock;	   /* of these */
} here;

/* -- locks: those of libc are taken over ------------------------------------------------------ */

static void lock(uint32_t *word)
{
	uint32_t seen = 0;

	if (likely(__atomic_compare_exchange_n(word, &seen, 1, false, __ATOMIC_ACQUIRE,
					       __ATOMIC_RELAXED)))
		return;
	while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void unlock(uint32_t *word)
{
	if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2)
		syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* -- parts ------------------------------------------------------------------------------------ */

static struct part *part_number(unsigned number)
{
	for (unsigned i = 0; i < area_count; i++)
		if (number - areas[i].first < areas[i].count)
			return (struct part *)(void *)(areas[i].start + (number - areas[i].first) *
									       HEAP_PART_BYTES);
	return NULL;
}

static struct part *part_of(const void *address)
{
	uint64_t offset;

	for (unsigned i = 0; i < area_count; i++) {
		offset = (uintptr_t)address - (uintptr_t)areas[i].start;
		if (offset < areas[i].count * HEAP_PART_BYTES)
			return (struct part *)(void *)(areas[i].start + offset / HEAP_PART_BYTES *
									       HEAP_PART_BYTES);
	}
	offset = (uintptr_t)address - (uintptr_t)here.own;
	return here.own && offset < HEAP_PART_BYTES ? here.own : NULL;
}

static void *reserve(unsigned count)
{
	void *start = mmap(NULL, count * HEAP_PART_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return start == MAP_FAILED ? NULL : start;
}

static void part_begin(struct part *part)
{
	if (part->magic == PART_MAGIC)
		return;
	part->top = (sizeof(*part) + 15) & ~15ull;
	part->magic = PART_MAGIC;
}

/* Sizes of classes: 32, 48, 64, 80, 96, 112, 128, 160, … 32768: four to each power of two. */
static unsigned class_of(size_t bytes, size_t *rounded)
{
	unsigned power, step;

	if (bytes <= 128) {
		*rounded = bytes <= 32 ? 32 : (bytes + 15) & ~(size_t)15;
		return (unsigned)(*rounded / 16) - 2;
	}
	power = 63 - (unsigned)__builtin_clzll(bytes - 1); /* bytes is in (2^power, 2^(power + 1)] */
	step = (unsigned)((bytes - 1) >> (power - 2)) & 3;
	*rounded = (size_t)(step + 5) << (power - 2);
	return 7 + (power - 7) * 4 + step;
}

static struct block *take_top(struct part *part, size_t bytes)
{
	struct block *block = (void *)((uint8_t *)part + part->top);

	if (bytes > HEAP_PART_BYTES - part->top)
		return NULL;
	part->top += bytes;
	block->bytes = bytes;
	return block;
}

/* The first of the freed that is large enough; what is too much of it stays. */
static struct block *take_large(struct part *part, size_t bytes)
{
	for (struct free_block **at = &part->large; *at; at = &(*at)->next) {
		struct free_block *found = *at, *rest;

		if (found->block.bytes < bytes)
			continue;
		if (found->block.bytes > bytes) {
			rest = (void *)((uint8_t *)found + bytes);
			rest->block.bytes = found->block.bytes - bytes;
			rest->next = found->next;
			*at = rest;
		} else {
			*at = found->next;
		}
		found->block.bytes = bytes;
		found->next = NULL;
		return &found->block;
	}
	return NULL;
}

/* Return: a block for so many bytes of the program's; NULL: there is no room. */
static struct block *part_take(struct part *part, size_t bytes)
{
	struct free_block *found;
	struct block *block;
	unsigned class;

	if (bytes > HEAP_PART_BYTES - PAGE_BYTES - sizeof(*block))
		return NULL;
	bytes += sizeof(*block);
	lock(&part->lock);
	if (bytes > SMALL_BYTES) {
		bytes = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
		block = take_large(part, bytes);
	} else {
		class = class_of(bytes, &bytes);
		found = part->small[class];
		if (found)
			part->small[class] = found->next;
		block = found ? &found->block : NULL;
	}
	if (!block)
		block = take_top(part, bytes);
	unlock(&part->lock);
	return block;
}

/* Joins a freed block with the next one if they touch. */
static void join(struct free_block *block)
{
	struct free_block *next = block->next;

	if (!next || (uint8_t *)block + block->block.bytes != (uint8_t *)next)
		return;
	block->block.bytes += next->block.bytes;
	block->next = next->next;
	memset(next, 0, sizeof(*next));
}

static void give_large(struct part *part, struct free_block *block)
{
	uintptr_t first = ((uintptr_t)(block + 1) + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
	uintptr_t end = ((uintptr_t)block + block->block.bytes) & ~(uintptr_t)(PAGE_BYTES - 1);
	struct free_block **at = &part->large, *before = NULL;

	if (end > first)
		madvise((void *)first, end - first, MADV_DONTNEED);
	while (*at && *at < block) {
		before = *at;
		at = &before->next;
	}
	block->next = *at;
	*at = block;
	join(block);
	if (before)
		join(before);
}

static void part_give(struct part *part, struct block *block)
{
	struct free_block *freed = (struct free_block *)block;
	size_t rounded;

	lock(&part->lock);
	if (block->bytes > SMALL_BYTES) {
		give_large(part, freed);
	} else {
		unsigned class = class_of(block->bytes, &rounded);

		freed->next = part->small[class];
		part->small[class] = freed;
	}
	unlock(&part->lock);
}

/* -- what the program has --------------------------------------------------------------------- */

static struct block *block_of(void *address)
{
	struct block *block = (struct block *)address - 1;

	return block->bytes ? block : (void *)((uint8_t *)block - block->before);
}

static size_t usable(void *address)
{
	struct block *block = block_of(address);

	return block->bytes - (size_t)((uint8_t *)address - (uint8_t *)block);
}

/* `align` is a power of two. Aligned memory has a header of its own, which leads to the block's. */
static void *part_malloc(struct part *part, size_t align, size_t bytes)
{
	struct block *block, *inner;
	uintptr_t start;

	if (align > 16 && (bytes > HEAP_PART_BYTES || align > HEAP_PART_BYTES))
		block = NULL;
	else
		block = part_take(part, align > 16 ? bytes + align : bytes);
	if (!block) {
		errno = ENOMEM;
		return NULL;
	}
	start = ((uintptr_t)(block + 1) + align - 1) & ~(align - 1);
	inner = (struct block *)start - 1;
	if (inner != block) {
		inner->bytes = 0;
		inner->before = (uintptr_t)inner - (uintptr_t)block;
	}
	return (void *)start;
}

/* The parent frees it when the region is done. */
static void note_foreign(void *address)
{
	lock(&here.lock);
	if (here.count == here.room) {
		size_t room = here.room ? here.room * 2 : 512;
		uint64_t *grown = part_malloc(here.own, 16, room * sizeof(*grown));

		if (!grown)
			member_fail(OMP_TOO_MUCH, "it freed more than can be noted");
		memcpy(grown, here.frees, here.count * sizeof(*grown));
		if (here.frees)
			part_give(here.own, block_of(here.frees));
		here.frees = grown;
		here.room = room;
	}
	here.frees[here.count++] = (uintptr_t)address;
	unlock(&here.lock);
}

/* -- the C library's -------------------------------------------------------------------------- */

static struct {
	void *(*malloc)(size_t bytes);
	void (*free)(void *address);
	void *(*calloc)(size_t count, size_t bytes);
	void *(*realloc)(void *address, size_t bytes);
	void *(*memalign)(size_t align, size_t bytes);
	size_t (*usable)(void *address);
} libc;

/* For what is allocated before the functions are found, by dlsym() itself: never freed. */
static uint8_t early[65536] __attribute__((aligned(16)));
static size_t early_used;

static void *early_malloc(size_t bytes)
{
	size_t start = __atomic_fetch_add(&early_used, ((bytes + 15) & ~(size_t)15) + 16,
					  __ATOMIC_RELAXED);

	if (bytes > sizeof(early) || start + bytes + 16 > sizeof(early)) {
		errno = ENOMEM;
		return NULL;
	}
	*(size_t *)(void *)(early + start) = bytes;
	return early + start + 16;
}

static bool is_early(const void *address)
{
	return (uintptr_t)address - (uintptr_t)early < sizeof(early);
}

static size_t early_usable(const void *address)
{
	return *(const size_t *)(const void *)((const uint8_t *)address - 16);
}

/* Return: false while they are being found. */
static bool find_libc(void)
{
	static __thread bool finding __attribute__((tls_model("initial-exec")));

	if (likely(__atomic_load_n(&libc.malloc, __ATOMIC_ACQUIRE)))
		return true;
	if (finding)
		return false;
	finding = true;
	libc.free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	libc.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	libc.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	libc.memalign = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "memalign");
	libc.usable = (size_t (*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
	__atomic_store_n(&libc.malloc, (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc"),
			 __ATOMIC_RELEASE);
	finding = false;
	return libc.malloc;
}

/* -- malloc() and its family ------------------------------------------------------------------- */

/* True if memory is for the shim, and of no use to the program. */
static bool is_ours(const void *caller)
{
	return library_is_own(caller) || library_is_helper(caller);
}

/* The part that a call is served from; NULL: the C library. */
static inline struct part *serving(const void *caller)
{
	if (likely(!here.part))
		return NULL;
	return is_ours(caller) ? here.own : here.part;
}

static void *get(const void *caller, size_t align, size_t bytes)
{
	struct part *part = serving(caller);

	if (part)
		return part_malloc(part, align < 16 ? 16 : align, bytes);
	if (!find_libc())
		return align > 16 ? NULL : early_malloc(bytes);
	return align > 16 ? libc.memalign(align, bytes) : libc.malloc(bytes);
}

static void put(const void *caller, void *address)
{
	struct part *part = area_count ? part_of(address) : NULL;

	if (is_early(address) || !address)
		return;
	if (here.part && part != here.part && part != here.own) {
		if (!is_ours(caller))
			note_foreign(address);
	} else if (part) {
		part_give(part, block_of(address));
	} else if (find_libc()) {
		libc.free(address);
	}
}

static size_t size_of(void *address)
{
	if (is_early(address))
		return early_usable(address);
	if (area_count && part_of(address))
		return usable(address);
	return find_libc() ? libc.usable(address) : 0;
}

EXPORT void *malloc(size_t bytes)
{
	if (likely(!here.part && libc.malloc))
		return libc.malloc(bytes);
	return get(__builtin_return_address(0), 16, bytes);
}

EXPORT void free(void *address)
{
	if (likely(!area_count && libc.malloc && !is_early(address)))
		libc.free(address);
	else
		put(__builtin_return_address(0), address);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
	size_t all;
	void *address;

	if (likely(!here.part && libc.malloc))
		return libc.calloc(count, bytes);
	if (__builtin_mul_overflow(count, bytes, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	address = get(__builtin_return_address(0), 16, all);
	/* not malloc() and memset(), which the compiler would make a calloc() of */
	return address ? memset(address, 0, all) : NULL;
}

static void *resize(const void *caller, void *old, size_t bytes)
{
	struct part *part = area_count ? part_of(old) : NULL;
	size_t had;
	void *address;

	if (!old)
		return get(caller, 16, bytes);
	if (!here.part && !part && !is_early(old))
		return find_libc() ? libc.realloc(old, bytes) : NULL;
	if (!bytes) {
		put(caller, old);
		return NULL;
	}
	had = size_of(old);
	if (part && part == serving(caller) && bytes <= had && bytes >= had / 2)
		return old;
	address = get(caller, 16, bytes);
	if (address) {
		memcpy(address, old, bytes < had ? bytes : had);
		put(caller, old);
	}
	return address;
}

EXPORT void *realloc(void *old, size_t bytes)
{
	return resize(__builtin_return_address(0), old, bytes);
}

EXPORT void *reallocarray(void *old, size_t count, size_t bytes)
{
	size_t all;

	if (!__builtin_mul_overflow(count, bytes, &all))
		return resize(__builtin_return_address(0), old, all);
	errno = ENOMEM;
	return NULL;
}

static void *get_aligned(const void *caller, size_t align, size_t bytes)
{
	size_t power = 16;

	while (power < align && power <= HEAP_PART_BYTES)
		power *= 2;
	return get(caller, power, bytes);
}

EXPORT void *memalign(size_t align, size_t bytes)
{
	return get_aligned(__builtin_return_address(0), align, bytes);
}

EXPORT void *aligned_alloc(size_t align, size_t bytes)
{
	return get_aligned(__builtin_return_address(0), align, bytes);
}

EXPORT int posix_memalign(void **address, size_t align, size_t bytes)
{
	int saved = errno;
	void *got;

	if (align % sizeof(void *) || !align || (align & (align - 1)))
		return EINVAL;
	got = get_aligned(__builtin_return_address(0), align, bytes);
	errno = saved;
	if (!got)
		return ENOMEM;
	*address = got;
	return 0;
}

EXPORT void *valloc(size_t bytes)
{
	return get_aligned(__builtin_return_address(0), PAGE_BYTES, bytes);
}

EXPORT void *pvalloc(size_t bytes)
{
	if (bytes > SIZE_MAX - PAGE_BYTES) {
		errno = ENOMEM;
		return NULL;
	}
	return get_aligned(__builtin_return_address(0), PAGE_BYTES,
			   (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1));
}

EXPORT size_t malloc_usable_size(void *address)
{
	return address ? size_of(address) : 0;
}

/* -- what the shim asks ------------------------------------------------------------------------ */

int heap_reserve(unsigned members)
{
	unsigned more = members > part_count ? members - part_count : 0;
	void *start;

	library_find_own();
	if (!more)
		return 0;
	if (area_count == AREAS)
		return -ENOMEM;
	if (more < part_count) /* so that few areas do */
		more = part_count;
	start = reserve(more);
	if (!start)
		return -errno;
	areas[area_count] = (struct area){ start, part_count, more };
	part_count += more;
	__atomic_store_n(&area_count, area_count + 1, __ATOMIC_RELEASE);
	return 0;
}

void heap_enter(unsigned number)
{
	struct part *part = part_number(number);
	struct part *own = reserve(1);

	if (!part || !own)
		member_fail(OMP_TOO_MUCH, "there is no address space for its heap");
	madvise(own, HEAP_PART_BYTES, MADV_DONTFORK);
	part_begin(own);
	part_begin(part);
	here.own = own;
	here.part = part;
}

int heap_ranges(struct ranges *ranges)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < area_count; i++) {
		uint64_t start = (uintptr_t)areas[i].start;
		uint64_t end = start + areas[i].count * HEAP_PART_BYTES;

		rc = here.part ? ranges_remove(ranges, start, end) : ranges_add(ranges, start, end);
	}
	for (unsigned i = 0; !rc && here.part && i < part_count; i++) {
		const struct part *part = part_number(i);
		uint64_t start = (uintptr_t)part;

		if (part->magic == PART_MAGIC)
			rc = ranges_add(ranges, start, start + part->top);
	}
	return rc;
}

const uint64_t *heap_frees(size_t *count)
{
	*count = here.count;
	return here.frees;
}
