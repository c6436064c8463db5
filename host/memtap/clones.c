/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones: their userfaultfds, faults read in. */
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
	struct snap_fault faults[FAULTS_AT_ONCE];
	int count = snap_uffd_read(&clone->uffd, faults, FAULTS_AT_ONCE);

	(void)fd;
	(void)what;
	if (count < 0) {
		log_err("vm %u: its faults cannot be read: error %d", clone->vm, -count);
		event_del(clone->readable);
		return;
	}
	for (int i = 0; i < count; i++)
		mem_fault(clone, &faults[i]);
}

int mem_clone_create(struct mem_file *file, uint32_t vm, int uffd, uint64_t base,
		     const struct mem_window *window)
{
	struct memtap *m = file->m;
	struct mem_clone *c = calloc(1, sizeof(*c));
	uint64_t *filled = calloc(m->pages / 64 + 1, sizeof(*filled));
	int error;

	if (!c || !filled) {
		free(filled);
		free(c);
		return -ENOMEM;
	}
	*c = (struct mem_clone){ .m = m, .vm = vm, .file = file, .filled = filled };
	c->uffd = (struct snap_uffd){ .fd = uffd, .base = base, .pages = m->pages };
	LIST_INIT(&c->waits);
	c->readable = event_new(m->base, uffd, EV_READ | EV_PERSIST, on_faults, c);
	error = c->readable ? snap_uffd_start(&c->uffd, SNAP_UFFD_MISSING) : -ENOMEM;
	if (!error && event_add(c->readable, NULL) < 0)
		error = -ENOMEM;
	if (error) {
		if (c->readable)
			event_free(c->readable);
		free(filled);
		free(c);
		return error;
	}
	c->window = *window;
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
	free(clone->filled);
	free(clone);
}
