/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work on the parent's memory that nobody waits for, in small steps. */
#include <stddef.h>

#include "host/snapshot/parent.h"

#define STEP_PAGES 1024u	/* protected or lifted in one step: some tens of microseconds */

void snap_choose_task(struct snap_parent *parent)
{
	enum snap_task task = SNAP_REST;

	if (parent->expected)
		task = SNAP_PREPARE;
	else if (TAILQ_EMPTY(&parent->chain))
		task = SNAP_LIFT;
	if (task == parent->task && task != SNAP_PREPARE)
		return;
	parent->task = task;
	parent->task_gfn = 0;
}

void snap_parent_expect(struct snap_parent *parent, bool expected)
{
	parent->expected = expected;
	snap_choose_task(parent);
}

/* A step of the task. Return: 0 or -errno. */
static int do_task(struct snap_parent *parent)
{
	uint64_t gfn = parent->task_gfn, end = gfn + STEP_PAGES;
	int error;

	if (end > parent->uffd.pages)
		end = parent->uffd.pages;
	error = parent->task == SNAP_PREPARE ? snap_protect(parent, gfn, end) :
					       snap_unprotect(parent, gfn, end - gfn);
	if (!error)
		parent->task_gfn = end;
	return error;
}

int snap_parent_step(struct snap_parent *parent)
{
	int more = parent->held ? 0 : snap_hand_down(parent);

	if (more)
		return more;
	if (!snap_parent_attached(parent) || parent->held || parent->task == SNAP_REST)
		return 0;
	if (parent->task_gfn == parent->uffd.pages)
		return 0;
	more = do_task(parent);
	return more ? more : 1;
}

int snap_parent_sweep(struct snap_parent *parent, unsigned max_pages)
{
	uint64_t start = parent->sweep_gfn, end = start + SNAP_SWEEP_PAGES;
	uint64_t gfn;
	int error = 0;

	if (max_pages < SNAP_SWEEP_PAGES)
		end = start + max_pages;
	if (end > parent->uffd.pages)
		end = parent->uffd.pages;
	/* what is to be frozen again soon is not worth to be unprotected now */
	if (parent->expected || parent->held || !snap_parent_attached(parent) ||
	    !snap_newest(parent) || start == end)
		return 0;
	for (gfn = start; gfn < end && !error; gfn++)
		error = snap_keep(parent, gfn);
	if (error)
		gfn--;
	parent->sweep_gfn = gfn;
	if (gfn > start)
		snap_unprotect(parent, start, gfn - start);
	return gfn > start ? (int)(gfn - start) : error;
}
