/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sf-memtap is killed, anywhere: clones wait, and never see a wrong page. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "tests/memtap/harness.h"

#define PAGES 8192u
#define THEN 1u
#define LATER (2u | CONTENT_FULL)
#define NOW (3u | CONTENT_FULL)
#define ROUNDS_MAX 1000000u

/*
 * A parent with two snapshots (THEN and LATER), a clone of each here, and a clone of THEN
 * elsewhere.
 */
struct world {
	struct test_host home, away;
	struct test_vm parent;
	struct test_file stores[2], cache;
	struct test_vm clones[2], remote;
};

static void tell_home(struct world *w, uint32_t flags)
{
	static const uint64_t seeds[] = { THEN, LATER };

	CU_ASSERT_EQUAL(vm_give_parent(&w->parent, &w->home, flags), 0);
	for (uint32_t i = 0; i < 2; i++) {
		if (!flags)
			CU_ASSERT_EQUAL(vm_do(&w->parent, VM_FILL, seeds[i], 2), 0);
		CU_ASSERT_EQUAL(host_file(&w->home, &w->stores[i], flags), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&w->clones[i], &w->home, i, i, flags), 0);
		CU_ASSERT_EQUAL(host_arm(&w->home, i, 40 + i, flags), 0);
	}
}

static void tell_away(struct world *w, uint32_t flags)
{
	CU_ASSERT_EQUAL(host_file(&w->away, &w->cache, flags), 0);
	CU_ASSERT_EQUAL(host_begin(&w->away, 5, 40, &w->home, flags), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w->remote, &w->away, 5, 5, flags), 0);
}

static struct world world_create(const char *home_fault, const char *away_fault)
{
	struct world w = { .home = host_start(PAGES, 0, home_fault),
			   .away = host_start(PAGES, 0, away_fault),
			   .parent = vm_parent(PAGES),
			   .cache = test_file_create(5, PAGES) };

	for (uint32_t i = 0; i < 2; i++) {
		w.stores[i] = test_file_create(i, PAGES);
		w.clones[i] = vm_clone(&w.stores[i]);
	}
	w.remote = vm_clone(&w.cache);
	return w;
}

static void start_all(struct world *w)
{
	vm_start(&w->parent, VM_FILL, NOW, 4);
	vm_start(&w->clones[0], VM_CHECK, THEN, 2);
	vm_start(&w->clones[1], VM_CHECK, LATER, 2);
	vm_start(&w->remote, VM_CHECK, THEN, 2);
}

static void check_all(struct world *w)
{
	CU_ASSERT_EQUAL(vm_wait(&w->clones[0]), 0);
	CU_ASSERT_EQUAL(vm_wait(&w->clones[1]), 0);
	CU_ASSERT_EQUAL(vm_wait(&w->remote), 0);
	CU_ASSERT_EQUAL(vm_wait(&w->parent), 0);
	CU_ASSERT_EQUAL(vm_do(&w->parent, VM_CHECK, NOW, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&w->clones[0], VM_CHECK, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&w->clones[1], VM_CHECK, LATER, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&w->remote, VM_CHECK, THEN, 2), 0);
}

static void world_destroy(struct world *w)
{
	vm_end(&w->remote);
	vm_end(&w->clones[0]);
	vm_end(&w->clones[1]);
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->away), 0);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	test_file_destroy(&w->cache);
	test_file_destroy(&w->stores[0]);
	test_file_destroy(&w->stores[1]);
}

/* Waits until a page file has got further, so that a kill comes in the middle. */
static void wait_for_pages(const struct test_file *f, uint64_t more)
{
	uint64_t until = f->pages - test_file_count(f, PAGE_ABSENT) + more;

	for (unsigned i = 0; i < ROUNDS_MAX; i++) {
		if (f->pages - test_file_count(f, PAGE_ABSENT) >=
		    (until < f->pages ? until : f->pages))
			return;
	}
	CU_FAIL("nothing goes on");
}

static void restart_home(struct world *w)
{
	host_restart(&w->home, 0);
	tell_home(w, MEMTAP_F_AGAIN);
	host_stats(&w->home, MEMTAP_ALL);
}

static void restart_away(struct world *w)
{
	host_restart(&w->away, 0);
	tell_away(w, MEMTAP_F_AGAIN);
	host_stats(&w->away, MEMTAP_ALL);
}

static void test_both_are_killed_again_and_again(void)
{
	struct world w = world_create(NULL, NULL);

	tell_home(&w, 0);
	tell_away(&w, 0);
	start_all(&w);
	for (unsigned i = 0; i < 6; i++) {
		wait_for_pages(i % 2 ? &w.cache : &w.stores[0], 300);
		if (i % 3 != 1)
			host_kill(&w.home);
		if (i % 3 != 0)
			host_kill(&w.away);
		if (!w.home.pid)
			restart_home(&w);
		if (!w.away.pid)
			restart_away(&w);
	}
	check_all(&w);
	world_destroy(&w);
}

static void test_server_is_away_for_a_while(void)
{
	struct world w = world_create(NULL, NULL);

	tell_home(&w, 0);
	host_kill(&w.home);
	tell_away(&w, 0);
	start_all(&w);
	CU_ASSERT_FALSE(vm_is_ready(&w.remote, 150));
	CU_ASSERT_FALSE(vm_is_ready(&w.clones[0], 0));
	CU_ASSERT_FALSE(vm_is_ready(&w.parent, 0));
	restart_home(&w);
	check_all(&w);
	CU_ASSERT(host_stats(&w.away, MEMTAP_ALL).retries > 0);
	world_destroy(&w);
}

/* Dies by itself at the worst moment, of its own fault point. */
static void die_and_go_on(const char *home_fault, const char *away_fault)
{
	struct world w = world_create(home_fault, away_fault);

	tell_home(&w, 0);
	tell_away(&w, 0);
	start_all(&w);
	if (home_fault) {
		CU_ASSERT(WIFSIGNALED(host_wait(&w.home)));
		restart_home(&w);
	}
	if (away_fault) {
		CU_ASSERT(WIFSIGNALED(host_wait(&w.away)));
		restart_away(&w);
	}
	check_all(&w);
	world_destroy(&w);
}

static void test_dies_between_page_and_map(void)
{
	die_and_go_on(NULL, "snapshot-die-after-insert");
}

static void test_dies_between_copy_and_unprotect(void)
{
	struct world w = world_create("snapshot-die-before-unprotect", NULL);

	/* the second content is written under protection, so it dies there */
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[0], 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w.clones[0], &w.home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 0, 40, 0), 0);
	vm_start(&w.parent, VM_FILL, LATER, 4);
	CU_ASSERT(WIFSIGNALED(host_wait(&w.home)));
	CU_ASSERT_FALSE(vm_is_ready(&w.parent, 50));
	host_restart(&w.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[0], MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w.clones[0], &w.home, 0, 0, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 0, 40, MEMTAP_F_AGAIN), 0);
	/* not all has been said yet, for all it knows: nobody goes on */
	vm_start(&w.clones[0], VM_CHECK, THEN, 2);
	CU_ASSERT_FALSE(vm_is_ready(&w.parent, 50));
	CU_ASSERT_FALSE(vm_is_ready(&w.clones[0], 0));
	CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[1], 0), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.clones[0]), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 1, 41, MEMTAP_F_AGAIN), EINVAL);
	CU_ASSERT_EQUAL(host_arm(&w.home, 1, 41, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w.clones[1], &w.home, 1, 1, 0), 0);
	tell_away(&w, 0);
	start_all(&w);
	check_all(&w);
	world_destroy(&w);
}

/* Said again, but not to the end: what a newer snapshot has must not be read from RAM. */
static void test_nothing_is_read_before_all_is_said(void)
{
	struct world w = world_create(NULL, NULL);

	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[i], 0), 0);
		CU_ASSERT_EQUAL(host_arm(&w.home, i, 40 + i, 0), 0);
	}
	/* only the second keeps it */
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, NOW, 4), 0);
	host_kill(&w.home);
	host_restart(&w.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[0], MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w.clones[0], &w.home, 0, 0, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 0, 40, MEMTAP_F_AGAIN), 0);
	tell_away(&w, 0);
	vm_start(&w.clones[0], VM_CHECK, THEN, 2);
	vm_start(&w.remote, VM_CHECK, THEN, 2);
	CU_ASSERT_FALSE(vm_is_ready(&w.clones[0], 100));
	CU_ASSERT_FALSE(vm_is_ready(&w.remote, 100));
	CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[1], MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 1, 41, MEMTAP_F_AGAIN), 0);
	host_stats(&w.home, MEMTAP_ALL);
	CU_ASSERT_EQUAL(vm_wait(&w.clones[0]), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.remote), 0);
	world_destroy(&w);
}

/* The newer snapshot was being handed down. */
static void test_dies_while_handing_down(void)
{
	struct world w = world_create(NULL, NULL);
	struct memtap_request gone = { .op = MEMTAP_FILE_GONE, .file = 1 };
	uint64_t absent;

	tell_home(&w, 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, NOW, 4), 0);
	vm_end(&w.clones[1]);
	CU_ASSERT_EQUAL(host_clone_gone(&w.home, 1), 0);
	absent = test_file_count(&w.stores[0], PAGE_ABSENT);
	CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), EINPROGRESS);
	host_kill(&w.home);
	CU_ASSERT(absent >= test_file_count(&w.stores[0], PAGE_ABSENT));
	host_restart(&w.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, MEMTAP_F_AGAIN), 0);
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(host_file(&w.home, &w.stores[i], MEMTAP_F_AGAIN), 0);
		CU_ASSERT_EQUAL(host_arm(&w.home, i, 40 + i, MEMTAP_F_AGAIN), 0);
	}
	CU_ASSERT_EQUAL(vm_give_clone(&w.clones[0], &w.home, 0, 0, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 1), EINPROGRESS);
	CU_ASSERT_EQUAL(vm_do(&w.clones[0], VM_CHECK, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, NOW, 2), 0);
	w.clones[1] = vm_clone(&w.stores[1]);
	world_destroy(&w);
}

#define DEAD_FIRST 100u
#define DEAD_COUNT 3000u
#define WINDOW 5000u
#define WINDOW_PAGES 4u
#define FREED 6000u
#define FREED_COUNT 100u

/* The clone waits for what it has freed, and for its letter, while the memtap is started again. */
static void test_dead_pages_and_windows_stay(void)
{
	static const struct vm_order orders[] = {
		{ .op = VM_ZEROS, .threads = 2, .first = FREED, .pages = FREED_COUNT, .step = 1 },
		{ .op = VM_ZEROS, .threads = 1, .first = WINDOW + 2, .pages = 1, .step = 1 },
		{ .op = VM_TOUCH, .threads = 1, .first = WINDOW, .pages = 1, .step = 1 },
		{ .op = VM_ZEROS, .threads = 2, .first = DEAD_FIRST, .pages = DEAD_COUNT,
		  .step = 1 },
	};
	struct test_host home = host_start(PAGES, 0, NULL);
	struct test_vm parent = vm_parent(PAGES), clone;
	struct test_file store = test_file_create(0, PAGES);
	struct test_window window = test_window_create(WINDOW, WINDOW_PAGES, 1);
	struct memtap_request arm = arm_request(0, 40, 0);
	int dead = test_dead_create(PAGES);
	uint8_t letter[MEMTAP_PAGE_BYTES];

	clone = vm_clone_with(&store, &window);
	/* a hole in its bitmap */
	CU_ASSERT_EQUAL(fallocate(window.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  2 * MEMTAP_PAGE_BYTES, MEMTAP_PAGE_BYTES), 0);
	test_dead_set(dead, DEAD_FIRST, DEAD_COUNT);
	test_window_free(&window, FREED, FREED_COUNT);
	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, LATER, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_say(&home, &arm, &dead, 1, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		host_kill(&home);
		vm_order(&clone, &orders[i]);
		CU_ASSERT_FALSE(vm_is_ready(&clone, 20));
		host_restart(&home, 0);
		CU_ASSERT_EQUAL(vm_give_parent(&parent, &home, MEMTAP_F_AGAIN), 0);
		CU_ASSERT_EQUAL(host_file(&home, &store, MEMTAP_F_AGAIN), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&clone, &home, 0, 0, MEMTAP_F_AGAIN), 0);
		/* the map has the dead pages already */
		CU_ASSERT_EQUAL(host_arm(&home, 0, 40, MEMTAP_F_AGAIN), 0);
		host_stats(&home, MEMTAP_ALL);
		CU_ASSERT_NOT_EQUAL(vm_wait(&clone), UINT64_MAX);
	}
	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, NOW, 2), 0);
	CU_ASSERT_TRUE_FATAL(test_window_letter(&window, letter));
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		vm_order(&clone, &orders[i]);
		CU_ASSERT_EQUAL(vm_wait(&clone), i == 2 ? letter[0] : 0);
	}
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_CHECK, LATER, 0, DEAD_FIRST), 0);
	vm_end(&clone);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_window_destroy(&window);
	cleanup_close(&dead);
}

static const struct test tests[] = {
	{ "both are killed again and again", test_both_are_killed_again_and_again },
	{ "the server is away for a while", test_server_is_away_for_a_while },
	{ "it dies between page and map", test_dies_between_page_and_map },
	{ "it dies between copy and unprotect", test_dies_between_copy_and_unprotect },
	{ "nothing is read before all is said", test_nothing_is_read_before_all_is_said },
	{ "it dies while handing down", test_dies_while_handing_down },
	{ "dead pages and windows stay", test_dead_pages_and_windows_stay },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("restart", tests, ARRAY_SIZE(tests), argc, argv);
}
