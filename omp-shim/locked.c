/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finding locked instructions, and the breakpoints on them.
 *
 * Where functions begin and end is in .eh_frame_hdr, which compilers make for all of them: each is
 * disassembled from its beginning, so data between functions does no harm. What lies between is
 * looked through as well, for code that has no such entry; but counts only if all of it is
 * instructions. A function in which no bytes look like a locked instruction is not disassembled.
 *
 * A breakpoint is never taken away again to step over it, since other threads of the member would
 * run past it meanwhile. Each instruction has a copy instead, which works on memory that is pointed
 * out to it (locked_site.h), so that one trap does it.
 */
#define _GNU_SOURCE
#include "omp-shim/locked.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "omp-shim/libraries.h"
#include "omp-shim/locked_site.h"

#define PAGE_BYTES 4096u

struct sites {
	struct locked_site *all;	       /* sorted by address */
	uint8_t (*copies)[SITE_COPY_BYTES];    /* of all[i], executable */
	size_t count, room;
	unsigned long long loaded, unloaded;   /* libraries, when they were found */
};

static struct sites sites;

struct search {
	struct sites *found;
	csh disassembler;
	cs_insn *instruction;
	unsigned long long loaded, unloaded;
	int rc;
};

struct span { /* of code, in memory */
	const uint8_t *start, *end;
};

/* -- memory: whole pages, whose protection changes ---------------------------------------------- */

static size_t whole_pages(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

static void *pages_grow(void *block, size_t old_bytes, size_t new_bytes)
{
	void *grown;

	if (block && whole_pages(old_bytes) == whole_pages(new_bytes))
		return block;
	grown = block ? mremap(block, whole_pages(old_bytes), whole_pages(new_bytes),
			       MREMAP_MAYMOVE)
		      : mmap(NULL, whole_pages(new_bytes), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return grown == MAP_FAILED ? NULL : grown;
}

static void pages_free(void *block, size_t bytes)
{
	if (block)
		munmap(block, whole_pages(bytes));
}

/* -- one span of code ------------------------------------------------------------------------- */

static int note(struct sites *found, const cs_insn *instruction)
{
	size_t room = found->room ? found->room * 2 : 1024;
	struct locked_site site;
	uint8_t copy[SITE_COPY_BYTES];
	void *grown;

	if (!site_read(&site, instruction->address, instruction->bytes, instruction->size, copy))
		return 0;
	if (found->count == found->room) {
		grown = pages_grow(found->all, found->room * sizeof(site), room * sizeof(site));
		if (!grown)
			return -ENOMEM;
		found->all = grown;
		found->room = room;
	}
	found->all[found->count++] = site;
	return 0;
}

/* Return: where the last locked instruction of a span may be at most; NULL: none is in it. */
static const uint8_t *last_guess(struct span span)
{
	for (const uint8_t *at = span.end; at-- > span.start;)
		if (site_may_begin(at, (size_t)(span.end - at)))
			return at;
	return NULL;
}

/* Looks through a span; a `doubtful` one counts only if it is instructions to its end. */
static int look_through(struct search *search, struct span span, bool doubtful)
{
	size_t before = search->found->count;
	size_t left = span.start < span.end ? (size_t)(span.end - span.start) : 0;
	const uint8_t *at = span.start, *last = left ? last_guess(span) : NULL;
	uint64_t address = (uintptr_t)at;
	int rc = 0;

	if (!last)
		return 0;
	while (!rc && left && (at <= last || doubtful)) {
		if (cs_disasm_iter(search->disassembler, &at, &left, &address,
				   search->instruction)) {
			rc = note(search->found, search->instruction);
			continue;
		}
		if (doubtful) {
			search->found->count = before;
			return 0;
		}
		at++, address++, left--; /* an instruction that is too new to be known */
	}
	return rc;
}

/* -- functions, by .eh_frame_hdr (LSB 5.0, 10.6.2) -------------------------------------------- */

#define ENCODED_PCREL_S4   0x1b
#define ENCODED_U4	   0x03
#define ENCODED_DATAREL_S4 0x3b

struct function { /* in the table: both are counted from the table's header */
	int32_t start, entry;
};

struct functions {
	const uint8_t *header;
	const struct function *all;
	size_t count;
};

static struct functions functions_of(const struct dl_phdr_info *info)
{
	struct functions functions = { 0 };
	uint32_t count;

	for (unsigned i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
			functions.header = (const uint8_t *)info->dlpi_addr +
					   info->dlpi_phdr[i].p_vaddr;
	if (!functions.header || functions.header[0] != 1 ||
	    functions.header[1] != ENCODED_PCREL_S4 || functions.header[2] != ENCODED_U4 ||
	    functions.header[3] != ENCODED_DATAREL_S4)
		return functions;
	memcpy(&count, functions.header + 8, sizeof(count));
	functions.all = (const struct function *)(const void *)(functions.header + 12);
	functions.count = count;
	return functions;
}

/* Where function i lies. One whose length is written another way ends where it begins. */
static struct span function_span(const struct functions *functions, size_t i)
{
	const uint8_t *entry = functions->header + functions->all[i].entry;
	struct span span = { functions->header + functions->all[i].start, NULL };
	struct {
		uint32_t length, cie;
		int32_t begin;
		uint32_t bytes;
	} raw;

	memcpy(&raw, entry, sizeof(raw));
	span.end = span.start;
	if (raw.length >= sizeof(raw) - 4 && raw.length != UINT32_MAX &&
	    entry + 8 + raw.begin == span.start)
		span.end += raw.bytes;
	return span;
}

/* The functions of a segment, and what is between them. */
static int search_segment(struct search *search, const struct functions *functions,
			  struct span segment)
{
	const uint8_t *at = segment.start;
	int rc = 0;

	for (size_t i = 0; !rc && i < functions->count; i++) {
		struct span span = function_span(functions, i);

		if (span.start < at || span.end > segment.end || span.start >= segment.end ||
		    span.start == span.end)
			continue;
		rc = look_through(search, (struct span){ at, span.start }, true);
		if (!rc)
			rc = look_through(search, span, false);
		at = span.end;
	}
	return rc ? rc : look_through(search, (struct span){ at, segment.end }, functions->count);
}

static int search_library(struct dl_phdr_info *info, size_t size, void *opaque)
{
	struct functions functions = functions_of(info);
	struct search *search = opaque;

	(void)size;
	search->loaded = info->dlpi_adds;
	search->unloaded = info->dlpi_subs;
	if (library_is_apart(info))
		return 0;
	for (unsigned i = 0; !search->rc && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		const uint8_t *start = (const uint8_t *)info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type == PT_LOAD && segment->p_flags & PF_X)
			search->rc = search_segment(
				search, &functions,
				(struct span){ start, start + segment->p_filesz });
	}
	return search->rc;
}

/* -- all of them ------------------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	uint64_t one = ((const struct locked_site *)a)->address;
	uint64_t other = ((const struct locked_site *)b)->address;

	return (one > other) - (one < other);
}

static void forget(struct sites *found)
{
	pages_free(found->all, found->room * sizeof(*found->all));
	pages_free(found->copies, found->count * sizeof(*found->copies));
	memset(found, 0, sizeof(*found));
}

/* Makes the copies, and nothing of it writable: it is not what is compared. Return: 0 or -errno. */
static int make_copies(struct sites *found)
{
	size_t bytes = found->count * sizeof(*found->copies);

	if (!found->count)
		return 0;
	qsort(found->all, found->count, sizeof(*found->all), by_address);
	found->copies = pages_grow(NULL, 0, bytes);
	if (!found->copies)
		return -ENOMEM;
	for (size_t i = 0; i < found->count; i++) {
		struct locked_site *site = &found->all[i];

		site_read(site, site->address, (const uint8_t *)(uintptr_t)site->address,
			  site->length, found->copies[i]);
	}
	if (mprotect(found->copies, whole_pages(bytes), PROT_READ | PROT_EXEC) ||
	    mprotect(found->all, whole_pages(found->room * sizeof(*found->all)), PROT_READ))
		return -errno;
	return 0;
}

static int search_all(struct sites *found)
{
	struct search search = { .found = found };

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &search.disassembler))
		return -ENOMEM;
	search.instruction = cs_malloc(search.disassembler);
	search.rc = search.instruction ? 0 : -ENOMEM;
	if (!search.rc)
		dl_iterate_phdr(search_library, &search);
	if (search.instruction)
		cs_free(search.instruction, 1);
	cs_close(&search.disassembler);
	found->loaded = search.loaded;
	found->unloaded = search.unloaded;
	return search.rc ? search.rc : make_copies(found);
}

static int see_changes(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	return info->dlpi_adds == sites.loaded && info->dlpi_subs == sites.unloaded ? 1 : 2;
}

int locked_find(void)
{
	struct sites found = { 0 };
	int rc;

	if (dl_iterate_phdr(see_changes, NULL) == 1)
		return (int)sites.count;
	forget(&sites);
	library_find_own();
	rc = search_all(&found);
	if (!rc && found.count > INT_MAX)
		rc = -E2BIG;
	if (rc) {
		forget(&found);
		return rc;
	}
	sites = found;
	return (int)sites.count;
}

const struct locked_site *site_at(uint64_t address, const uint8_t **copy)
{
	const struct locked_site key = { .address = address };
	const struct locked_site *site;

	if (!sites.count)
		return NULL;
	site = bsearch(&key, sites.all, sites.count, sizeof(key), by_address);
	if (site)
		*copy = sites.copies[site - sites.all];
	return site;
}

/* Puts the breakpoints of those from `first` that share a page. Return: how many, or -errno. */
static long arm_page(size_t first)
{
	uint64_t page = sites.all[first].address & ~(uint64_t)(PAGE_BYTES - 1);
	void *start = (void *)(uintptr_t)page;
	size_t i;

	if (mprotect(start, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC))
		return -errno;
	for (i = first; i < sites.count && sites.all[i].address - page < PAGE_BYTES; i++)
		*(uint8_t *)(uintptr_t)sites.all[i].address = 0xcc; /* int3 */
	return mprotect(start, PAGE_BYTES, PROT_READ | PROT_EXEC) ? -errno : (long)(i - first);
}

int locked_arm(uint64_t stack_start, uint64_t stack_end)
{
	int rc = site_take_traps(stack_start, stack_end);
	long done = 0;

	for (size_t i = 0; !rc && i < sites.count; i += (size_t)done) {
		done = arm_page(i);
		if (done < 0)
			rc = (int)done;
	}
	return rc;
}
