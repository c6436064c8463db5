/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that were free at an instant: zeros there, cheap everywhere, and nothing to older ones. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u
#define DEAD_FIRST 1001u	/* in the middle of a word, and of a run of zeros */
#define DEAD_COUNT 2000u
#define THEN (1u | CONTENT_FULL)
#define NOW (2u | CONTENT_FULL)

struct world {
	struct test_host home;
	struct test_vm parent;
	struct test_file store;
	int dead;
};

static struct world world_create(uint32_t sweep)
{
	struct world w = { .home = host_start(PAGES, sweep, NULL),
			   .parent = vm_parent(PAGES),
			   .store = test_file_create(0, PAGES),
			   .dead = test_dead_create(PAGES) };

	test_dead_set(w.dead, DEAD_FIRST, DEAD_COUNT);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.store, 0), 0);
	return w;
}

static void world_destroy(struct world *w)
{
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	test_file_destroy(&w->store);
	cleanup_close(&w->dead);
}

static int arm(struct test_host *home, uint32_t file, int dead)
{
	struct memtap_request r = arm_request(file, 1000 + file, 0);

	return host_say(home, &r, &dead, 1, NULL);
}

/* Pages that a clone sees wrongly. */
static uint64_t wrong_pages(struct test_vm *clone)
{
	uint64_t end = DEAD_FIRST + DEAD_COUNT;

	return vm_do_some(clone, VM_ZEROS, 0, DEAD_FIRST, DEAD_COUNT) +
	       vm_do_some(clone, VM_CHECK, THEN, 0, DEAD_FIRST) +
	       vm_do_some(clone, VM_CHECK, THEN, end, PAGES - end);
}

static void test_they_are_zeros_and_cost_nothing(void)
{
	struct world w = world_create(0);
	struct test_host away = host_start(PAGES, 0, NULL);
	struct test_file cache = test_file_create(0, PAGES);
	struct memtap_request begin = begin_request(0, 1000, &w.home, 0);
	struct test_vm here = vm_clone(&w.store), there = vm_clone(&cache);
	struct memtap_stats stats;

	CU_ASSERT_EQUAL(vm_give_clone(&here, &w.home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&there, &away, 0, 1, 0), 0);
	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	CU_ASSERT_EQUAL(test_file_count(&w.store, PAGE_DEAD), DEAD_COUNT);
	CU_ASSERT_EQUAL(host_say(&away, &begin, &w.dead, 1, NULL), 0);
	CU_ASSERT_EQUAL(test_file_count(&cache, PAGE_DEAD), DEAD_COUNT);
	vm_start(&w.parent, VM_FILL, NOW, 3);
	CU_ASSERT_EQUAL(wrong_pages(&here), 0);
	CU_ASSERT_EQUAL(wrong_pages(&there), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, NOW, 2), 0);
	CU_ASSERT_EQUAL(test_file_count(&w.store, PAGE_DEAD), DEAD_COUNT);
	CU_ASSERT_EQUAL(test_file_count(&cache, PAGE_DEAD), DEAD_COUNT);
	stats = host_stats(&away, 1);
	CU_ASSERT_EQUAL(stats.pages_fetched, PAGES - DEAD_COUNT);
	CU_ASSERT_EQUAL(stats.pages_dead, DEAD_COUNT);
	CU_ASSERT_EQUAL(stats.pages_zero, 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, 0).pages_dead, DEAD_COUNT);
	stats = host_stats(&w.home, MEMTAP_ALL);
	CU_ASSERT(stats.served >= PAGES - DEAD_COUNT);	/* more if it was asked twice */
	CU_ASSERT(stats.parent_copied <= PAGES - DEAD_COUNT);
	vm_end(&here);
	vm_end(&there);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	test_file_destroy(&cache);
	world_destroy(&w);
}

/* Faults waited when the dead pages became known; or only the other host knows them. */
static void test_who_waits_and_who_asks(void)
{
	struct world w = world_create(0);
	struct test_host away[2] = { host_start(PAGES, 0, NULL), host_start(PAGES, 0, NULL) };
	struct test_file caches[3];
	struct memtap_request begin = begin_request(0, 1000, &w.home, 0);
	struct memtap_request local = { .op = MEMTAP_BEGIN_LOCAL, .file = 2, .other = 0 };
	struct test_vm clones[3];

	for (unsigned i = 0; i < 3; i++) {
		struct test_host *host = i < 2 ? &away[i] : &w.home;

		caches[i] = test_file_create(i < 2 ? 0 : 2, PAGES);
		clones[i] = vm_clone(&caches[i]);
		CU_ASSERT_EQUAL(host_file(host, &caches[i], 0), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&clones[i], host, caches[i].number, 7, 0), 0);
		vm_start(&clones[i], VM_TOUCH, 0, 8);
		CU_ASSERT_FALSE(vm_is_ready(&clones[i], 20));
	}
	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, NOW, 2), 0);
	CU_ASSERT_EQUAL(host_say(&away[0], &begin, &w.dead, 1, NULL), 0);
	CU_ASSERT_EQUAL(host_say(&away[1], &begin, NULL, 0, NULL), 0);
	CU_ASSERT_EQUAL(host_say(&w.home, &local, &w.dead, 1, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		vm_wait(&clones[i]);
		CU_ASSERT_EQUAL(wrong_pages(&clones[i]), 0);
		CU_ASSERT_EQUAL(test_file_count(&caches[i], i == 1 ? PAGE_ZERO : PAGE_DEAD),
				DEAD_COUNT);
		vm_end(&clones[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(host_stop(&away[i]), 0);
	world_destroy(&w);
	for (unsigned i = 0; i < 3; i++)
		test_file_destroy(&caches[i]);
}

static uint64_t poke_faults(struct world *w)
{
	uint64_t before = host_stats(&w->home, MEMTAP_ALL).parent_faults;

	CU_ASSERT_EQUAL(vm_do(&w->parent, VM_POKE, 9, 1), 0);
	return host_stats(&w->home, MEMTAP_ALL).parent_faults - before;
}

static void test_parent_takes_them_in_runs(void)
{
	struct world w = world_create(0);

	test_dead_set(w.dead, 0, PAGES);
	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	vm_wait_protected(&w.parent, true);
	CU_ASSERT_EQUAL(poke_faults(&w), PAGES / MEMTAP_ZERO_RUN);
	CU_ASSERT_EQUAL(poke_faults(&w), 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, MEMTAP_ALL).parent_copied, 0);
	CU_ASSERT_EQUAL(test_file_blocks(w.store.page_fd), 0);
	world_destroy(&w);
}

static void test_sweep_passes_over_them(void)
{
	struct world w = world_create(1 << 20);

	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	vm_wait_protected(&w.parent, false);
	CU_ASSERT_EQUAL(poke_faults(&w), 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, MEMTAP_ALL).parent_copied, PAGES - DEAD_COUNT);
	CU_ASSERT_EQUAL(test_file_count(&w.store, PAGE_ABSENT), 0);
	world_destroy(&w);
}

static void test_clone_takes_them_in_runs(void)
{
	struct world w = world_create(0);
	struct test_vm clone = vm_clone(&w.store);
	struct memtap_stats stats;

	test_dead_set(w.dead, 0, PAGES);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &w.home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	/* what it has written stays, and ends a run */
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_FILL, NOW, PAGES - 1, 1), 0);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_ZEROS, 0, 0, PAGES - 1), 0);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_CHECK, NOW, PAGES - 1, 1), 0);
	stats = host_stats(&w.home, 0);
	CU_ASSERT_EQUAL(stats.faults, PAGES / MEMTAP_ZERO_RUN + 1);
	CU_ASSERT_EQUAL(stats.pages_dead, PAGES);
	vm_end(&clone);
	world_destroy(&w);
}

/* Who writes gets memory, ahead as far as it goes on in a row. */
static void test_clone_fills_them(void)
{
	struct world w = world_create(0);
	struct test_vm clones[2] = { vm_clone(&w.store), vm_clone(&w.store) };
	struct vm_order jump = { .op = VM_POKE, .threads = 1, .pages = PAGES, .step = 64 };

	test_dead_set(w.dead, 0, PAGES);
	for (uint32_t i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(vm_give_clone(&clones[i], &w.home, 0, i, 0), 0);
	CU_ASSERT_EQUAL(arm(&w.home, 0, w.dead), 0);
	CU_ASSERT_EQUAL(vm_do(&clones[0], VM_POKE, 1, 1), 0);
	/* 8, 8, 16, 32, 64, 128, 128… */
	CU_ASSERT_EQUAL(host_stats(&w.home, 0).faults, 5 + (PAGES - 128) / 128);
	CU_ASSERT_EQUAL(host_stats(&w.home, 0).pages_dead, PAGES);
	CU_ASSERT_EQUAL(vm_do(&clones[0], VM_ZEROS, 0, 1), PAGES);	/* a byte of each */
	vm_order(&clones[1], &jump);
	CU_ASSERT_EQUAL(vm_wait(&clones[1]), 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, 1).faults, PAGES / 64);
	CU_ASSERT_EQUAL(host_stats(&w.home, 1).pages_dead, PAGES / 64 * 8);
	for (uint32_t i = 0; i < 2; i++)
		vm_end(&clones[i]);
	world_destroy(&w);
}

/* ── several instants ── */

static uint64_t check_clone(struct test_host *home, const struct test_file *f, enum vm_op op,
			    uint64_t seed)
{
	struct test_vm clone = vm_clone(f);
	uint64_t wrong;

	CU_ASSERT_EQUAL(vm_give_clone(&clone, home, f->number, 99, 0), 0);
	wrong = vm_do_some(&clone, op, seed, DEAD_FIRST, DEAD_COUNT);
	vm_end(&clone);
	CU_ASSERT_EQUAL(host_clone_gone(home, 99), 0);
	return wrong;
}

/* Alive at one instant, unchanged but free at the next: the older one wants what was there. */
static void older_finds_its_content(bool look_first, bool hand_down)
{
	struct world w = world_create(0);
	struct test_file second = test_file_create(1, PAGES), third = test_file_create(2, PAGES);

	CU_ASSERT_EQUAL(host_arm(&w.home, 0, 1000, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &second, 0), 0);
	CU_ASSERT_EQUAL(arm(&w.home, 1, w.dead), 0);
	if (look_first) {
		CU_ASSERT_EQUAL(check_clone(&w.home, &second, VM_ZEROS, 0), 0);
	}
	/* in use again at the third instant, and nobody has written it yet */
	CU_ASSERT_EQUAL(host_file(&w.home, &third, 0), 0);
	if (hand_down) {
		CU_ASSERT_EQUAL(host_arm(&w.home, 2, 1002, 0), 0);
	}
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, NOW, 2), 0);
	if (hand_down) {
		CU_ASSERT_EQUAL(test_file_count(&third, PAGE_PRESENT), PAGES);
		CU_ASSERT_EQUAL(host_file_gone(&w.home, 2), EINPROGRESS);
	}
	CU_ASSERT_EQUAL(check_clone(&w.home, &second, VM_ZEROS, 0), 0);
	CU_ASSERT_EQUAL(check_clone(&w.home, &w.store, VM_CHECK, THEN), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 1), EINPROGRESS);
	CU_ASSERT_EQUAL(check_clone(&w.home, &w.store, VM_CHECK, THEN), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, NOW, 2), 0);
	world_destroy(&w);
	test_file_destroy(&second);
	test_file_destroy(&third);
}

static void test_older_finds_its_content(void)
{
	for (unsigned i = 0; i < 4; i++)
		older_finds_its_content(i & 1, i & 2);
}

/* ── any history ── */

#define SMALL 48u	/* pages */
#define FILES 6u
#define STEPS 1500u

/* What should be where. */
struct model {
	struct test_host home;
	struct test_vm parent;
	uint64_t now[SMALL];	/* seeds */
	struct {
		struct test_file file;
		bool live;
		uint64_t then[SMALL];	/* seeds; 0: dead */
	} snaps[FILES];
	uint64_t seed;
};

static void model_write(struct model *m)
{
	uint64_t gfn = (uint64_t)rand() % SMALL;

	m->now[gfn] = ++m->seed | CONTENT_FULL;
	CU_ASSERT_EQUAL(vm_do_some(&m->parent, VM_FILL, m->now[gfn], gfn, 1), 0);
}

static void model_freeze(struct model *m, unsigned k)
{
	int dead = test_dead_create(SMALL);

	m->snaps[k].file = test_file_create(k, SMALL);
	memcpy(m->snaps[k].then, m->now, sizeof(m->now));
	for (uint64_t gfn = 0; gfn < SMALL; gfn++) {
		if (rand() % 3)
			continue;
		test_dead_set(dead, gfn, 1);
		m->snaps[k].then[gfn] = 0;
	}
	CU_ASSERT_EQUAL(host_file(&m->home, &m->snaps[k].file, 0), 0);
	CU_ASSERT_EQUAL(arm(&m->home, k, dead), 0);
	m->snaps[k].live = true;
	cleanup_close(&dead);
}

static void model_retire(struct model *m, unsigned k)
{
	host_file_gone(&m->home, k);
	test_file_destroy(&m->snaps[k].file);
	m->snaps[k].live = false;
}

/* Some pages at random, or all. */
static void model_look(struct model *m, unsigned k, bool all)
{
	struct test_vm clone = vm_clone(&m->snaps[k].file);
	uint64_t wrong = 0;

	CU_ASSERT_EQUAL(vm_give_clone(&clone, &m->home, k, 0, 0), 0);
	for (uint64_t gfn = 0; gfn < SMALL; gfn++) {
		uint64_t seed = m->snaps[k].then[gfn];

		if (all || rand() % 4 == 0)
			wrong += vm_do_some(&clone, seed ? VM_CHECK : VM_ZEROS, seed, gfn, 1);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	vm_end(&clone);
	CU_ASSERT_EQUAL(host_clone_gone(&m->home, 0), 0);
}

static void model_step(struct model *m)
{
	unsigned k = (unsigned)rand() % FILES;

	if (rand() % 4)
		model_write(m);
	else if (!m->snaps[k].live)
		model_freeze(m, k);
	else if (rand() % 2)
		model_look(m, k, false);
	else
		model_retire(m, k);
}

static void any_history(uint32_t sweep)
{
	struct model m = { .home = host_start(SMALL, sweep, NULL), .parent = vm_parent(SMALL) };

	srand(1);
	CU_ASSERT_EQUAL(vm_give_parent(&m.parent, &m.home, 0), 0);
	for (uint64_t gfn = 0; gfn < SMALL; gfn++)
		m.now[gfn] = THEN;
	CU_ASSERT_EQUAL(vm_do(&m.parent, VM_FILL, THEN, 1), 0);
	for (unsigned i = 0; i < STEPS; i++)
		model_step(&m);
	for (unsigned k = 0; k < FILES; k++) {
		if (!m.snaps[k].live)
			continue;
		model_look(&m, k, true);
		test_file_destroy(&m.snaps[k].file);
	}
	vm_end(&m.parent);
	CU_ASSERT_EQUAL(host_stop(&m.home), 0);
}

static void test_any_history(void)
{
	any_history(0);
	any_history(1000);
}

static const struct test tests[] = {
	{ "they are zeros and cost nothing", test_they_are_zeros_and_cost_nothing },
	{ "who waits, and who asks", test_who_waits_and_who_asks },
	{ "the parent takes them in runs", test_parent_takes_them_in_runs },
	{ "the sweep passes over them", test_sweep_passes_over_them },
	{ "a clone takes them in runs", test_clone_takes_them_in_runs },
	{ "a clone fills them", test_clone_fills_them },
	{ "an older snapshot finds its content", test_older_finds_its_content },
	{ "any history", test_any_history },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("dead", tests, ARRAY_SIZE(tests), argc, argv);
}
