/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parent's store: pages by their address, and in the order in which they were written last. */
#define _GNU_SOURCE
#include "omp-shim/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/own.h"
#include "omp-shim/stamps.h"
#include "omp-shim/store_page.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct store {
	const struct ranges *ranges;
	struct stamps stamps;
	struct slabs slabs;
	struct page **table; /* by address: open addressing, never more than half full */
	size_t table_size;   /* a power of two */
	size_t page_count;
	struct page *newest; /* the page that was written last */
	struct page **sorted; /* room to put pages in order */
	size_t sorted_room;
};

struct store *store_new(unsigned members, const struct ranges *ranges)
{
	struct store *store = members ? calloc(1, sizeof(*store)) : NULL;
	size_t room = 0;

	if (!store)
		return NULL;
	store->ranges = ranges;
	store->table = own_grow(NULL, &room, 4096 * sizeof(*store->table));
	store->table_size = 4096;
	if (!store->table || stamps_init(&store->stamps, members)) {
		store_free(store);
		return NULL;
	}
	return store;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	stamps_fini(&store->stamps);
	slabs_fini(&store->slabs);
	own_free(store->table);
	own_free(store->sorted);
	free(store);
}

/* -- pages ------------------------------------------------------------------------------------ */

/* Return: where the page is in the table, or would be. */
static struct page **place_of(struct page **table, size_t size, uint64_t address)
{
	size_t at = address / PAGE_BYTES * 0x9e3779b97f4a7c15ull >> 20 & (size - 1);

	while (table[at] && table[at]->address != address)
		at = (at + 1) & (size - 1);
	return &table[at];
}

static int grow_table(struct store *store)
{
	size_t size = 2 * store->table_size, room = 0;
	struct page **table = own_grow(NULL, &room, size * sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < store->table_size; i++) {
		if (store->table[i])
			*place_of(table, size, store->table[i]->address) = store->table[i];
	}
	own_free(store->table);
	store->table = table;
	store->table_size = size;
	return 0;
}

static struct page *find_page(const struct store *store, uint64_t address)
{
	return *place_of(store->table, store->table_size, address / PAGE_BYTES * PAGE_BYTES);
}

static void take_out(struct store *store, struct page *page)
{
	if (page->newer)
		page->newer->older = page->older;
	else
		store->newest = page->older;
	if (page->older)
		page->older->newer = page->newer;
}

static void put_first(struct store *store, struct page *page)
{
	page->newer = NULL;
	page->older = store->newest;
	if (store->newest)
		store->newest->newer = page;
	store->newest = page;
}

/* Return: the page, made if need be, which is now the one written last; NULL: no memory. */
static struct page *get_page(struct store *store, uint64_t address)
{
	struct page *page = find_page(store, address);

	if (page) {
		take_out(store, page);
		put_first(store, page);
		return page;
	}
	if (2 * (store->page_count + 1) > store->table_size && grow_table(store))
		return NULL;
	page = slabs_get(&store->slabs, sizeof(*page));
	if (!page)
		return NULL;
	memset(page, 0, offsetof(struct page, bytes));
	page->address = address / PAGE_BYTES * PAGE_BYTES;
	*place_of(store->table, store->table_size, page->address) = page;
	store->page_count++;
	put_first(store, page);
	return page;
}

static int by_address(const void *a, const void *b)
{
	const struct page *x = *(struct page *const *)a, *y = *(struct page *const *)b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Writes to store->sorted the pages that were written after `sequence`. Return: 0 or -ENOMEM. */
static int sort_pages(struct store *store, uint32_t sequence, size_t *count)
{
	size_t room = store->sorted_room;
	struct page **grown, *page;

	*count = 0;
	for (page = store->newest; page && page->changed > sequence; page = page->older)
		++*count;
	grown = own_grow(store->sorted, &room, (*count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	store->sorted = grown;
	store->sorted_room = room;
	page = store->newest;
	for (size_t i = 0; i < *count; i++, page = page->older)
		grown[i] = page;
	qsort(grown, *count, sizeof(*grown), by_address);
	return 0;
}

/* -- what members write ----------------------------------------------------------------------- */

int store_merge(struct store *store, unsigned member, const uint8_t *pieces, size_t len,
		uint64_t *address)
{
	struct pieces_reader reader;
	struct pieces_part part;
	uint32_t stamp;
	int rc = 0;

	if (!len)
		return 0;
	stamp = stamps_new(&store->stamps, member);
	if (stamp == STAMP_NONE)
		return -ENOMEM;
	pieces_read(&reader, pieces, len);
	while (!rc && pieces_next(&reader, &part) > 0) {
		struct page *page = get_page(store, part.address);
		unsigned at = 0;

		if (!page)
			return -ENOMEM;
		page->changed = store->stamps.sequence;
		rc = page_merge(page, &store->stamps, &store->slabs, member, stamp, &part, &at);
		*address = part.address + at;
	}
	return rc;
}

void store_release(struct store *store, unsigned member, uint32_t *clock)
{
	const unsigned members = store->stamps.members;
	uint32_t *seen = store->stamps.seen + (size_t)member * members;

	for (unsigned i = 0; i < members; i++) {
		if (seen[i] > clock[i])
			clock[i] = seen[i];
	}
	seen[member]++;
}

void store_acquire(struct store *store, unsigned member, const uint32_t *clock)
{
	const unsigned members = store->stamps.members;
	uint32_t *seen = store->stamps.seen + (size_t)member * members;

	for (unsigned i = 0; i < members; i++) {
		if (clock[i] > seen[i])
			seen[i] = clock[i];
	}
}

int store_updates(struct store *store, unsigned member, struct pieces *pieces)
{
	uint64_t mask[PAGE_LINES];
	size_t count;
	int rc = sort_pages(store, store->stamps.given[member], &count);

	for (size_t i = 0; i < count && !rc; i++) {
		const struct page *page = store->sorted[i];

		page_due(page, &store->stamps, member, mask);
		rc = pieces_add_page(pieces, page->address, page->bytes, mask);
	}
	if (!rc)
		store->stamps.given[member] = store->stamps.sequence;
	return rc;
}

/* -- locked instructions ---------------------------------------------------------------------- */

/* How many of these bytes are in the first page. */
static unsigned in_page(uint64_t address, size_t count)
{
	size_t left = PAGE_BYTES - address % PAGE_BYTES;

	return (unsigned)(count < left ? count : left);
}

int store_fetch(struct store *store, unsigned member, uint64_t address, void *bytes, size_t count)
{
	uint64_t written[PAGE_LINES];
	uint8_t *to = bytes;

	if (count > UINT64_MAX - address || !ranges_hold(store->ranges, address, address + count))
		return -EFAULT;
	memcpy(to, (const void *)(uintptr_t)address, count);
	while (count) {
		const struct page *page = find_page(store, address);
		unsigned part = in_page(address, count), at = address % PAGE_BYTES;

		if (page) {
			if (page_allows_atomic(page, &store->stamps, member, at, part))
				return -EEXIST;
			page_written(page, written);
		}
		for (unsigned i = 0; page && i < part; i++) {
			if (written[(at + i) / LINE_BYTES] >> (at + i) % LINE_BYTES & 1)
				to[i] = page->bytes[at + i];
		}
		to += part;
		address += part;
		count -= part;
	}
	return 0;
}

int store_atomic(struct store *store, unsigned member, uint64_t address, const void *bytes,
		 size_t count)
{
	const uint8_t *from = bytes;
	int rc = 0;

	if (count > UINT64_MAX - address || !ranges_hold(store->ranges, address, address + count))
		return -EFAULT;
	while (count && !rc) {
		struct page *page = get_page(store, address);
		unsigned part = in_page(address, count);

		if (!page)
			return -ENOMEM;
		rc = page_atomic(page, &store->stamps, &store->slabs, member, address % PAGE_BYTES,
				 from, part);
		page->changed = store->stamps.sequence;
		from += part;
		address += part;
		count -= part;
	}
	return rc;
}

/* -- the end ---------------------------------------------------------------------------------- */

static uint8_t *pointer(uint64_t address)
{
	return (uint8_t *)(uintptr_t)address;
}

/*
 * Makes all pages writable without a fault. Return: true; false if some have to be written through
 * `memory` (/proc/self/mem), and *all_there set to false if some cannot be at all.
 */
static bool prepare(struct page *const *pages, size_t count, int memory, bool *all_there)
{
	bool direct = true;
	uint8_t byte;
	size_t end;

	for (size_t at = 0; at < count; at = end) {
		for (end = at + 1; end < count &&
				   pages[end]->address == pages[end - 1]->address + PAGE_BYTES;)
			end++;
		if (!madvise(pointer(pages[at]->address), (end - at) * PAGE_BYTES,
			     MADV_POPULATE_WRITE))
			continue;
		direct = false;
		for (size_t i = at; i < end; i++) {
			off_t place = (off_t)pages[i]->address;

			if (pread(memory, &byte, 1, place) != 1 || pwrite(memory, &byte, 1, place) != 1)
				*all_there = false;
		}
	}
	return direct;
}

/* Writes a page's bytes. `memory`: -1 to write them where they belong. */
static unsigned commit_page(const struct page *page, int memory)
{
	uint64_t mask[PAGE_LINES];
	uint8_t copy[PAGE_BYTES], *to = pointer(page->address);
	unsigned count = 0;

	page_written(page, mask);
	if (memory >= 0) {
		if (pread(memory, copy, PAGE_BYTES, (off_t)page->address) != PAGE_BYTES)
			return 0;
		to = copy;
	}
	for (unsigned line = 0; line < PAGE_LINES; line++) {
		line_copy(to + line * LINE_BYTES, page->bytes + line * LINE_BYTES, mask[line]);
		count += (unsigned)__builtin_popcountll(mask[line]);
	}
	if (memory >= 0 && pwrite(memory, copy, PAGE_BYTES, (off_t)page->address) != PAGE_BYTES)
		return 0;
	return count;
}

uint64_t store_commit(struct store *store)
{
	_cleanup_fd_ int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	bool direct, all_there = true;
	uint64_t bytes = 0;
	size_t count;

	if (memory < 0 || sort_pages(store, 0, &count))
		return UINT64_MAX;
	direct = prepare(store->sorted, count, memory, &all_there);
	if (!all_there)
		return UINT64_MAX;
	for (size_t i = 0; i < count; i++)
		bytes += commit_page(store->sorted[i], direct ? -1 : memory);
	return bytes;
}
