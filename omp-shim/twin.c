/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin process, and what this one changed since.
 *
 * Candidates are found in pagemap: pages that are there and were written to (soft-dirty), and pages
 * that are not there any more but are in the twin: discarded. Where the kernel has no soft-dirty
 * bits, pages that are nobody else's take their place: what was not written since is the twin's too.
 * Candidates are compared in batches. Memory of this process is touched only after the kernel said
 * that it is there; what may be read or written by no ordinary instruction goes through
 * /proc/…/mem.
 */
#define _GNU_SOURCE
#include "omp-shim/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/own.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define PM_PRESENT    (1ull << 63)
#define PM_SWAPPED    (1ull << 62)
#define PM_EXCLUSIVE  (1ull << 56)
#define PM_SOFT_DIRTY (1ull << 55)

#define ENTRIES	    16384u /* of pagemap, read at a time: 64 MiB of memory */
#define BATCH_PAGES 64u
#define FEW_PAGES   64u	   /* so many may be compared in vain at all times */
#define IDLE_SHARE  8u	   /* …and an eighth of what there is, before the bits are cleared */

struct slot { /* a page that is compared, or a part of it */
	uint64_t address;	/* of the page */
	unsigned from, to;	/* which of its bytes count */
	uint8_t *mine;		/* where to find it; NULL: it is not there */
	bool changed;
	uint64_t mask[PAGE_LINES]; /* twin_apply(): what came */
};

struct batch {
	uint8_t twin[BATCH_PAGES][PAGE_BYTES];
	uint8_t mine[BATCH_PAGES][PAGE_BYTES]; /* a copy of what cannot be touched; or what came */
	struct slot slots[BATCH_PAGES];
	unsigned count;
	uint64_t entries[ENTRIES], twin_entries[ENTRIES];
	uint64_t present_count; /* pages, in one scan */
	volatile uint64_t probe;
};

/* -- the process ------------------------------------------------------------------------------ */

static inline __attribute__((always_inline)) long raw(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return rc;
}

/* The twin's life. It has no C library: locks may be held by threads that it has not got. */
static inline __attribute__((always_inline)) void wait_for_the_end(long maker)
{
	raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	raw(SYS_close_range, 0, ~0u, 0, 0);
	while (raw(SYS_getppid, 0, 0, 0, 0) == maker)
		raw(SYS_pause, 0, 0, 0, 0);
	for (;;)
		raw(SYS_exit_group, 0, 0, 0, 0);
}

/* No signal goes to the twin, none comes to this process when it ends. Return: its pid, or -errno. */
static long clone_twin(void)
{
	uint64_t all = ~0ull, before = 0;
	long maker = getpid(), pid;

	raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof(all));
	pid = raw(SYS_clone, 0, 0, 0, 0);
	if (!pid)
		wait_for_the_end(maker);
	raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before));
	return pid;
}

static int open_proc(long pid, const char *file, int flags)
{
	char path[64];
	int fd;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%ld/%s", pid, file);
	else
		snprintf(path, sizeof(path), "/proc/self/%s", file);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_files(struct twin *twin)
{
	const struct {
		int *fd;
		bool twins;
		const char *file;
		int flags;
	} files[] = {
		{ &twin->pagemap, false, "pagemap", O_RDONLY },
		{ &twin->memory, false, "mem", O_RDWR },
		{ &twin->clear_refs, false, "clear_refs", O_WRONLY },
		{ &twin->twin_pagemap, true, "pagemap", O_RDONLY },
		{ &twin->twin_memory, true, "mem", O_RDWR },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		*files[i].fd = open_proc(files[i].twins ? twin->pid : 0, files[i].file,
					 files[i].flags);
		if (*files[i].fd < 0)
			return *files[i].fd;
	}
	return 0;
}

/* From now on pages that are written to are marked. Return: 0 or -errno. */
static int clear_bits(struct twin *twin)
{
	twin->idle_count = 0;
	return write(twin->clear_refs, "4", 1) == 1 ? 0 : -errno;
}

/* Some kernels take the "4" and mark nothing. Return: 0 or -errno. */
static int look_at_bits(struct twin *twin)
{
	uint64_t entry, page = (uintptr_t)&twin->batch->probe / PAGE_BYTES;

	twin->batch->probe++;
	if (pread(twin->pagemap, &entry, sizeof(entry), (off_t)(page * sizeof(entry))) !=
	    sizeof(entry))
		return -EIO;
	twin->by_owner = !(entry & PM_SOFT_DIRTY);
	return 0;
}

int twin_make(struct twin *twin)
{
	size_t room = 0;
	int rc;

	*twin = (struct twin){ .pagemap = -1, .memory = -1, .clear_refs = -1, .twin_pagemap = -1,
			       .twin_memory = -1 };
	twin->batch = own_grow(NULL, &room, sizeof(*twin->batch));
	if (!twin->batch)
		return -ENOMEM;
	twin->pid = (pid_t)clone_twin();
	if (twin->pid < 0) {
		rc = twin->pid;
		twin->pid = 0;
		twin_end(twin);
		return rc;
	}
	rc = open_files(twin);
	if (!rc)
		rc = clear_bits(twin);
	if (!rc)
		rc = look_at_bits(twin);
	if (rc)
		twin_end(twin);
	return rc;
}

void twin_end(struct twin *twin)
{
	int *const fds[] = { &twin->pagemap, &twin->memory, &twin->clear_refs, &twin->twin_pagemap,
			     &twin->twin_memory };

	if (twin->pid > 0) {
		kill(twin->pid, SIGKILL);
		while (waitpid(twin->pid, NULL, __WALL) < 0 && errno == EINTR)
			;
		twin->pid = 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		cleanup_close(fds[i]);
		*fds[i] = -1;
	}
	own_free(twin->batch);
	twin->batch = NULL;
}

/* -- the twin's memory ------------------------------------------------------------------------ */

static void *pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/*
 * Moves the bytes of slots [from, to) between the batch (or where they are) and the twin, as many
 * as the kernel does in one go. Return: how many slots were done.
 */
static unsigned move_slots(struct twin *twin, unsigned from, unsigned to, bool write)
{
	struct iovec here[BATCH_PAGES], there[BATCH_PAGES];
	struct batch *b = twin->batch;
	unsigned count = to - from, done;
	ssize_t moved;

	for (unsigned i = 0; i < count; i++) {
		const struct slot *slot = &b->slots[from + i];
		uint8_t *page = write && slot->mine ? slot->mine : b->twin[from + i];

		here[i] = (struct iovec){ page + slot->from, slot->to - slot->from };
		there[i] = (struct iovec){ pointer(slot->address + slot->from),
					   slot->to - slot->from };
	}
	moved = write ? process_vm_writev(twin->pid, here, count, there, count, 0)
		      : process_vm_readv(twin->pid, here, count, there, count, 0);
	for (done = 0; done < count && moved >= (ssize_t)here[done].iov_len; done++)
		moved -= (ssize_t)here[done].iov_len;
	return done;
}

/* What the twin does not have is zero. */
static void read_twin(struct twin *twin)
{
	struct batch *b = twin->batch;
	unsigned at = 0;

	while (at < b->count) {
		struct slot *slot;
		ssize_t got;

		at += move_slots(twin, at, b->count, false);
		if (at == b->count)
			break;
		slot = &b->slots[at];
		got = pread(twin->twin_memory, b->twin[at] + slot->from, slot->to - slot->from,
			    (off_t)(slot->address + slot->from));
		if (got != (ssize_t)(slot->to - slot->from))
			memset(b->twin[at] + slot->from, 0, slot->to - slot->from);
		at++;
	}
}

/* Return: 0, or -EFAULT: the twin has no memory there. */
static int write_twin(struct twin *twin)
{
	struct batch *b = twin->batch;
	unsigned at = 0, end;

	while (at < b->count) {
		const struct slot *slot = &b->slots[at];
		const uint8_t *page = slot->mine ? slot->mine : b->twin[at];
		size_t bytes = slot->to - slot->from;
		unsigned done;

		if (!slot->changed) {
			at++;
			continue;
		}
		for (end = at; end < b->count && b->slots[end].changed;)
			end++;
		done = move_slots(twin, at, end, true);
		if (!done && pwrite(twin->twin_memory, page + slot->from, bytes,
				    (off_t)(slot->address + slot->from)) != (ssize_t)bytes)
			return -EFAULT;
		at += done ? done : 1;
	}
	return 0;
}

/* -- this process's memory -------------------------------------------------------------------- */

/*
 * Finds where each slot's page can be touched: where it is, or in `copies`, or not at all.
 * `advice`: for reading or for writing.
 */
static void find_mine(struct twin *twin, int advice)
{
	struct batch *b = twin->batch;
	unsigned end;

	for (unsigned at = 0; at < b->count; at = end) {
		uint64_t start = b->slots[at].address, last = start;
		bool whole;

		for (end = at + 1; end < b->count && b->slots[end].address - last <= PAGE_BYTES; end++)
			last = b->slots[end].address;
		whole = !madvise(pointer(start), last + PAGE_BYTES - start, advice);
		for (unsigned i = at; i < end; i++) {
			uint8_t *page = pointer(b->slots[i].address);

			if (!whole && madvise(page, PAGE_BYTES, advice))
				page = NULL;
			b->slots[i].mine = page;
		}
	}
}

/* -- what differs ----------------------------------------------------------------------------- */

/* Reads through /proc what may not be read otherwise. Return: false if there is nothing. */
static bool copy_mine(struct twin *twin, unsigned at)
{
	struct slot *slot = &twin->batch->slots[at];
	uint8_t *page = twin->batch->mine[at];

	if (pread(twin->memory, page, PAGE_BYTES, (off_t)slot->address) != PAGE_BYTES)
		return false;
	slot->mine = page;
	return true;
}

/* Return: 0 or -ENOMEM. */
static int compare_slot(const uint8_t *twins, struct slot *slot, struct pieces *pieces)
{
	const unsigned first = slot->from / LINE_BYTES, end = (slot->to - 1) / LINE_BYTES + 1;
	uint64_t mask[PAGE_LINES] = { 0 };

	slot->changed = memcmp(slot->mine + slot->from, twins + slot->from, slot->to - slot->from);
	if (!slot->changed)
		return 0;
	for (unsigned line = first; line < end; line++)
		mask[line] = line_mask(slot->mine + line * LINE_BYTES, twins + line * LINE_BYTES);
	mask[first] &= ~0ull << slot->from % LINE_BYTES;
	if (slot->to % LINE_BYTES)
		mask[end - 1] &= ~(~0ull << slot->to % LINE_BYTES);
	return pieces_add_page(pieces, slot->address, slot->mine, mask);
}

/* Compares what is in the batch, and empties it. Return: 0 or -errno. */
static int compare_batch(struct twin *twin, struct pieces *pieces, size_t limit)
{
	struct batch *b = twin->batch;
	int rc = 0;

	find_mine(twin, MADV_POPULATE_READ);
	read_twin(twin);
	for (unsigned i = 0; i < b->count && !rc; i++) {
		struct slot *slot = &b->slots[i];

		slot->changed = false;
		if (slot->mine || copy_mine(twin, i))
			rc = compare_slot(b->twin[i], slot, pieces);
		twin->idle_count += !slot->changed;
	}
	if (!rc && pieces->len > limit)
		rc = -EFBIG;
	if (!rc)
		rc = write_twin(twin);
	twin->page_count += b->count;
	b->count = 0;
	return rc;
}

static int read_entries(int pagemap, uint64_t *entries, uint64_t page, size_t count)
{
	ssize_t bytes = (ssize_t)(count * sizeof(*entries));

	return pread(pagemap, entries, (size_t)bytes, (off_t)(page * sizeof(*entries))) == bytes
		       ? 0
		       : -EIO;
}

static bool is_there(uint64_t entry)
{
	return entry & (PM_PRESENT | PM_SWAPPED);
}

/* Writes to batch->entries of `count` pages: 1 for those that may have changed. */
static int find_candidates(struct twin *twin, uint64_t page, size_t count)
{
	const uint64_t marks = twin->by_owner ? PM_EXCLUSIVE | PM_SWAPPED : PM_SOFT_DIRTY;
	struct batch *b = twin->batch;
	uint64_t there = 0;
	int rc = read_entries(twin->pagemap, b->entries, page, count);

	for (size_t i = 0; i < count; i++)
		there += is_there(b->entries[i]);
	b->present_count += there;
	if (!rc && there < count)
		rc = read_entries(twin->twin_pagemap, b->twin_entries, page, count);
	for (size_t i = 0; i < count; i++) {
		uint64_t entry = b->entries[i];

		b->entries[i] = is_there(entry) ? !!(entry & marks) : is_there(b->twin_entries[i]);
	}
	return rc;
}

static int diff_range(struct twin *twin, const struct range *range, struct pieces *pieces,
		      size_t limit)
{
	const uint64_t end = (range->end - 1) / PAGE_BYTES + 1;
	struct batch *b = twin->batch;
	int rc = 0;

	for (uint64_t page = range->start / PAGE_BYTES, count; page < end && !rc; page += count) {
		count = end - page < ENTRIES ? end - page : ENTRIES;
		rc = find_candidates(twin, page, count);
		for (size_t i = 0; i < count && !rc; i++) {
			uint64_t address = (page + i) * PAGE_BYTES;
			struct slot *slot = &b->slots[b->count];

			if (!b->entries[i])
				continue;
			slot->address = address;
			slot->from = address < range->start ? range->start % PAGE_BYTES : 0;
			slot->to = address + PAGE_BYTES > range->end ? range->end % PAGE_BYTES
								     : PAGE_BYTES;
			if (++b->count == BATCH_PAGES)
				rc = compare_batch(twin, pieces, limit);
		}
	}
	return rc;
}

int twin_diff(struct twin *twin, const struct ranges *ranges, struct pieces *pieces, size_t limit)
{
	struct batch *b = twin->batch;
	int rc = 0;

	b->count = 0;
	b->present_count = 0;
	for (size_t i = 0; i < ranges->count && !rc; i++)
		rc = diff_range(twin, &ranges->all[i], pieces, limit);
	if (!rc && b->count)
		rc = compare_batch(twin, pieces, limit);
	if (!rc && !twin->by_owner &&
	    twin->idle_count > FEW_PAGES + b->present_count / IDLE_SHARE)
		rc = clear_bits(twin);
	return rc;
}

int twin_differs(struct twin *twin, uint64_t address, size_t count)
{
	uint8_t twins[64];
	struct iovec here = { twins, count }, there = { pointer(address), count };

	if (count > sizeof(twins))
		return -EINVAL;
	if (process_vm_readv(twin->pid, &here, 1, &there, 1, 0) != (ssize_t)count)
		return -EFAULT;
	return !!memcmp(twins, pointer(address), count);
}

/* -- what comes ------------------------------------------------------------------------------- */

/* Changes the bytes that came, but those that were changed here and not sent. */
static void merge_slot(uint8_t *mine, const uint8_t *twins, const uint8_t *came,
		       const uint64_t mask[PAGE_LINES])
{
	for (unsigned at = 0; at < PAGE_LINES; at++) {
		unsigned byte = at * LINE_BYTES;

		if (mask[at])
			line_copy(mine + byte, came + byte,
				  mask[at] & ~line_mask(mine + byte, twins + byte));
	}
}

/* Memory that this process may not write to, or has given back. */
static void merge_hidden(struct twin *twin, unsigned at)
{
	struct batch *b = twin->batch;
	off_t place = (off_t)b->slots[at].address;
	uint8_t mine[PAGE_BYTES];

	if (pread(twin->memory, mine, PAGE_BYTES, place) != PAGE_BYTES)
		return;
	merge_slot(mine, b->twin[at], b->mine[at], b->slots[at].mask);
	if (pwrite(twin->memory, mine, PAGE_BYTES, place) != PAGE_BYTES)
		return;
}

static int apply_batch(struct twin *twin)
{
	struct batch *b = twin->batch;
	int rc;

	read_twin(twin);
	find_mine(twin, MADV_POPULATE_WRITE);
	for (unsigned i = 0; i < b->count; i++) {
		struct slot *slot = &b->slots[i];

		if (slot->mine)
			merge_slot(slot->mine, b->twin[i], b->mine[i], slot->mask);
		else
			merge_hidden(twin, i);
		for (unsigned line = 0; line < PAGE_LINES; line++)
			line_copy(b->twin[i] + line * LINE_BYTES, b->mine[i] + line * LINE_BYTES,
				  slot->mask[line]);
		slot->mine = NULL;
		slot->changed = true;
	}
	rc = write_twin(twin);
	b->count = 0;
	return rc;
}

/* Puts a part into the batch, which has room. */
static void keep_part(struct batch *b, const struct pieces_part *part)
{
	struct slot *slot = b->count ? &b->slots[b->count - 1] : NULL;
	uint8_t *came;

	if (!slot || slot->address != part->address) {
		slot = &b->slots[b->count++];
		slot->address = part->address;
		slot->from = 0;
		slot->to = PAGE_BYTES;
		memset(slot->mask, 0, sizeof(slot->mask));
	}
	came = b->mine[b->count - 1];
	for (unsigned line = part->first_line; line < part->end_line; line++) {
		line_copy(came + line * LINE_BYTES, part->page + line * LINE_BYTES,
			  part->mask[line]);
		slot->mask[line] |= part->mask[line];
	}
}

int twin_apply(struct twin *twin, const uint8_t *bytes, size_t len)
{
	struct batch *b = twin->batch;
	struct pieces_reader reader;
	struct pieces_part part;
	int rc;

	b->count = 0;
	pieces_read(&reader, bytes, len);
	while ((rc = pieces_next(&reader, &part)) > 0) {
		if (b->count == BATCH_PAGES && part.address != b->slots[b->count - 1].address)
			rc = apply_batch(twin);
		if (rc < 0)
			break;
		keep_part(b, &part);
	}
	return !rc && b->count ? apply_batch(twin) : rc;
}

int twin_put(struct twin *twin, uint64_t address, const void *bytes, size_t count)
{
	return pwrite(twin->twin_memory, bytes, count, (off_t)address) == (ssize_t)count ? 0
											 : -EFAULT;
}
