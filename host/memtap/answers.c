/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers to clones: a page that is in the file is there when they look again, zeros are given.
 *
 * Zeros go out in runs, so that memory nobody used costs a clone little when it takes it into use.
 * Two ways to give them:
 *
 *   to who reads     the kernel's one page of zeros, for all that follows of a hole
 *   to who writes    memory, which the kernel would have to find at the next write anyway, at four
 *                    times the price; in runs that double as the clone writes on in a row, so that
 *                    no more than it uses is spent ahead, and a little for one that jumps about
 *
 * A page that the clone has written is never covered: the kernel stops in front of it.
 */
#include <errno.h>

#include "host/memtap/memtap.h"

#define FILL_MIN_PAGES 8u

enum page_state mem_clone_state(const struct mem_clone *clone, uint64_t gfn)
{
	enum page_state state = snap_file_state(clone->file->pages, gfn);

	return state == PAGE_ABSENT && mem_window_is_dead(&clone->window, gfn) ? PAGE_DEAD : state;
}

/*
 * How many pages from `gfn`, `max` at most, are to be zeros. The window is a mapping of its own, so
 * none of them is in it.
 */
static uint64_t zero_run(const struct mem_clone *clone, uint64_t gfn, uint64_t max)
{
	uint64_t run = 1;

	if (max > clone->uffd.pages - gfn)
		max = clone->uffd.pages - gfn;
	while (run < max && !mem_window_has(&clone->window, gfn + run)) {
		enum page_state state = mem_clone_state(clone, gfn + run);

		if (state != PAGE_ZERO && state != PAGE_DEAD)
			break;
		run++;
	}
	return run;
}

/* As many pages as were filled right before `gfn`, within limits. */
static uint64_t fill_max(const struct mem_clone *clone, uint64_t gfn)
{
	uint64_t before = 0;

	while (before < SNAP_FILL_PAGES && before < gfn) {
		uint64_t at = gfn - before - 1;

		if (!(clone->filled[at / 64] >> at % 64 & 1))
			break;
		before++;
	}
	return before > FILL_MIN_PAGES ? before : FILL_MIN_PAGES;
}

/* Return: how many pages were given, or -errno. */
static int64_t fill(struct mem_clone *clone, uint64_t gfn)
{
	uint64_t run = zero_run(clone, gfn, fill_max(clone, gfn));
	int64_t given = snap_uffd_fill(&clone->uffd, gfn, run);

	for (int64_t i = 0; i < given; i++) {
		uint64_t at = gfn + (uint64_t)i;

		clone->filled[at / 64] |= 1ull << at % 64;
	}
	return given;
}

int mem_clone_answer(struct mem_clone *clone, const struct snap_fault *fault, enum page_state state)
{
	uint64_t gfn = fault->gfn;
	int64_t given = 0;

	if (state == PAGE_ZERO || state == PAGE_DEAD)
		given = fault->write ? fill(clone, gfn) :
				       snap_uffd_zero(&clone->uffd, gfn,
						      zero_run(clone, gfn, MEMTAP_ZERO_RUN));
	if (given > 0) {
		clone->counters.pages_dead += (uint64_t)given - (state == PAGE_ZERO);
		return 0;
	}
	if (given == -ENOMEM)
		return -ENOMEM;
	/*
	 * it is there (EEXIST), or the fault is to be told again (EAGAIN), or nobody is left
	 * (ESRCH)
	 */
	snap_uffd_wake(&clone->uffd, gfn, 1);
	return 0;
}
