/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wake-up path: what clones of a parent need in their first moments is much the same each time.
 *
 * The first pages that clones of a snapshot need, here or on other hosts, are recorded: for
 * MEM_WAKE_NS from the first on. When clones of another snapshot wake up it becomes the parent's
 * list; not earlier, so that it costs a parent that stands still nothing. Who begins elsewhere is
 * sent the list's pages (host/mcdist/push.c); for clones here they are copied in the background.
 *
 * A page that was given so is not asked for any more, and nobody knows whether it was needed. So
 * what was on the list stays on it when it was given to somebody; but a part, chosen anew each
 * time, is left out, and comes back if it is asked for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "host/memtap/memtap.h"

#define MEM_WAKE_NS 2000000000ull
#define MEM_WAKE_PAGES 2048u	/* on a list */
#define LEFT_OUT 32u		/* one page of so many */
#define FILL_STEP_PAGES 8u

/* What clones of one snapshot needed. */
struct mem_record {
	uint64_t first_ns;
	size_t count;
	uint64_t gfns[MEM_WAKE_PAGES];	/* in the order that they were needed */
	uint64_t seen[];		/* bit per page of the RAM */
};

/* What clones of the next one will need. */
struct mem_wake {
	uint64_t generation;
	size_t count, span_count;
	uint64_t gfns[MEM_WAKE_PAGES];
	struct mc_span spans[MEM_WAKE_PAGES];	/* the same */
};

static bool test_and_set(uint64_t *bits, uint64_t bit)
{
	uint64_t mask = 1ull << bit % 64, old = bits[bit / 64];

	bits[bit / 64] |= mask;
	return old & mask;
}

/* ── list ── */

/* A page and its place on the list. */
struct place {
	uint64_t gfn;
	size_t at;
};

static int by_gfn(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->gfn < y->gfn ? -1 : x->gfn > y->gfn;
}

struct run {
	struct mc_span span;
	size_t at;		/* place of the first one of it */
};

static int by_place(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

/* Neighbours travel together, when the first of them is due. */
static void make_spans(struct mem_wake *wake)
{
	static struct place places[MEM_WAKE_PAGES];
	static struct run runs[MEM_WAKE_PAGES];
	size_t count = 0;

	for (size_t i = 0; i < wake->count; i++)
		places[i] = (struct place){ wake->gfns[i], i };
	qsort(places, wake->count, sizeof(places[0]), by_gfn);
	for (size_t i = 0; i < wake->count; i++) {
		struct run *last = count ? &runs[count - 1] : NULL;

		if (last && last->span.pages < MC_MAX_PAGES &&
		    places[i].gfn == last->span.gfn + last->span.pages) {
			last->span.pages++;
			last->at = places[i].at < last->at ? places[i].at : last->at;
		} else {
			runs[count++] = (struct run){ { places[i].gfn, 1, 0 }, places[i].at };
		}
	}
	qsort(runs, count, sizeof(runs[0]), by_place);
	for (size_t i = 0; i < count; i++)
		wake->spans[i] = runs[i].span;
	wake->span_count = count;
}

static bool is_left_out(const struct mem_wake *wake, uint64_t gfn)
{
	uint64_t x = (gfn + wake->generation * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;

	return (x >> 32) % LEFT_OUT == 0;
}

/* The record and, if it was given to somebody, what was on the list before. */
static void make_list(struct mem_wake *wake, struct mem_record *record, bool given)
{
	wake->generation++;
	for (size_t i = 0; given && i < wake->count && record->count < MEM_WAKE_PAGES; i++) {
		if (!is_left_out(wake, wake->gfns[i]) &&
		    !test_and_set(record->seen, wake->gfns[i]))
			record->gfns[record->count++] = wake->gfns[i];
	}
	wake->count = record->count;
	memcpy(wake->gfns, record->gfns, record->count * sizeof(record->gfns[0]));
	make_spans(wake);
}

/* ── record ── */

/* The record of a snapshot ends, and there is no other of it. */
static void record_end(struct mem_file *file)
{
	struct memtap *m = file->m;

	if (!m->wake)
		m->wake = calloc(1, sizeof(*m->wake));
	if (m->wake)
		make_list(m->wake, file->record, file->wake_given);
	log_debug("file %u: %zu pages to wake up with", file->number,
		  m->wake ? m->wake->count : 0);
	free(file->record);
	file->record = NULL;
}

static bool is_over(const struct mem_record *record)
{
	return record->count == MEM_WAKE_PAGES || io_now_ns() - record->first_ns > MEM_WAKE_NS;
}

/* Clones of `file` wake up: what is known of others becomes the list, and their records end. */
static void settle(const struct mem_file *file)
{
	struct mem_file *f;

	LIST_FOREACH(f, &file->m->files, link) {
		if (f->record && (f != file || is_over(f->record)))
			record_end(f);
	}
}

/* Once for each snapshot: when the first page is needed, or given. */
static void record_begin(struct mem_file *file)
{
	size_t words = (file->m->pages + 63) / 64;

	if (file->recorded)
		return;
	file->recorded = true;
	file->record = calloc(1, sizeof(*file->record) + words * sizeof(file->record->seen[0]));
	if (file->record)
		file->record->first_ns = io_now_ns();
}

void mem_wake_needed(struct mem_file *file, uint64_t gfn)
{
	struct mem_record *r;

	if (file->source == MEM_LOCAL)
		file = file->other;
	if (file->source != MEM_SNAPSHOT)
		return;
	record_begin(file);
	r = file->record;
	if (r && !is_over(r) && !test_and_set(r->seen, gfn))
		r->gfns[r->count++] = gfn;
}

void mem_wake_forget(struct mem_file *file)
{
	if (file->record)
		record_end(file);
}

/* ── giving ── */

/* Return: the list that clones of this snapshot get, or NULL. */
static const struct mem_wake *give(struct mem_file *file)
{
	settle(file);
	if (file->m->wake) {
		file->wake_given = true;
		record_begin(file);
	}
	return file->m->wake;
}

size_t mem_wake_spans(struct mem_file *file, const struct mc_span **spans)
{
	const struct mem_wake *wake = give(file);

	if (!wake)
		return 0;
	*spans = wake->spans;
	return wake->span_count;
}

/* Do clones here wake up with this file? */
static bool has_clones(const struct mem_file *file)
{
	const struct mem_clone *c;

	LIST_FOREACH(c, &file->m->clones, link) {
		if (c->file == file)
			return true;
	}
	return false;
}

/* Return: 0, or -errno if it is to be tried again. */
static int fill_some(struct mem_file *file, const struct mem_wake *wake)
{
	for (unsigned i = 0; i < FILL_STEP_PAGES && file->wake_filled < wake->count; i++) {
		uint64_t gfn = wake->gfns[file->wake_filled];

		if (snap_file_state(file->pages, gfn) == PAGE_ABSENT) {
			int state = mem_file_get_now(file, gfn);

			if (state < 0)
				return state;
			file->m->gone.pages_local += state == PAGE_PRESENT;
		}
		file->wake_filled++;
	}
	return 0;
}

/* The file's clones wake up now, or have before. Return: true if there is something to copy. */
static bool is_to_be_filled(struct mem_file *file)
{
	struct mem_file *snapshot = file->source == MEM_LOCAL ? file->other : file;

	if (snapshot->source != MEM_SNAPSHOT || !has_clones(file))
		return false;
	if (!file->wake_begun) {
		file->wake_begun = true;
		give(snapshot);
	}
	return snapshot->wake_given && file->wake_filled < file->m->wake->count;
}

int mem_wake_fill(struct memtap *m)
{
	struct mem_file *f;

	if (m->restating)
		return 0;
	LIST_FOREACH(f, &m->files, link) {
		int error;

		if (!is_to_be_filled(f))
			continue;
		error = fill_some(f, m->wake);
		return error ? error : 1;
	}
	return 0;
}
