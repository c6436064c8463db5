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
/*
 * Zeros are given in runs: one fault then stands for many pages of a hole. A page that the clone
 * has written is never covered, the kernel stops in front of it.
 */
#define ZERO_RUN_PAGES 32u

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

int mem_clone_create(struct mem_file *file, uint32_t vm, int uffd, uint64_t base)
{
	struct memtap *m = file->m;
	struct mem_clone *c = calloc(1, sizeof(*c));
	int error;

	if (!c)
		return -ENOMEM;
	*c = (struct mem_clone){ .m = m, .vm = vm, .file = file };
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
	sum->retries += c->retries;
	mem_times_merge(&sum->times, &c->times);
}

void mem_clone_destroy(struct mem_clone *clone)
{
	mem_faults_drop_clone(clone);
	event_free(clone->readable);
	cleanup_close(&clone->uffd.fd);
	keep_counters(&clone->m->gone, &clone->counters);
	LIST_REMOVE(clone, link);
	clone->m->clone_count--;
	clone->file->users--;
	free(clone);
}

int mem_clone_answer(struct mem_clone *clone, uint64_t gfn, enum page_state state)
{
	int error = 0;

	if (state == PAGE_ZERO) {
		uint64_t run = snap_file_run(clone->file->pages, gfn, ZERO_RUN_PAGES, PAGE_ZERO);

		error = snap_uffd_zero(&clone->uffd, gfn, run);
		if (!error)
			return 0;
	}
	if (error == -ENOMEM)
		return error;
	/*
	 * it is there (EEXIST), or the fault is to be told again (EAGAIN), or nobody is left
	 * (ESRCH)
	 */
	snap_uffd_wake(&clone->uffd, gfn, 1);
	return 0;
}
