/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones see the exact instant, whatever the parent does meanwhile: here, there, many, holes. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u	/* 16 MB */
#define THEN 1u		/* seeds of contents */
#define NOW (2u | CONTENT_FULL)

/* A parent on `home` with content THEN, a page file `number` for a snapshot. */
static struct test_vm start_parent(struct test_host *home)
{
	struct test_vm parent = vm_parent(home->pages);

	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, home, 0), 0);
	return parent;
}

static void test_remote_clone_sees_the_instant(void)
{
	struct test_host home = host_start(PAGES, 0, NULL), away = host_start(PAGES, 0, NULL);
	struct test_vm parent = start_parent(&home), clone;
	struct test_file store = test_file_create(0, PAGES), cache = test_file_create(0, PAGES);
	struct memtap_stats stats;

	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	clone = vm_clone(&cache);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &away, 0, 7, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 99, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&away, 0, 99, &home, 0), 0);
	vm_start(&parent, VM_FILL, NOW, 4);
	vm_start(&clone, VM_CHECK, THEN, 2);
	CU_ASSERT_EQUAL(vm_wait(&clone), 0);
	CU_ASSERT_EQUAL(vm_wait(&parent), 0);
	CU_ASSERT_EQUAL(vm_do(&parent, VM_CHECK, NOW, 4), 0);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, THEN, 2), 0);
	stats = host_stats(&away, 7);
	CU_ASSERT_EQUAL(stats.pages_fetched, PAGES);
	CU_ASSERT(stats.faults > 0 && stats.fault_ns_median > 0 && stats.fault_ns_p99 > 0);
	CU_ASSERT(stats.bytes_fetched > stats.pages_fetched);
	CU_ASSERT_EQUAL(stats.pages_zero, test_file_count(&cache, PAGE_ZERO));
	stats = host_stats(&home, MEMTAP_ALL);
	CU_ASSERT(stats.served >= PAGES);
	CU_ASSERT(stats.parent_faults > 0);
	CU_ASSERT_EQUAL(stats.parent_copied, PAGES);
	vm_end(&clone);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_file_destroy(&cache);
}

static void test_local_clone_sees_the_instant(void)
{
	struct test_host home = host_start(PAGES, 0, NULL);
	struct test_vm parent = start_parent(&home), clone;
	struct test_file store = test_file_create(0, PAGES);
	struct memtap_stats stats;

	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	clone = vm_clone(&store);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 99, 0), 0);
	vm_start(&parent, VM_FILL, NOW, 4);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, THEN, 4), 0);
	CU_ASSERT_EQUAL(vm_wait(&parent), 0);
	CU_ASSERT_EQUAL(vm_do(&parent, VM_CHECK, NOW, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, THEN, 2), 0);
	/* what the clone writes is its own */
	CU_ASSERT_EQUAL(vm_do(&clone, VM_FILL, 5 | CONTENT_FULL, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_CHECK, 5 | CONTENT_FULL, 2), 0);
	stats = host_stats(&home, 0);
	CU_ASSERT_EQUAL(stats.pages_fetched, 0);
	vm_end(&clone);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
}

#define CLONES 24u
#define HOSTS 3u	/* besides the parent's */

static void test_24_clones_hash_all_memory(void)
{
	struct test_host hosts[1 + HOSTS];
	struct test_file files[1 + HOSTS];
	struct test_vm clones[CLONES], parent;

	for (unsigned i = 0; i <= HOSTS; i++) {
		hosts[i] = host_start(PAGES, i ? 0 : 4096, NULL);
		files[i] = test_file_create(3, PAGES);
		CU_ASSERT_EQUAL(host_file(&hosts[i], &files[i], 0), 0);
	}
	parent = start_parent(&hosts[0]);
	for (unsigned i = 0; i < CLONES; i++) {
		unsigned at = i % (1 + HOSTS);

		clones[i] = vm_clone(&files[at]);
		CU_ASSERT_EQUAL(vm_give_clone(&clones[i], &hosts[at], 3, i, 0), 0);
		vm_start(&clones[i], VM_CHECK, THEN, 1 + i % 3);
	}
	CU_ASSERT_EQUAL(host_arm(&hosts[0], 3, 99, 0), 0);
	vm_start(&parent, VM_FILL, NOW, 4);
	for (unsigned i = 1; i <= HOSTS; i++)
		CU_ASSERT_EQUAL(host_begin(&hosts[i], 3, 99, &hosts[0], 0), 0);
	for (unsigned i = 0; i < CLONES; i++)
		CU_ASSERT_EQUAL(vm_wait(&clones[i]), 0);
	CU_ASSERT_EQUAL(vm_wait(&parent), 0);
	CU_ASSERT_EQUAL(vm_do(&parent, VM_CHECK, NOW, 4), 0);
	for (unsigned i = 1; i <= HOSTS; i++) {
		/* one fetch serves every clone on the host */
		CU_ASSERT_EQUAL(host_stats(&hosts[i], MEMTAP_ALL).pages_fetched, PAGES);
	}
	for (unsigned i = 0; i < CLONES; i++)
		vm_end(&clones[i]);
	vm_end(&parent);
	for (unsigned i = 0; i <= HOSTS; i++) {
		CU_ASSERT_EQUAL(host_stop(&hosts[i]), 0);
		test_file_destroy(&files[i]);
	}
}

static void test_faults_before_begin_wait(void)
{
	struct test_host home = host_start(PAGES, 0, NULL), away = host_start(PAGES, 0, NULL);
	struct test_vm parent = start_parent(&home), clones[2];
	struct test_file store = test_file_create(0, PAGES), cache = test_file_create(1, PAGES);

	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	clones[0] = vm_clone(&store);
	clones[1] = vm_clone(&cache);
	CU_ASSERT_EQUAL(vm_give_clone(&clones[0], &home, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clones[1], &away, 1, 1, 0), 0);
	for (unsigned i = 0; i < 2; i++)
		vm_start(&clones[i], VM_CHECK, THEN, 3);
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_FALSE(vm_is_ready(&clones[i], 100));
	/* the parent can still change: what counts is the instant, not the first fault */
	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, NOW, 2), 0);
	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, THEN | CONTENT_FULL, 2), 0);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 5, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&away, 1, 5, &home, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		CU_ASSERT_NOT_EQUAL(vm_wait(&clones[i]), UINT64_MAX);
		CU_ASSERT_EQUAL(vm_do(&clones[i], VM_CHECK, THEN | CONTENT_FULL, 2), 0);
		vm_end(&clones[i]);
	}
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_file_destroy(&cache);
}

/* Holes stay holes: neither the parent's RAM nor the cache file may grow by being looked at. */
static void test_holes_cost_nothing(void)
{
	struct test_host home = host_start(PAGES, 0, NULL), away = host_start(PAGES, 0, NULL);
	struct test_vm parent = vm_parent(PAGES), clone;
	struct test_file store = test_file_create(0, PAGES), cache = test_file_create(0, PAGES);

	CU_ASSERT_EQUAL(vm_give_parent(&parent, &home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	clone = vm_clone(&cache);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &away, 0, 7, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 99, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&away, 0, 99, &home, 0), 0);
	CU_ASSERT_EQUAL(vm_do(&clone, VM_TOUCH, 0, 1), 0);
	CU_ASSERT_EQUAL(test_file_blocks(parent.ram_fd), 0);
	CU_ASSERT_EQUAL(test_file_blocks(cache.page_fd), 0);
	CU_ASSERT_EQUAL(test_file_blocks(store.page_fd), 0);
	CU_ASSERT_EQUAL(test_file_count(&cache, PAGE_ZERO), PAGES);
	/* written for the first time after the instant: zeros in the snapshot all the same */
	CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, NOW, 2), 0);
	CU_ASSERT_EQUAL(test_file_count(&store, PAGE_ZERO), PAGES);
	CU_ASSERT_EQUAL(test_file_blocks(store.page_fd), 0);
	vm_end(&clone);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_file_destroy(&cache);
}

static void test_clone_ends_while_it_waits(void)
{
	struct test_host home = host_start(PAGES, 0, NULL), away = host_start(PAGES, 0, NULL);
	struct test_vm parent = start_parent(&home), gone, stays;
	struct test_file store = test_file_create(0, PAGES), cache = test_file_create(0, PAGES);

	CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
	gone = vm_clone(&cache);
	stays = vm_clone(&cache);
	CU_ASSERT_EQUAL(vm_give_clone(&gone, &away, 0, 1, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&stays, &away, 0, 2, 0), 0);
	vm_start(&gone, VM_CHECK, THEN, 4);
	vm_start(&stays, VM_CHECK, THEN, 4);
	CU_ASSERT_FALSE(vm_is_ready(&stays, 50));
	vm_end(&gone);
	CU_ASSERT_EQUAL(host_clone_gone(&away, 1), 0);
	CU_ASSERT_EQUAL(host_clone_gone(&away, 1), ENOENT);
	CU_ASSERT_EQUAL(host_arm(&home, 0, 99, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&away, 0, 99, &home, 0), 0);
	CU_ASSERT_EQUAL(vm_wait(&stays), 0);
	vm_end(&stays);
	CU_ASSERT_EQUAL(host_clone_gone(&away, 2), 0);
	CU_ASSERT_EQUAL(host_file_gone(&away, 0), 0);
	CU_ASSERT_EQUAL(host_file_gone(&home, 0), 0);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&away), 0);
	CU_ASSERT_EQUAL(host_stop(&home), 0);
	test_file_destroy(&store);
	test_file_destroy(&cache);
}

/* Who reads in a row seldom waits; who jumps about gets no page that it did not ask for. */
static void test_read_ahead(void)
{
	static const uint64_t steps[] = { 1, 16 };

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct vm_order order = { .op = VM_TOUCH, .threads = 1, .pages = PAGES,
						.step = steps[i] };
		struct test_host home = host_start(PAGES, 0, NULL);
		struct test_host away = host_start(PAGES, 0, NULL);
		struct test_vm parent = start_parent(&home), clone;
		struct test_file store = test_file_create(0, PAGES);
		struct test_file cache = test_file_create(0, PAGES);
		struct memtap_stats stats;

		CU_ASSERT_EQUAL(vm_do(&parent, VM_FILL, NOW, 2), 0);
		CU_ASSERT_EQUAL(host_file(&home, &store, 0), 0);
		CU_ASSERT_EQUAL(host_file(&away, &cache, 0), 0);
		clone = vm_clone(&cache);
		CU_ASSERT_EQUAL(vm_give_clone(&clone, &away, 0, 7, 0), 0);
		CU_ASSERT_EQUAL(host_arm(&home, 0, 99, 0), 0);
		CU_ASSERT_EQUAL(host_begin(&away, 0, 99, &home, 0), 0);
		vm_order(&clone, &order);
		CU_ASSERT_NOT_EQUAL(vm_wait(&clone), UINT64_MAX);
		stats = host_stats(&away, 7);
		printf("(every %u.: %llu faults, %llu pages) ", (unsigned)steps[i],
		       (unsigned long long)stats.faults, (unsigned long long)stats.pages_fetched);
		if (steps[i] == 1)
			CU_ASSERT(stats.faults < PAGES / 4);
		CU_ASSERT_EQUAL(stats.pages_fetched, PAGES / steps[i]);
		vm_end(&clone);
		vm_end(&parent);
		CU_ASSERT_EQUAL(host_stop(&away), 0);
		CU_ASSERT_EQUAL(host_stop(&home), 0);
		test_file_destroy(&store);
		test_file_destroy(&cache);
	}
}

static const struct test tests[] = {
	{ "a remote clone sees the instant", test_remote_clone_sees_the_instant },
	{ "a local clone sees the instant", test_local_clone_sees_the_instant },
	{ "24 clones on 4 hosts check all memory", test_24_clones_hash_all_memory },
	{ "faults before the instant wait for it", test_faults_before_begin_wait },
	{ "holes cost nothing", test_holes_cost_nothing },
	{ "read-ahead", test_read_ahead },
	{ "a clone ends while it waits", test_clone_ends_while_it_waits },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("clones", tests, ARRAY_SIZE(tests), argc, argv);
}
