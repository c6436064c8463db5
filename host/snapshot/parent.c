/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The running parent: its protection and its first writes.
 *
 * Protecting a page that is mapped costs some 20 to 80 ns, 20 ms for 1 GB on a slow machine: too
 * much for a parent that stands still. So the bitmap `protected` says what is protected already,
 * and freezing has to do with the rest only. Between two snapshots the rest is what the parent
 * wrote; before the first it is everything, unless snap_parent_expect() was called in time for the
 * background to have done most of it while the parent ran. Protecting a running parent is safe at
 * any time: its writes come here and are let through.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "host/snapshot/parent.h"

#define EVENTS_AT_ONCE 64
#define WORD_BITS 64u
#define KEEP_AHEAD_PAGES 16u	/* for a parent that writes in a row, one fault for so many pages */
#define GAP_PAGES 8u	/* protecting a protected page again is cheaper than another system call */

struct snap_parent *snap_parent_create(uint64_t pages, struct snap_counters *counters)
{
	struct snap_parent *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->protected = calloc((pages + WORD_BITS - 1) / WORD_BITS, sizeof(p->protected[0]));
	if (!p->protected) {
		free(p);
		return NULL;
	}
	p->uffd = (struct snap_uffd){ .fd = -1, .pages = pages };
	p->ram_fd = -1;
	p->counters = counters;
	TAILQ_INIT(&p->chain);
	return p;
}

void snap_parent_destroy(struct snap_parent *parent)
{
	struct snap *s;

	if (!parent)
		return;
	while ((s = TAILQ_FIRST(&parent->chain))) {
		TAILQ_REMOVE(&parent->chain, s, link);
		free(s);
	}
	cleanup_close(&parent->uffd.fd);
	cleanup_close(&parent->ram_fd);
	free(parent->protected);
	free(parent);
}

int snap_parent_attach(struct snap_parent *parent, int uffd, int ram_fd, uint64_t base)
{
	struct snap_uffd u = { .fd = uffd, .base = base, .pages = parent->uffd.pages };
	int error;

	if (snap_parent_attached(parent))
		return -EBUSY;
	error = snap_uffd_start(&u, SNAP_UFFD_PROTECT);
	if (error)
		return error;
	parent->uffd = u;
	parent->ram_fd = ram_fd;
	return 0;
}

bool snap_parent_attached(const struct snap_parent *parent)
{
	return parent->uffd.fd >= 0;
}

void snap_parent_hold(struct snap_parent *parent)
{
	parent->held = true;
}

void snap_parent_resume(struct snap_parent *parent)
{
	parent->held = false;
	/* protection may be left that no snapshot needs any more */
	snap_choose_task(parent);
}

static void mark(struct snap_parent *parent, uint64_t gfn, uint64_t end, bool on)
{
	while (gfn < end) {
		uint64_t bit = gfn % WORD_BITS;
		uint64_t count = end - gfn < WORD_BITS - bit ? end - gfn : WORD_BITS - bit;
		uint64_t mask = (count == WORD_BITS ? UINT64_MAX : (1ull << count) - 1) << bit;

		if (on)
			parent->protected[gfn / WORD_BITS] |= mask;
		else
			parent->protected[gfn / WORD_BITS] &= ~mask;
		gfn += count;
	}
}

/* The first page from `gfn` on that is (not) surely protected, or `end`. */
static uint64_t find(const struct snap_parent *parent, uint64_t gfn, uint64_t end, bool on)
{
	while (gfn < end) {
		uint64_t word = parent->protected[gfn / WORD_BITS];

		word = (on ? word : ~word) >> (gfn % WORD_BITS);
		if (word) {
			gfn += (uint64_t)__builtin_ctzll(word);
			break;
		}
		gfn += WORD_BITS - gfn % WORD_BITS;
	}
	return gfn < end ? gfn : end;
}

int snap_protect(struct snap_parent *parent, uint64_t gfn, uint64_t end)
{
	while ((gfn = find(parent, gfn, end, false)) < end) {
		uint64_t stop = find(parent, gfn, end, true), next;
		int error;

		/* runs with little between them go together */
		while (stop < end && (next = find(parent, stop, end, false)) < end &&
		       next - stop <= GAP_PAGES)
			stop = find(parent, next, end, true);
		error = snap_uffd_protect(&parent->uffd, gfn, stop - gfn, true);
		if (error)
			return error;
		mark(parent, gfn, stop, true);
		gfn = stop;
	}
	return 0;
}

int snap_unprotect(struct snap_parent *parent, uint64_t gfn, uint64_t pages)
{
	mark(parent, gfn, gfn + pages, false);
	return snap_uffd_protect(&parent->uffd, gfn, pages, false);
}

/* How many pages are likely to be written next: more than this one if the page before was. */
static uint64_t likely_writes(const struct snap_parent *parent, uint64_t gfn)
{
	uint64_t end = gfn + KEEP_AHEAD_PAGES;

	if (!gfn || find(parent, gfn - 1, gfn, true) == gfn - 1)
		return 1;
	if (end > parent->uffd.pages)
		end = parent->uffd.pages;
	return find(parent, gfn + 1, end, false) - gfn;
}

/*
 * Was the page free when the parent was last frozen, and does nobody lack it? A page whose
 * protection is a preparation does not count: lifted, it would have to be protected again.
 */
static bool is_free(const struct snap_parent *parent, uint64_t gfn)
{
	const struct snap *newest = parent->expected ? NULL : snap_newest(parent);

	return newest && snap_file_state(newest->file, gfn) == PAGE_DEAD &&
	       !snap_lacking(parent, gfn);
}

/* A parent that takes free memory into use takes more of it: one fault for all that is around. */
static int let_go(struct snap_parent *parent, uint64_t gfn)
{
	uint64_t first = gfn, end = gfn + 1, floor = gfn - gfn % MEMTAP_ZERO_RUN;
	uint64_t ceiling = floor + MEMTAP_ZERO_RUN;

	if (ceiling > parent->uffd.pages)
		ceiling = parent->uffd.pages;
	while (first > floor && is_free(parent, first - 1))
		first--;
	while (end < ceiling && is_free(parent, end))
		end++;
	return snap_unprotect(parent, first, end - first);
}

static int serve_write(struct snap_parent *parent, uint64_t gfn)
{
	uint64_t wanted = likely_writes(parent, gfn), kept = 0;
	int error = 0;

	parent->counters->faults++;
	if (is_free(parent, gfn))
		return let_go(parent, gfn);
	while (kept < wanted && !(error = snap_keep(parent, gfn + kept)))
		kept++;
	if (!kept) {
		log_warn("parent: page %#llx cannot be kept, its writer waits: error %d",
			 (unsigned long long)gfn, -error);
		return error;
	}
	if (fault_hit("snapshot-die-before-unprotect"))
		raise(SIGKILL);
	return snap_unprotect(parent, gfn, kept);
}

int snap_parent_serve(struct snap_parent *parent)
{
	struct snap_fault faults[EVENTS_AT_ONCE];
	int count = snap_uffd_read(&parent->uffd, faults, EVENTS_AT_ONCE);
	int result = 0;

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		int error = serve_write(parent, faults[i].gfn);

		if (error)
			result = error;
	}
	return result;
}

void snap_parent_retry(struct snap_parent *parent)
{
	snap_uffd_wake(&parent->uffd, 0, parent->uffd.pages);
}

int snap_freeze(struct snap_parent *parent, struct snap_file *file, struct snap **snap)
{
	struct snap *s;
	int error;

	if (!snap_parent_attached(parent) || parent->held)
		return -ENXIO;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	error = snap_protect(parent, 0, parent->uffd.pages);
	if (error) {
		free(s);
		parent->task = SNAP_REST;	/* some is protected now, perhaps for nothing */
		snap_choose_task(parent);
		return error;
	}
	s->parent = parent;
	s->file = file;
	TAILQ_INSERT_TAIL(&parent->chain, s, link);
	parent->sweep_gfn = 0;
	snap_choose_task(parent);
	*snap = s;
	return 0;
}
