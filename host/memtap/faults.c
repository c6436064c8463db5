/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults under way: which pages are waited for, and by whom.
 *
 * There is one struct mem_fault for a page of a file, however many clones wait for it: it is asked
 * for once. A fault without waiters is a page that was asked for ahead. It ends when the page is
 * in.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/io.h"
#include "common/log.h"
#include "host/memtap/memtap.h"

/*
 * Pages asked for beside one that a clone waits for: those that follow it and are absent, too. The
 * page waited for travels first and alone, so it is not held up; but the clone's next fault would
 * be, by the pages ahead, and they would be in vain where it jumps about. So they are asked for
 * only if the page before is here or on its way: then it reads in a row.
 *
 * What it reads on of pages that are here nobody sees. But if it comes to those that are on their
 * way it is faster than they are, and if it comes to the end of them it has used them all: both
 * times twice as many are asked for, up to what a link of 1 Gbit/s carries in 2 ms. So two such
 * lots are on their way to who is fast, one after the other, and the link is never idle.
 */
#define AHEAD_MIN_PAGES 7u
#define AHEAD_MAX_PAGES 64u

struct mem_fault {
	LIST_ENTRY(mem_fault) link;	/* of its bucket */
	struct mc_want want;		/* .gfn: which page */
	bool completing;		/* wanted so that the file is complete */
	struct mem_clone *origin;	/* whose counters it is for; NULL: nobody's any more */
	LIST_HEAD(, mem_waiter) waiters;
};

struct mem_waiter {
	LIST_ENTRY(mem_waiter) of_fault, of_clone;
	struct mem_clone *clone;
	uint64_t since_ns;
	bool write;
};

void mem_faults_init(struct mem_faults *faults)
{
	for (unsigned i = 0; i < MEM_FAULT_BUCKETS; i++)
		LIST_INIT(&faults->buckets[i]);
}

static unsigned bucket_of(uint64_t gfn)
{
	return (unsigned)(gfn % MEM_FAULT_BUCKETS);
}

static struct mem_fault *fault_find(struct mem_file *file, uint64_t gfn)
{
	struct mem_fault *f;

	LIST_FOREACH(f, &file->faults.buckets[bucket_of(gfn)], link) {
		if (f->want.gfn == gfn)
			return f;
	}
	return NULL;
}

static struct mem_fault *fault_create(struct mem_file *file, uint64_t gfn, struct mem_clone *origin)
{
	struct mem_fault *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->want.gfn = gfn;
	f->origin = origin;
	LIST_INIT(&f->waiters);
	LIST_INSERT_HEAD(&file->faults.buckets[bucket_of(gfn)], f, link);
	return f;
}

static void waiter_free(struct mem_waiter *w)
{
	LIST_REMOVE(w, of_fault);
	LIST_REMOVE(w, of_clone);
	free(w);
}

static void fault_free(struct mem_fault *f)
{
	struct mem_waiter *w;

	while ((w = LIST_FIRST(&f->waiters)))
		waiter_free(w);
	LIST_REMOVE(f, link);
	free(f);
}

/* Return: false if there is no memory. */
static bool wait_for(struct mem_fault *f, struct mem_clone *clone, bool write)
{
	struct mem_waiter *w;

	/* another vCPU of the same clone: one wake is for both */
	LIST_FOREACH(w, &f->waiters, of_fault) {
		if (w->clone == clone)
			return true;
	}
	w = malloc(sizeof(*w));
	if (!w)
		return false;
	w->clone = clone;
	w->write = write;
	w->since_ns = io_now_ns();
	LIST_INSERT_HEAD(&f->waiters, w, of_fault);
	LIST_INSERT_HEAD(&clone->waits, w, of_clone);
	return true;
}

static bool in_a_row(struct mem_file *file, uint64_t gfn)
{
	return gfn && (snap_file_state(file->pages, gfn - 1) != PAGE_ABSENT ||
		       fault_find(file, gfn - 1));
}

/* The row that goes on with this page, or NULL. */
static struct mem_row *row_find(struct mem_file *file, uint64_t gfn)
{
	for (unsigned i = 0; i < MEM_ROWS; i++) {
		struct mem_row *r = &file->rows[i];

		if (r->pages && gfn >= r->mark && gfn <= r->until)
			return r;
	}
	return NULL;
}

/* One that begins behind this page. */
static struct mem_row *row_create(struct mem_file *file, uint64_t gfn)
{
	struct mem_row *r = &file->rows[file->next_row++ % MEM_ROWS];

	*r = (struct mem_row){ .mark = gfn + 1, .until = gfn + 1, .pages = AHEAD_MIN_PAGES };
	return r;
}

/* Asks for the row's next pages; those that are here or on their way are so already. */
static void row_ask(struct mem_file *file, struct mem_row *r, struct mem_clone *origin)
{
	uint64_t end = r->until + r->pages;

	if (end > file->m->pages)
		end = file->m->pages;
	for (uint64_t gfn = r->until; gfn < end; gfn++) {
		struct mem_fault *f;

		if (snap_file_state(file->pages, gfn) != PAGE_ABSENT || fault_find(file, gfn))
			continue;
		f = fault_create(file, gfn, origin);
		if (!f)
			return;
		mc_fetch_want(file->fetch, &f->want, MC_AHEAD);
	}
	r->mark = r->until;
	r->until = end;
}

static void ask_ahead(struct mem_file *file, const struct mem_fault *f, bool fresh)
{
	uint64_t gfn = f->want.gfn;
	struct mem_row *r = row_find(file, gfn);

	if (r) {
		r->pages = 2 * r->pages < AHEAD_MAX_PAGES ? 2 * r->pages : AHEAD_MAX_PAGES;
		r->until += r->until == gfn;
	} else if (fresh && in_a_row(file, gfn)) {
		r = row_create(file, gfn);
	} else {
		return;
	}
	row_ask(file, r, f->origin);
}

static void ask_remote(struct mem_file *file, struct mem_fault *f)
{
	bool fresh = f->want.state == MC_IDLE;

	mc_fetch_want(file->fetch, &f->want, MC_NOW);
	memtap_expect(file->m);
	ask_ahead(file, f, fresh);
}

static void answer(struct mem_clone *clone, const struct snap_fault *fault, enum page_state state)
{
	if (mem_clone_answer(clone, fault, state) == 0)
		return;
	/* woken later, it asks again */
	mem_background_retry(clone->m);
}

static void answer_waiter(const struct mem_fault *f, const struct mem_waiter *w,
			  enum page_state state)
{
	answer(w->clone, &(struct snap_fault){ f->want.gfn, w->write }, state);
}

static void answer_waiters(struct mem_fault *f, enum page_state state, bool remote)
{
	uint64_t now_ns = io_now_ns();
	struct mem_waiter *w;

	LIST_FOREACH(w, &f->waiters, of_fault) {
		answer_waiter(f, w, state);
		if (remote)
			mem_times_add(&w->clone->counters.times, now_ns - w->since_ns);
	}
}

/* A page that a clone needs. Return: as mem_file_get_now(). */
static int get_local(struct mem_file *file, uint64_t gfn, struct mem_counters *counters)
{
	int state = mem_file_get_now(file, gfn);

	if (state == PAGE_ZERO)
		counters->pages_zero++;
	else if (state == PAGE_PRESENT)
		counters->pages_local++;
	if (state == PAGE_PRESENT)
		mem_wake_needed(file, gfn);
	return state;
}

/* The page cannot be had now: the clone waits, and the source is asked if it is far away. */
static void fault_wait(struct mem_clone *clone, const struct snap_fault *fault, int error)
{
	struct mem_file *file = clone->file;
	struct mem_fault *f = fault_find(file, fault->gfn);

	if (!f)
		f = fault_create(file, fault->gfn, clone);
	if (!f || !wait_for(f, clone, fault->write)) {
		/* the kernel still knows that it waits, and tells us again when woken */
		mem_background_retry(clone->m);
		return;
	}
	if (file->source == MEM_REMOTE)
		ask_remote(file, f);
	else if (error != -EAGAIN)
		mem_background_retry(clone->m);
}

void mem_fault(struct mem_clone *clone, const struct snap_fault *fault)
{
	uint64_t gfn = fault->gfn;
	int state = mem_clone_state(clone, gfn);

	clone->counters.faults++;
	if (mem_window_has(&clone->window, gfn)) {
		if (mem_window_answer(&clone->window, &clone->uffd, gfn))
			mem_background_retry(clone->m);
		return;
	}
	if (state == PAGE_ABSENT) {
		state = get_local(clone->file, gfn, &clone->counters);
	}
	if (state > PAGE_ABSENT)
		answer(clone, fault, (enum page_state)state);
	else
		fault_wait(clone, fault, state);
}

/* How many pages are wanted at a time so that a file is complete. */
#define COMPLETING_PAGES 128u

static void want_lacking(struct mem_file *file)
{
	while (file->completing && file->completing_pages < COMPLETING_PAGES) {
		uint64_t gfn = file->complete_gfn;
		struct mem_fault *f;

		while (gfn < file->m->pages && (snap_file_state(file->pages, gfn) != PAGE_ABSENT ||
						fault_find(file, gfn)))
			gfn++;
		file->complete_gfn = gfn + 1;
		if (gfn >= file->m->pages) {
			file->completing = false;
			return;
		}
		f = fault_create(file, gfn, NULL);
		if (!f)
			return;
		f->completing = true;
		file->completing_pages++;
		mc_fetch_want(file->fetch, &f->want, MC_AHEAD);
	}
}

void mem_faults_complete(void *arg)
{
	struct mem_file *file = arg;

	file->pushed = true;
	if (file->completing || !file->lacking)
		return;
	file->completing = true;
	file->complete_gfn = 0;
	want_lacking(file);
}

void mem_faults_asked(void *arg, const struct mc_span *span)
{
	struct mem_file *file = arg;
	enum mc_urgency urgency = span->flags & MC_RUN_AHEAD ? MC_AHEAD : MC_NOW;

	for (uint32_t i = 0; i < span->pages; i++) {
		uint64_t gfn = span->gfn + i;
		struct mem_fault *f = fault_find(file, gfn);

		if (snap_file_state(file->pages, gfn) != PAGE_ABSENT)
			continue;
		if (!f)
			f = fault_create(file, gfn, NULL);
		if (f)
			mc_fetch_want(file->fetch, &f->want, urgency);
	}
}

static void count_arrival(struct mem_file *file, struct mem_fault *f, const struct mc_arrival *a,
			  int state)
{
	struct mem_counters *c = f && f->origin ? &f->origin->counters : &file->m->gone;

	c->pages_fetched++;
	c->bytes_fetched += a->wire_bytes;
	if (state == PAGE_ZERO)
		c->pages_zero++;
	if (f)
		c->retries += f->want.tries;
}

/* Return: the page's state now, or -errno. */
static int put_arrival(struct mem_file *file, const struct mc_arrival *a)
{
	if (a->page)
		return snap_file_put(file->pages, a->gfn, a->page);
	snap_file_set_zero(file->pages, a->gfn);
	return PAGE_ZERO;
}

void mem_faults_arrived(void *arg, const struct mc_arrival *arrival)
{
	struct mem_file *file = arg;
	struct mem_fault *f = fault_find(file, arrival->gfn);
	int state = snap_file_state(file->pages, arrival->gfn);

	if (f)
		mc_fetch_done(file->fetch, &f->want, true);
	if (state == PAGE_ABSENT) {
		state = put_arrival(file, arrival);
		if (state < 0) {
			log_warn("file %u: page %#llx cannot be put in: error %d", file->number,
				 (unsigned long long)arrival->gfn, -state);
			mem_background_retry(file->m);
			return;
		}
		count_arrival(file, f, arrival, state);
		file->lacking--;
	}
	if (!f)
		return;
	if (!LIST_EMPTY(&f->waiters))
		memtap_expect(file->m);	/* of who goes on now: its next fault */
	answer_waiters(f, (enum page_state)state, true);
	file->completing_pages -= f->completing;
	fault_free(f);
	if (file->pushed && !file->completing_pages)
		mem_faults_complete(file);
	want_lacking(file);
}

/* Answers those who have freed the page themselves. Return: true if nobody is left who waits. */
static bool answer_freed(struct mem_fault *f)
{
	struct mem_waiter *w, *next;

	for (w = LIST_FIRST(&f->waiters); w; w = next) {
		next = LIST_NEXT(w, of_fault);
		if (mem_clone_state(w->clone, f->want.gfn) != PAGE_DEAD)
			continue;
		answer_waiter(f, w, PAGE_DEAD);
		waiter_free(w);
	}
	return LIST_EMPTY(&f->waiters);
}

/* Return: -errno if there is no use in asking for more. */
static int ask_again(struct mem_file *file, struct mem_fault *f)
{
	struct mem_clone *origin = f->origin;
	int state;

	if (f->want.state != MC_IDLE)
		return 0;
	if (answer_freed(f)) {
		file->completing_pages -= f->completing;
		fault_free(f);
		return 0;
	}
	state = snap_file_state(file->pages, f->want.gfn);
	if (state == PAGE_ABSENT)
		state = get_local(file, f->want.gfn,
				  origin ? &origin->counters : &file->m->gone);
	if (state < 0)
		return state;
	if (state == PAGE_ABSENT) {
		ask_remote(file, f);
		return 0;
	}
	answer_waiters(f, (enum page_state)state, false);
	fault_free(f);
	return 0;
}

void mem_faults_ask(struct mem_file *file)
{
	for (unsigned i = 0; i < MEM_FAULT_BUCKETS; i++) {
		struct mem_fault *f, *next;

		for (f = LIST_FIRST(&file->faults.buckets[i]); f; f = next) {
			int error;

			next = LIST_NEXT(f, link);
			error = ask_again(file, f);
			if (error == -EAGAIN)
				return;
			if (error) {
				mem_background_retry(file->m);
				return;
			}
		}
	}
}

void mem_faults_drop_clone(struct mem_clone *clone)
{
	struct mem_file *file = clone->file;
	struct mem_waiter *w;
	struct mem_fault *f;

	while ((w = LIST_FIRST(&clone->waits)))
		waiter_free(w);
	for (unsigned i = 0; i < MEM_FAULT_BUCKETS; i++) {
		LIST_FOREACH(f, &file->faults.buckets[i], link) {
			if (f->origin == clone)
				f->origin = NULL;
		}
	}
}

void mem_faults_drop(struct mem_file *file)
{
	for (unsigned i = 0; i < MEM_FAULT_BUCKETS; i++) {
		struct mem_fault *f;

		while ((f = LIST_FIRST(&file->faults.buckets[i]))) {
			if (file->fetch)
				mc_fetch_done(file->fetch, &f->want, false);
			fault_free(f);
		}
	}
}
