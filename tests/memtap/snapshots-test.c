/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many snapshots of one parent: each keeps its instant, whichever of the others go. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u
#define SNAPSHOTS 8u
#define ROUNDS_MAX 100000u	/* questions asked until something is done */

/* Seeds of contents: 0 is before the first snapshot, k + 1 what is written after snapshot k. */
static uint64_t seed_of(unsigned k)
{
	return 100 + k;
}

struct world {
	struct test_host home;
	struct test_vm parent;
	struct test_file files[SNAPSHOTS];
};

static struct world world_create(uint32_t sweep)
{
	struct world w = { .home = host_start(PAGES, sweep, NULL), .parent = vm_parent(PAGES) };

	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	for (unsigned k = 0; k < SNAPSHOTS; k++)
		w.files[k] = test_file_create(k, PAGES);
	return w;
}

static void world_destroy(struct world *w)
{
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	for (unsigned k = 0; k < SNAPSHOTS; k++)
		test_file_destroy(&w->files[k]);
}

/* Writes the k-th content into the k-th part and a common part of the RAM only. */
static void write_some(struct world *w, unsigned k)
{
	struct vm_order order = { .op = VM_FILL, .threads = 2, .seed = seed_of(k) | CONTENT_FULL,
				  .first = k * PAGES / 16, .pages = PAGES / 8, .step = 1 };

	vm_order(&w->parent, &order);
	CU_ASSERT_EQUAL(vm_wait(&w->parent), 0);
}

static void freeze(struct world *w, unsigned k)
{
	CU_ASSERT_EQUAL(host_file(&w->home, &w->files[k], 0), 0);
	CU_ASSERT_EQUAL(host_arm(&w->home, k, 1000 + k, 0), 0);
}

/* Pages of snapshot `k` that a clone sees wrongly, if each was made after write_some(0…k). */
static uint64_t wrong_pages(struct test_vm *clone, unsigned k)
{
	uint64_t wrong = 0, at = 0;

	for (unsigned i = 0; i <= k + 1; i++) {
		/* part i is the first half of what write_some(i) wrote, and later ones did not */
		uint64_t end = i <= k ? (i + 1) * PAGES / 16 : (k + 2) * PAGES / 16;
		struct vm_order order = { .op = VM_CHECK,
					  .threads = 2,
					  .first = at,
					  .pages = end - at,
					  .seed = seed_of(i <= k ? i : k) | CONTENT_FULL,
					  .step = 1 };

		vm_order(clone, &order);
		wrong += vm_wait(clone);
		at = end;
	}
	return wrong;
}

static uint64_t check_local(struct world *w, unsigned k, uint32_t vm)
{
	struct test_vm clone = vm_clone(&w->files[k]);
	uint64_t wrong;

	CU_ASSERT_EQUAL(vm_give_clone(&clone, &w->home, k, vm, 0), 0);
	wrong = wrong_pages(&clone, k);
	vm_end(&clone);
	CU_ASSERT_EQUAL(host_clone_gone(&w->home, vm), 0);
	return wrong;
}

static void test_every_snapshot_keeps_its_instant(void)
{
	struct world w = world_create(0);

	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		write_some(&w, k);
		freeze(&w, k);
	}
	vm_start(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4);
	for (unsigned k = SNAPSHOTS; k--;)
		CU_ASSERT_EQUAL(check_local(&w, k, k), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	for (unsigned k = 0; k < SNAPSHOTS; k++)
		CU_ASSERT_EQUAL(check_local(&w, k, 50 + k), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, 7 | CONTENT_FULL, 2), 0);
	world_destroy(&w);
}

static void test_every_snapshot_is_served_to_others(void)
{
	struct world w = world_create(0);
	struct test_host away = host_start(PAGES, 0, NULL);
	struct test_file caches[SNAPSHOTS];

	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		write_some(&w, k);
		freeze(&w, k);
	}
	vm_start(&w.parent, VM_FILL, 7 | CONTENT_FULL, 2);
	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		struct test_vm clone;

		caches[k] = test_file_create(k, PAGES);
		clone = vm_clone(&caches[k]);
		CU_ASSERT_EQUAL(host_file(&away, &caches[k], 0), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&clone, &away, k, k, 0), 0);
		CU_ASSERT_EQUAL(host_begin(&away, k, 1000 + k, &w.home, 0), 0);
		CU_ASSERT_EQUAL(wrong_pages(&clone, k), 0);
		vm_end(&clone);
		CU_ASSERT_EQUAL(host_clone_gone(&away, k), 0);
		CU_ASSERT_EQUAL(host_file_gone(&away, k), 0);
		test_file_destroy(&caches[k]);
	}
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	world_destroy(&w);
}

/* Newer snapshots go, the newest first or last: the older ones have what they need. */
static void hand_down(const unsigned *order, unsigned count, bool busy)
{
	struct world w = world_create(0);
	bool gone[SNAPSHOTS] = { false };

	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		write_some(&w, k);
		freeze(&w, k);
	}
	if (busy)
		vm_start(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4);
	for (unsigned i = 0; i < count; i++) {
		unsigned k = order[i];
		int first = host_file_gone(&w.home, k);

		CU_ASSERT_EQUAL(first, k == 0 ? 0 : EINPROGRESS);
		gone[k] = true;
		/* really gone: whatever still needed it would fail */
		test_file_destroy(&w.files[k]);
		w.files[k] = (struct test_file){ .page_fd = -1, .map_fd = -1 };
	}
	if (busy)
		CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 8 | CONTENT_FULL, 4), 0);
	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		if (!gone[k])
			CU_ASSERT_EQUAL(check_local(&w, k, k), 0);
	}
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, 8 | CONTENT_FULL, 2), 0);
	world_destroy(&w);
}

static void test_newest_goes_first(void)
{
	static const unsigned order[] = { 7, 6, 5, 3 };

	hand_down(order, ARRAY_SIZE(order), false);
	hand_down(order, ARRAY_SIZE(order), true);
}

static void test_newest_goes_last(void)
{
	static const unsigned order[] = { 3, 5, 6, 7 };

	hand_down(order, ARRAY_SIZE(order), false);
	hand_down(order, ARRAY_SIZE(order), true);
}

static void test_oldest_goes_at_once(void)
{
	static const unsigned order[] = { 0 };

	hand_down(order, ARRAY_SIZE(order), false);
}

/* Several hand down at once, then the one that they count on goes, too. */
static void test_heir_goes_while_it_inherits(void)
{
	struct world w = world_create(0);
	struct memtap_request gone = { .op = MEMTAP_FILE_GONE };

	for (unsigned k = 0; k < SNAPSHOTS; k++) {
		write_some(&w, k);
		freeze(&w, k);
	}
	vm_start(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4);
	for (unsigned k = SNAPSHOTS - 1; k > 1; k--) {
		gone.file = k;
		CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), EINPROGRESS);
	}
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	gone.file = 1;
	CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), EINPROGRESS);
	CU_ASSERT_EQUAL(check_local(&w, 0, 1), 0);
	for (unsigned k = 1; k < SNAPSHOTS; k++)
		host_file_gone(&w.home, k);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 8 | CONTENT_FULL, 4), 0);
	CU_ASSERT_EQUAL(check_local(&w, 0, 2), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 0), 0);
	world_destroy(&w);
}

static void test_checkpoint_is_used_twice(void)
{
	struct world w = world_create(0);
	struct test_file own[2] = { test_file_create(20, PAGES), test_file_create(21, PAGES) };
	struct test_vm clones[2];
	struct memtap_request gone = { .op = MEMTAP_FILE_GONE, .file = 0 };

	write_some(&w, 0);
	freeze(&w, 0);
	for (unsigned i = 0; i < 2; i++) {
		clones[i] = vm_clone(&own[i]);
		CU_ASSERT_EQUAL(host_file(&w.home, &own[i], 0), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&clones[i], &w.home, 20 + i, i, 0), 0);
	}
	vm_start(&w.parent, VM_FILL, 7 | CONTENT_FULL, 2);
	for (unsigned i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(host_begin_local(&w.home, 20 + i, 0, 0), 0);
		CU_ASSERT_EQUAL(wrong_pages(&clones[i], 0), 0);
	}
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), EINPROGRESS);
	for (unsigned i = 0; i < 2; i++) {
		gone.file = 20 + i;
		CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), EINPROGRESS);
		vm_end(&clones[i]);
		CU_ASSERT_EQUAL(host_clone_gone(&w.home, i), 0);
		CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), 0);
		test_file_destroy(&own[i]);
	}
	gone.file = 0;
	CU_ASSERT_EQUAL(host_say(&w.home, &gone, NULL, 0, NULL), 0);
	world_destroy(&w);
}

/* Two tickets of one checkpoint on the same other host: two files, one snapshot on the wire. */
static void test_two_files_fetch_one_snapshot(void)
{
	struct world w = world_create(0);
	struct test_host away = host_start(PAGES, 0, NULL);
	struct test_file caches[2] = { test_file_create(0, PAGES), test_file_create(1, PAGES) };
	struct test_vm clones[2];

	write_some(&w, 0);
	freeze(&w, 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct vm_order order = { .op = VM_CHECK,
					  .threads = 2,
					  .pages = PAGES / 8,
					  .step = 1,
					  .seed = seed_of(0) | CONTENT_FULL };

		clones[i] = vm_clone(&caches[i]);
		CU_ASSERT_EQUAL(host_file(&away, &caches[i], 0), 0);
		CU_ASSERT_EQUAL(vm_give_clone(&clones[i], &away, i, i, 0), 0);
		CU_ASSERT_EQUAL(host_begin(&away, i, 1000, &w.home, 0), 0);
		vm_order(&clones[i], &order);
	}
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(vm_wait(&clones[i]), 0);
		vm_end(&clones[i]);
		CU_ASSERT_EQUAL(host_clone_gone(&away, i), 0);
		CU_ASSERT_EQUAL(host_file_gone(&away, i), 0);
		test_file_destroy(&caches[i]);
	}
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	world_destroy(&w);
}

static void test_last_snapshot_lifts_protection(void)
{
	struct world w = world_create(0);
	uint64_t faults;

	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 6 | CONTENT_FULL, 2), 0);
	freeze(&w, 0);
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 0), 0);
	vm_wait_protected(&w.parent, false);
	faults = host_stats(&w.home, MEMTAP_ALL).parent_faults;
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4), 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, MEMTAP_ALL).parent_faults, faults);
	world_destroy(&w);
}

/* A page file that is made announces a snapshot: the parent's memory is protected while it runs. */
static void test_protection_begins_before_the_snapshot(void)
{
	struct world w = world_create(0);

	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 6 | CONTENT_FULL, 2), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.files[0], 0), 0);
	vm_wait_protected(&w.parent, true);
	/* no snapshot yet: what it writes is let through, and not kept */
	write_some(&w, 0);
	CU_ASSERT(host_stats(&w.home, MEMTAP_ALL).parent_faults > 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, MEMTAP_ALL).parent_copied, 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 0, 1000, 0), 0);
	vm_wait_protected(&w.parent, true);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4), 0);
	CU_ASSERT_EQUAL(test_file_count(&w.files[0], PAGE_PRESENT), PAGES);
	/* announced, and given up */
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.files[1], 0), 0);
	vm_wait_protected(&w.parent, true);
	CU_ASSERT_EQUAL(host_file_gone(&w.home, 1), 0);
	vm_wait_protected(&w.parent, false);
	world_destroy(&w);
}

static void test_sweep_ends_the_cost_of_writes(void)
{
	struct world w = world_create(1 << 20);
	struct memtap_stats stats = { 0 };

	write_some(&w, 0);
	freeze(&w, 0);
	for (unsigned i = 0; stats.parent_copied < PAGES && i < ROUNDS_MAX; i++)
		stats = host_stats(&w.home, MEMTAP_ALL);
	CU_ASSERT_EQUAL(stats.parent_copied, PAGES);
	CU_ASSERT_EQUAL(test_file_count(&w.files[0], PAGE_ABSENT), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, 7 | CONTENT_FULL, 4), 0);
	CU_ASSERT_EQUAL(host_stats(&w.home, MEMTAP_ALL).parent_faults, stats.parent_faults);
	CU_ASSERT_EQUAL(check_local(&w, 0, 1), 0);
	world_destroy(&w);
}

/* A clone after a clone after a clone, each gone before the one after the next. */
static void test_twenty_clones_in_a_row(void)
{
	struct world w = world_create(20000);

	for (unsigned i = 0; i < 20; i++) {
		unsigned k = i % 2;

		if (i >= 2) {
			CU_ASSERT_EQUAL(host_file_gone(&w.home, k), 0);
			test_file_destroy(&w.files[k]);
			w.files[k] = test_file_create(k, PAGES);
		}
		CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, i, 3), 0);
		freeze(&w, k);
		vm_start(&w.parent, VM_FILL, 1000, 2);
		for (unsigned j = 0; j < 2 && j <= i; j++) {
			struct test_vm clone = vm_clone(&w.files[(i - j) % 2]);

			CU_ASSERT_EQUAL(vm_give_clone(&clone, &w.home, (i - j) % 2, 1, 0), 0);
			CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, i - j, 2), 0);
			vm_end(&clone);
			CU_ASSERT_EQUAL(host_clone_gone(&w.home, 1), 0);
		}
		CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	}
	world_destroy(&w);
}

static const struct test tests[] = {
	{ "every snapshot keeps its instant", test_every_snapshot_keeps_its_instant },
	{ "every snapshot is served to others", test_every_snapshot_is_served_to_others },
	{ "hand-down: the newest goes first", test_newest_goes_first },
	{ "hand-down: the newest goes last", test_newest_goes_last },
	{ "the oldest goes at once", test_oldest_goes_at_once },
	{ "an heir goes while it inherits", test_heir_goes_while_it_inherits },
	{ "a checkpoint is used twice", test_checkpoint_is_used_twice },
	{ "two files fetch one snapshot", test_two_files_fetch_one_snapshot },
	{ "the last snapshot lifts protection", test_last_snapshot_lifts_protection },
	{ "protection begins before the snapshot", test_protection_begins_before_the_snapshot },
	{ "the sweep ends the cost of writes", test_sweep_ends_the_cost_of_writes },
	{ "twenty clones in a row", test_twenty_clones_in_a_row },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("snapshots", tests, ARRAY_SIZE(tests), argc, argv);
}
