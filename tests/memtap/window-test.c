/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A clone's window: its letter is given when it is looked at, what it freed is zeros. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "proto/kmod.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u
#define THEN (1u | CONTENT_FULL)
#define NOW (2u | CONTENT_FULL)
#define WINDOW 2000u		/* where it is, */
#define WINDOW_PAGES 5u		/* how long */

struct world {
	struct test_host home;
	struct test_vm parent, clones[2];
	struct test_file store;
	struct test_window windows[2];
};

/* Not armed yet. */
static struct world *begin(void)
{
	static struct world w;

	w = (struct world){ .home = host_start(PAGES, 0, NULL),
			    .parent = vm_parent(PAGES),
			    .store = test_file_create(0, PAGES) };
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.store, 0), 0);
	for (uint32_t i = 0; i < 2; i++) {
		w.windows[i] = test_window_create(WINDOW, WINDOW_PAGES, 10 + i);
		w.clones[i] = vm_clone_with(&w.store, &w.windows[i]);
		CU_ASSERT_EQUAL(vm_give_clone(&w.clones[i], &w.home, 0, i, 0), 0);
	}
	return &w;
}

static void end(struct world *w)
{
	for (uint32_t i = 0; i < 2; i++) {
		vm_end(&w->clones[i]);
		CU_ASSERT_EQUAL(host_clone_gone(&w->home, i), 0);
		test_window_destroy(&w->windows[i]);
	}
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	test_file_destroy(&w->store);
}

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void test_letter_comes_when_it_is_looked_at(void)
{
	const size_t time_at = offsetof(struct sfk_window, letter.realtime_ns);
	uint8_t letter[MEMTAP_PAGE_BYTES], image[MEMTAP_PAGE_BYTES];
	struct world *w = begin();
	uint64_t before, then;

	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_FALSE(test_window_letter(&w->windows[i], letter));
		before = realtime_ns();
		/* the source is of no concern: it has none yet */
		vm_do_some(&w->clones[i], VM_TOUCH, 0, WINDOW, WINDOW_PAGES);
		CU_ASSERT_TRUE_FATAL(test_window_letter(&w->windows[i], letter));
		memcpy(&then, letter + time_at, sizeof(then));
		CU_ASSERT(then >= before && then <= realtime_ns());
		content_page((10 + i) | CONTENT_FULL, 0, image);
		memcpy(image + time_at, &then, sizeof(then));
		CU_ASSERT_EQUAL(memcmp(letter, image, sizeof(image)), 0);
		CU_ASSERT_EQUAL(host_stats(&w->home, i).faults, 1);
	}
	/* the clone writes in it: it is its own, and shared */
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_FILL, NOW, WINDOW, 1), 0);
	CU_ASSERT_TRUE(test_window_letter(&w->windows[0], letter));
	content_page(NOW, WINDOW, image);
	CU_ASSERT_EQUAL(memcmp(letter, image, sizeof(image)), 0);
	end(w);
}

static void test_freed_pages_are_zeros_to_who_freed_them(void)
{
	struct world *w = begin();
	struct memtap_stats stats;

	test_window_free(&w->windows[0], 1000, 1000);
	/* up to the window; no source yet */
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_ZEROS, 0, 1000, 1000), 0);
	stats = host_stats(&w->home, 0);
	CU_ASSERT_EQUAL(stats.pages_dead, 1000);
	CU_ASSERT_EQUAL(stats.faults, 2);
	CU_ASSERT_EQUAL(host_arm(&w->home, 0, 1, 0), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[1], VM_CHECK, THEN, 1000, 1000), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_CHECK, THEN, 0, 1000), 0);
	/* what the file has by now is no fault, and not taken away */
	test_window_free(&w->windows[0], 0, 1000);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_CHECK, THEN, 0, 1000), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_ZEROS, 0, 1000, 1000), 0);
	/* what it has written since is its own, and ends a run */
	test_window_free(&w->windows[0], 2500, 1000);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_FILL, NOW, 2600, 10), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_ZEROS, 0, 2500, 100), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_ZEROS, 0, 2610, 890), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_CHECK, NOW, 2600, 10), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_CHECK, THEN, 3500, PAGES - 3500), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[1], VM_CHECK, THEN, 2500, PAGES - 2500), 0);
	end(w);
}

/* A fault waits, the page is freed meanwhile: there is nothing to wait for. */
static void test_freed_while_it_waits(void)
{
	struct test_host away = host_start(PAGES, 0, NULL);
	struct test_file cache = test_file_create(0, PAGES);
	struct world *w = begin();
	struct test_window window = test_window_create(WINDOW, WINDOW_PAGES, 1);
	struct test_vm clone = vm_clone_with(&cache, &window);
	struct vm_order order = {
		.op = VM_ZEROS, .threads = 4, .first = 64, .pages = 4, .step = 1
	};

	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &away, 0, 5, 0), 0);
	vm_order(&clone, &order);
	CU_ASSERT_FALSE(vm_is_ready(&clone, 50));
	test_window_free(&window, 64, 4);
	/* its source does not answer */
	CU_ASSERT_EQUAL(host_begin(&away, 0, 1, &w->home, 0), 0);
	CU_ASSERT_EQUAL(vm_wait(&clone), 0);
	CU_ASSERT_EQUAL(test_file_count(&cache, PAGE_ABSENT), PAGES);
	vm_end(&clone);
	CU_ASSERT_EQUAL(host_clone_gone(&away, 5), 0);
	end(w);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	test_window_destroy(&window);
	test_file_destroy(&cache);
}

/* Bits are arbitrary: they harm the clone that sets them, and let nobody hang. */
static void test_any_bits(void)
{
	struct world *w = begin();

	memset(w->windows[0].map + MEMTAP_PAGE_BYTES, 0xff,
	       (WINDOW_PAGES - 1) * MEMTAP_PAGE_BYTES);
	CU_ASSERT_EQUAL(host_arm(&w->home, 0, 1, 0), 0);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_ZEROS, 0, 0, WINDOW), 0);
	/* backwards, over the window's end and its beginning */
	for (uint64_t gfn = PAGES; gfn-- > WINDOW + WINDOW_PAGES;)
		CU_ASSERT_EQUAL(vm_do_some(&w->clones[0], VM_TOUCH, 0, gfn, 1), 0);
	vm_do_some(&w->clones[0], VM_TOUCH, 0, WINDOW, WINDOW_PAGES);
	CU_ASSERT_EQUAL(test_file_count(&w->store, PAGE_ABSENT), PAGES);
	CU_ASSERT_EQUAL(vm_do_some(&w->clones[1], VM_CHECK, THEN, 0, WINDOW), 0);
	end(w);
}

/* Guest page numbers have a gap between low and high memory, the file has none. */
static void test_high_memory(void)
{
	const uint64_t pages = SFK_LOW_GFNS + 512, bits = SFK_HIGH_GFN + 512;
	const uint64_t window_pages = 2 + bits / 8 / MEMTAP_PAGE_BYTES;
	struct test_host home = host_start(pages, 0, NULL);
	struct test_vm parent = vm_parent(pages), clone;
	struct test_file store = test_file_create(0, pages);
	struct test_window window = test_window_create(WINDOW, window_pages, 1);

	clone = vm_clone_with(&store, &window);
	CU_ASSERT_EQUAL(vm_do_some(&parent, VM_FILL, THEN, SFK_LOW_GFNS - 16, 32), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 1, 0), 0);
	test_window_free(&window, SFK_LOW_GFNS - 8, 16);
	CU_ASSERT_EQUAL(window.map[MEMTAP_PAGE_BYTES + SFK_HIGH_GFN / 8], 0xff);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_CHECK, THEN, SFK_LOW_GFNS - 16, 8), 0);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_ZEROS, 0, SFK_LOW_GFNS - 8, 16), 0);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_CHECK, THEN, SFK_LOW_GFNS + 8, 8), 0);
	vm_end(&clone);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_window_destroy(&window);
}

static const struct test tests[] = {
	{ "the letter comes when it is looked at", test_letter_comes_when_it_is_looked_at },
	{ "freed pages are zeros", test_freed_pages_are_zeros_to_who_freed_them },
	{ "freed while it waits", test_freed_while_it_waits },
	{ "any bits", test_any_bits },
	{ "high memory", test_high_memory },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("window", tests, ARRAY_SIZE(tests), argc, argv);
}
