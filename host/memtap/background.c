/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work that nobody waits for: pages of the wake-up path, protecting ahead, lifting, handing down,
 * the sweep.
 *
 * All of it runs at a lower priority than faults and messages, some tens of microseconds at a time,
 * so that a fault waits for one such step at most.
 */
#include <errno.h>
#include <event2/event.h>

#include "common/io.h"
#include "host/memtap/memtap.h"

#define RETRY_MS 100
#define SWEEP_TICK_MS 5
#define SWEEP_REST_NS 1000000000ull
#define SWEEP_STEP_PAGES 16u
#define SWEEP_BEHIND_NS 20000000ull	/* what it could not do in time it need not make up */
#define NS_PER_S 1000000000ull

static void timer_start(struct event *timer, long ms)
{
	struct timeval wait = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (!event_pending(timer, EV_TIMEOUT, NULL))
		event_add(timer, &wait);
}

static void on_work(evutil_socket_t fd, short what, void *arg)
{
	struct memtap *m = arg;
	int more = mem_wake_fill(m);

	(void)fd;
	(void)what;
	if (!more)
		more = snap_parent_step(m->parent);
	if (more > 0)
		event_active(m->background.work, EV_TIMEOUT, 0);
	else if (more < 0 && more != -ESRCH)
		mem_background_retry(m);
}

/* The sweep is paid in pages: `swept_ns` follows the clock as pages are done. */
static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct memtap *m = arg;
	struct mem_background *b = &m->background;
	uint64_t now_ns = io_now_ns();
	int done;

	(void)fd;
	(void)what;
	if (b->swept_ns + SWEEP_BEHIND_NS < now_ns)
		b->swept_ns = now_ns - SWEEP_BEHIND_NS;
	if (b->swept_ns >= now_ns) {
		timer_start(b->sweep, SWEEP_TICK_MS + (long)((b->swept_ns - now_ns) / 1000000));
		return;
	}
	done = snap_parent_sweep(m->parent, SWEEP_STEP_PAGES);
	if (done < 0)
		mem_background_retry(m);
	if (done <= 0)
		return;		/* until it is kicked */
	b->swept_ns += (uint64_t)done * NS_PER_S / b->sweep_pages_per_s;
	event_active(b->sweep, EV_TIMEOUT, 0);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct memtap *m = arg;
	struct mem_clone *c;
	struct mem_file *f;

	(void)fd;
	(void)what;
	if (m->restating)
		return;		/* memtap_resume() does all of it */
	LIST_FOREACH(f, &m->files, link)
		mem_faults_ask(f);
	LIST_FOREACH(c, &m->clones, link)
		snap_uffd_wake(&c->uffd, 0, c->uffd.pages);
	if (snap_parent_attached(m->parent))
		snap_parent_retry(m->parent);
	mem_background_kick(m);
}

int mem_background_init(struct memtap *m, uint32_t sweep_pages_per_s)
{
	struct mem_background *b = &m->background;

	b->work = event_new(m->base, -1, 0, on_work, m);
	b->sweep = event_new(m->base, -1, 0, on_sweep, m);
	b->retry = event_new(m->base, -1, 0, on_retry, m);
	if (!b->work || !b->sweep || !b->retry) {
		mem_background_fini(m);
		return -ENOMEM;
	}
	event_priority_set(b->work, MEM_PRIORITY_BACKGROUND);
	event_priority_set(b->sweep, MEM_PRIORITY_BACKGROUND);
	b->sweep_pages_per_s = sweep_pages_per_s;
	return 0;
}

void mem_background_fini(struct memtap *m)
{
	struct mem_background *b = &m->background;
	struct event **all[] = { &b->work, &b->sweep, &b->retry };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (*all[i])
			event_free(*all[i]);
		*all[i] = NULL;
	}
}

void mem_background_kick(struct memtap *m)
{
	struct mem_background *b = &m->background;

	event_active(b->work, EV_TIMEOUT, 0);
	if (b->sweep_pages_per_s)
		timer_start(b->sweep, SWEEP_TICK_MS);
}

void mem_background_rest(struct memtap *m)
{
	m->background.swept_ns = io_now_ns() + SWEEP_REST_NS;
}

void mem_background_retry(struct memtap *m)
{
	timer_start(m->background.retry, RETRY_MS);
}
