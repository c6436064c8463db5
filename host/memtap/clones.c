/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones: their userfaultfds, faults read in, answers given out. */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/memtap/memtap.h"

#define FAULTS_AT_ONCE 64

struct mem_clone *mem_clone_find(struct memtap *m, uint32_t vm)
{
	struct mem_clone *c;

	LIST_FOREACH(c, &m->clones, link) {
		if (c->vm == vm)
			return c;
	}
	return NULL;
}

static void on_faults(evutil_socket_t fd, short what, void *arg)
{
	struct mem_clone *clone = arg;
	uint64_t gfns[FAULTS_AT_ONCE];
	int count = snap_uffd_read(&clone->uffd, gfns, FAULTS_AT_ONCE);

	(void)fd;
	(void)what;
	if (count < 0) {
		log_err("vm %u: its faults cannot be read: error %d", clone->vm, -count);
		event_del(clone->readable);
		return;
	}
	for (int i = 0; i < count; i++)
		mem_fault(clone, gfns[i]);
}

int mem_clone_create(struct mem_file *file, uint32_t vm, int uffd, uint64_t base,
		     const struct mem_window *window)
{
	struct memtap *m = file->m;
	struct mem_clone *c = calloc(1, sizeof(*c));
	int error;

	if (!c)
		return -ENOMEM;
	*c = (struct mem_clone){ .m = m, .vm = vm, .file = file, .window = *window };
	c->uffd = (struct snap_uffd){ .fd = uffd, .base = base, .pages = m->pages };
	LIST_INIT(&c->waits);
	c->readable = event_new(m->base, uffd, EV_READ | EV_PERSIST, on_faults, c);
	error = c->readable ? snap_uffd_start(&c->uffd, SNAP_UFFD_MISSING) : -ENOMEM;
	if (!error && event_add(c->readable, NULL) < 0)
		error = -ENOMEM;
	if (error) {
		if (c->readable)
			event_free(c->readable);
		free(c);
		return error;
	}
	LIST_INSERT_HEAD(&m->clones, c, link);
	m->clone_count++;
	file->users++;
	return 0;
}

static void keep_counters(struct mem_counters *sum, const struct mem_counters *c)
{
	sum->faults += c->faults;
	sum->pages_fetched += c->pages_fetched;
	sum->bytes_fetched += c->bytes_fetched;
	sum->pages_local += c->pages_local;
	sum->pages_zero += c->pages_zero;
	sum->pages_dead += c->pages_dead;
	sum->retries += c->retries;
	mem_times_merge(&sum->times, &c->times);
}

void mem_clone_destroy(struct mem_clone *clone)
{
	mem_faults_drop_clone(clone);
	event_free(clone->readable);
	cleanup_close(&clone->uffd.fd);
	mem_window_close(&clone->window);
	keep_counters(&clone->m->gone, &clone->counters);
	LIST_REMOVE(clone, link);
	clone->m->clone_count--;
	clone->file->users--;
	free(clone);
}

enum page_state mem_clone_state(const struct mem_clone *clone, uint64_t gfn)
{
	enum page_state state = snap_file_state(clone->file->pages, gfn);

	return state == PAGE_ABSENT && mem_window_is_dead(&clone->window, gfn) ? PAGE_DEAD : state;
}

/*
 * Zeros are given in runs: one fault stands for all that follows of a hole. A page that the clone
 * has written is never covered, the kernel stops in front of it. The window is a mapping of its
 * own, so no run goes into it. Return: how many pages from `gfn` on are to be zeros.
 */
static uint64_t zero_run(const struct mem_clone *clone, uint64_t gfn)
{
	uint64_t max = MEMTAP_ZERO_RUN - gfn % MEMTAP_ZERO_RUN, run = 1;

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

int mem_clone_answer(struct mem_clone *clone, uint64_t gfn, enum page_state state)
{
	int64_t given = 0;

	if (state == PAGE_ZERO || state == PAGE_DEAD)
		given = snap_uffd_zero(&clone->uffd, gfn, zero_run(clone, gfn));
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
