/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chain of snapshots: looking a page up, keeping it, handing it down.
 *
 * Handing down. When a snapshot is retired while an older live one counts on it, each page that it
 * holds is put into its heir, the nearest older live one that needs the page, if that one lacks it:
 * found by the ordinary look-up so that a page between the two takes precedence. Until all are down
 * it stays in the chain, so that look-ups are right at any moment and a restart in the middle does
 * no harm. Snapshots older still find the pages in the heir.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/snapshot/parent.h"

#define HAND_DOWN_PAGES 32	/* copied in one step */
#define HAND_DOWN_LOOK 65536u	/* looked at in one step */

struct snap *snap_newest(const struct snap_parent *parent)
{
	struct snap *s;

	TAILQ_FOREACH_REVERSE(s, &parent->chain, snap_chain, link) {
		if (!s->retiring)
			return s;
	}
	return NULL;
}

/* The nearest older live snapshot, or NULL. */
static struct snap *older(struct snap *s)
{
	do {
		s = TAILQ_PREV(s, snap_chain, link);
	} while (s && s->retiring);
	return s;
}

/* The nearest live snapshot from `s` on towards the oldest that needs the page, or NULL. */
static struct snap *needing(struct snap *s, uint64_t gfn)
{
	while (s && snap_file_state(s->file, gfn) == PAGE_DEAD)
		s = older(s);
	return s;
}

int snap_add(struct snap_parent *parent, struct snap_file *file, struct snap **snap)
{
	struct snap *s;

	if (!parent->held)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->parent = parent;
	s->file = file;
	TAILQ_INSERT_TAIL(&parent->chain, s, link);
	*snap = s;
	return 0;
}

static bool holds(const struct snap *s, uint64_t gfn)
{
	enum page_state state = snap_file_state(s->file, gfn);

	return state == PAGE_PRESENT || state == PAGE_ZERO;
}

/* The first snapshot from `s` on that holds the page, or NULL. */
static const struct snap *holder(const struct snap *s, uint64_t gfn)
{
	while (s && !holds(s, gfn))
		s = TAILQ_NEXT(s, link);
	return s;
}

static int read_ram(const struct snap_parent *parent, uint64_t gfn, uint8_t *page)
{
	int error;

	if (!snap_parent_attached(parent) || parent->held)
		return -EAGAIN;
	error = snap_page_read(parent->ram_fd, gfn, page);
	if (error)
		return error;
	return snap_page_is_zero(page) ? PAGE_ZERO : PAGE_PRESENT;
}

int snap_read(const struct snap *snap, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES])
{
	bool dead = snap_file_state(snap->file, gfn) == PAGE_DEAD;
	const struct snap *from = dead ? NULL : holder(snap, gfn);
	int error;

	if (dead || (from && snap_file_state(from->file, gfn) == PAGE_ZERO)) {
		memset(page, 0, SNAP_PAGE_BYTES);
		return PAGE_ZERO;
	}
	if (!from)
		return read_ram(snap->parent, gfn, page);
	error = snap_file_read(from->file, gfn, page);
	return error ? error : PAGE_PRESENT;
}

int snap_fill(struct snap *snap, uint64_t gfn)
{
	uint8_t page[SNAP_PAGE_BYTES];
	int found = snap_file_state(snap->file, gfn);

	if (found != PAGE_ABSENT)
		return found;
	found = snap_read(snap, gfn, page);
	return found < 0 ? found : snap_file_put(snap->file, gfn, page);
}

struct snap *snap_lacking(const struct snap_parent *parent, uint64_t gfn)
{
	struct snap *s = needing(snap_newest(parent), gfn);

	return s && !holder(s, gfn) ? s : NULL;
}

int snap_keep(struct snap_parent *parent, uint64_t gfn)
{
	struct snap *s = snap_lacking(parent, gfn);
	int error;

	if (!s)
		return 0;
	error = snap_fill(s, gfn);
	if (error < 0)
		return error;
	parent->counters->copied++;
	return 0;
}

static void snap_free(struct snap *s)
{
	TAILQ_REMOVE(&s->parent->chain, s, link);
	if (s->done)
		s->done(s->done_arg);
	free(s);
}

/* Lets retiring snapshots go that no older live one counts on. */
static void drop_unneeded(struct snap_parent *parent)
{
	struct snap *s;

	while ((s = TAILQ_FIRST(&parent->chain)) && s->retiring)
		snap_free(s);
}

bool snap_retire(struct snap *snap, void (*done)(void *arg), void *arg)
{
	struct snap_parent *parent = snap->parent;

	if (older(snap)) {
		snap->retiring = true;
		snap->done = done;
		snap->done_arg = arg;
		snap_choose_task(parent);
		return false;
	}
	snap_free(snap);
	drop_unneeded(parent);
	snap_choose_task(parent);
	return true;
}

/* Return: 0 if all that its heirs lack is down, 1 if there is more, or -errno. */
static int hand_down_some(struct snap *s)
{
	uint64_t end = s->handed_gfn + HAND_DOWN_LOOK;
	unsigned copied = 0;
	int error;

	if (end > s->parent->uffd.pages)
		end = s->parent->uffd.pages;
	for (; s->handed_gfn < end && copied < HAND_DOWN_PAGES; s->handed_gfn++) {
		struct snap *heir = NULL;

		if (holds(s, s->handed_gfn))
			heir = needing(older(s), s->handed_gfn);
		if (!heir || holds(heir, s->handed_gfn))
			continue;
		error = snap_fill(heir, s->handed_gfn);
		if (error < 0)
			return error;
		copied++;
	}
	return s->handed_gfn < s->parent->uffd.pages;
}

int snap_hand_down(struct snap_parent *parent)
{
	struct snap *s;
	int more;

	TAILQ_FOREACH(s, &parent->chain, link) {
		if (!s->retiring)
			continue;
		more = hand_down_some(s);
		if (!more)
			snap_free(s);
		return more < 0 ? more : 1;
	}
	return 0;
}
