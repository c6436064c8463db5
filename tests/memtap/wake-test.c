/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wake-up path: what clones needed at first is there when the next ones begin. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u
#define THEN (1u | CONTENT_FULL)
#define STEP 32u		/* of what a clone touches: farther than is asked for ahead */
#define NEEDED (PAGES / STEP)
#define LIST_MAX 2048u

struct world {
	struct test_host home, away;
	struct test_vm parent;
};

static struct world world_create(void)
{
	struct world w = { .home = host_start(PAGES, 0, NULL),
			   .away = host_start(PAGES, 0, NULL),
			   .parent = vm_parent(PAGES) };

	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	return w;
}

static void world_destroy(struct world *w)
{
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->away), 0);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
}

/* One snapshot, and a clone of it: elsewhere, or here. */
struct run {
	struct test_host *host;
	struct test_file store, cache;
	struct test_vm clone;
};

static struct run run_begin(struct world *w, bool here)
{
	struct run r = { .host = here ? &w->home : &w->away,
			 .store = test_file_create(1, PAGES),
			 .cache = test_file_create(1, PAGES) };

	CU_ASSERT_EQUAL(host_file(&w->home, &r.store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w->away, &r.cache, 0), 0);
	r.clone = vm_clone(here ? &r.store : &r.cache);
	CU_ASSERT_EQUAL(vm_give_clone(&r.clone, r.host, 1, 1, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&w->home, 1, 1, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&w->away, 1, 1, &w->home, 0), 0);
	return r;
}

static void run_end(struct world *w, struct run *r)
{
	vm_end(&r->clone);
	CU_ASSERT_EQUAL(host_clone_gone(r->host, 1), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w->away, 1), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w->home, 1), 0);
	test_file_destroy(&r->store);
	test_file_destroy(&r->cache);
}

/* What a clone does at first: from page `first` on. Return: its faults until then. */
static uint64_t wake_up(struct run *r, uint64_t first)
{
	struct vm_order order = { .op = VM_CHECK, .threads = 1, .seed = THEN, .first = first,
				  .pages = PAGES - first, .step = STEP };

	vm_order(&r->clone, &order);
	CU_ASSERT_EQUAL(vm_wait(&r->clone), 0);
	return host_stats(r->host, 1).faults;
}

/* Waits until so many pages are there, by nobody's fault. */
static void wait_for_pages(const struct test_file *f, uint64_t count)
{
	uint64_t deadline_ns = io_now_ns() + TEST_PATIENCE_MS * 1000000ull;

	while (test_file_count(f, PAGE_PRESENT) < count && io_now_ns() < deadline_ns)
		sched_yield();
	CU_ASSERT(test_file_count(f, PAGE_PRESENT) >= count);
}

static void test_pages_are_there_before_they_are_needed(void)
{
	struct world w = world_create();
	struct run r = run_begin(&w, false);

	CU_ASSERT_EQUAL(wake_up(&r, 0), NEEDED);
	run_end(&w, &r);
	r = run_begin(&w, false);
	wait_for_pages(&r.cache, NEEDED);
	CU_ASSERT_EQUAL(host_stats(&w.away, MEMTAP_ALL).pages_fetched, 2 * NEEDED);
	CU_ASSERT_EQUAL(wake_up(&r, 0), 0);
	CU_ASSERT_EQUAL(vm_do(&r.clone, VM_CHECK, THEN, 2), 0);
	run_end(&w, &r);
	world_destroy(&w);
}

static void test_clones_here_find_them_too(void)
{
	struct world w = world_create();
	struct run r = run_begin(&w, true);

	CU_ASSERT_EQUAL(wake_up(&r, 0), NEEDED);
	run_end(&w, &r);
	r = run_begin(&w, true);
	wait_for_pages(&r.store, NEEDED);
	CU_ASSERT_EQUAL(wake_up(&r, 0), 0);
	/* nobody was at fault, but they are not forgotten */
	wait_for_pages(&r.cache, NEEDED);
	run_end(&w, &r);
	world_destroy(&w);
}

/* A checkpoint's clones come long after it, and each ticket's have a file of their own. */
static void test_checkpoints(void)
{
	struct world w = world_create();
	struct test_file store = test_file_create(9, PAGES), own = test_file_create(10, PAGES);
	struct run r = run_begin(&w, false);
	struct test_vm clone = vm_clone(&own);

	CU_ASSERT_EQUAL(wake_up(&r, 0), NEEDED);
	run_end(&w, &r);
	CU_ASSERT_EQUAL(host_file(&w.home, &store, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 9, 9, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &own, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &w.home, 10, 10, 0), 0);
	CU_ASSERT_EQUAL(host_begin_local(&w.home, 10, 9, 0), 0);
	wait_for_pages(&own, NEEDED);
	CU_ASSERT_EQUAL(test_file_count(&store, PAGE_ABSENT), PAGES);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, THEN, 2), 0);
	vm_end(&clone);
	world_destroy(&w);
	test_file_destroy(&store);
	test_file_destroy(&own);
}

/* What is given is not asked for any more: it stays on the list all the same, most of the time. */
static void test_list_lives_on(void)
{
	struct world w = world_create();
	uint64_t left_out = 0;

	for (unsigned i = 0; i < 30; i++) {
		struct run r = run_begin(&w, false);
		uint64_t asked;

		if (i)
			wait_for_pages(&r.cache, NEEDED * 3 / 4);
		asked = wake_up(&r, 0);
		CU_ASSERT(i == 0 || asked <= NEEDED / 4);
		left_out += i ? asked : 0;
		run_end(&w, &r);
	}
	CU_ASSERT(left_out > 0);
	world_destroy(&w);
}

static void test_what_is_not_needed_goes(void)
{
	struct world w = world_create();
	uint64_t left = 0;

	for (unsigned i = 0; i < 100; i++) {
		struct run r = run_begin(&w, false);

		if (i > 1)
			wait_for_pages(&r.cache, NEEDED * 3 / 4);
		wake_up(&r, i ? 1 : 0);
		for (uint64_t gfn = left = 0; gfn < PAGES; gfn += STEP) {
			uint8_t state = PAGE_ABSENT;

			left += pread(r.cache.map_fd, &state, 1, (off_t)gfn) == 1 &&
				state == PAGE_PRESENT;
		}
		run_end(&w, &r);
	}
	CU_ASSERT(left < NEEDED / 4);
	world_destroy(&w);
}

static void test_list_has_an_end(void)
{
	uint64_t deadline_ns = io_now_ns() + TEST_PATIENCE_MS * 1000000ull, served;
	struct world w = world_create();
	struct run r = run_begin(&w, false);

	CU_ASSERT_EQUAL(vm_do(&r.clone, VM_CHECK, THEN, 1), 0);
	run_end(&w, &r);
	served = host_stats(&w.home, MEMTAP_ALL).served;
	r = run_begin(&w, false);
	while (host_stats(&w.home, MEMTAP_ALL).served < served + LIST_MAX &&
	       io_now_ns() < deadline_ns)
		sched_yield();
	CU_ASSERT_EQUAL(vm_do_some(&r.clone, VM_CHECK, THEN, 0, 16), 0);
	CU_ASSERT(host_stats(&w.home, MEMTAP_ALL).served <= served + LIST_MAX + 16);
	run_end(&w, &r);
	world_destroy(&w);
}

/* A memtap that is started again knows of nothing, and gives what is asked for. */
static void test_list_may_be_lost(void)
{
	struct world w = world_create();
	struct run r = run_begin(&w, false);

	CU_ASSERT_EQUAL(wake_up(&r, 0), NEEDED);
	run_end(&w, &r);
	host_kill(&w.home);
	host_restart(&w.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, MEMTAP_F_AGAIN), 0);
	r = run_begin(&w, false);
	CU_ASSERT_EQUAL(wake_up(&r, 0), NEEDED);
	run_end(&w, &r);
	world_destroy(&w);
}

static const struct test tests[] = {
	{ "pages are there before they are needed", test_pages_are_there_before_they_are_needed },
	{ "clones here find them, too", test_clones_here_find_them_too },
	{ "checkpoints", test_checkpoints },
	{ "the list lives on", test_list_lives_on },
	{ "what is not needed goes", test_what_is_not_needed_goes },
	{ "the list has an end", test_list_has_an_end },
	{ "the list may be lost", test_list_may_be_lost },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("wake", tests, ARRAY_SIZE(tests), argc, argv);
}
