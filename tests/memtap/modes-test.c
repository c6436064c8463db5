/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One source and several members, as processes: by multicast, in a tree, by unicast.
 *
 * What the protocol does in a large or bad network is shown in tests/mcdist; here it is that memtap
 * has it do so.
 */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/memtap/crowd.h"

#define THEN (1u | CONTENT_FULL)

static struct memtap_stats source_after_all_looked(struct crowd c, const char *fault)
{
	struct memtap_stats stats;

	c = crowd_create(c, fault);
	crowd_look(&c, MEMBERS);
	stats = host_stats(&c.home, MEMTAP_ALL);
	crowd_destroy(&c);
	return stats;
}

static void test_unicast_sends_to_each(void)
{
	struct memtap_stats s =
		source_after_all_looked((struct crowd){ MC_UNICAST, .content = THEN }, NULL);

	CU_ASSERT(s.served >= MEMBERS * CROWD_PAGES);
	CU_ASSERT_EQUAL(s.multicast, 0);
}

static void test_multicast_sends_once(void)
{
	struct memtap_stats s =
		source_after_all_looked((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	CU_ASSERT(s.multicast >= CROWD_PAGES * 3 / 4);
	CU_ASSERT(s.served < CROWD_PAGES * 2);
	CU_ASSERT(s.reports > 0);
	printf("(%llu pages sent, %llu to all, %llu reports) ", (unsigned long long)s.served,
	       (unsigned long long)s.multicast, (unsigned long long)s.reports);
}

static void test_lost_pages_come_to_who_lacks_them(void)
{
	struct memtap_stats s = source_after_all_looked(
		(struct crowd){ MC_MULTICAST, .content = THEN }, "mcdist-drop-reply:60");

	CU_ASSERT(s.served > s.multicast);
}

static void test_tree_sends_to_children(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_TREE, .content = THEN }, NULL);
	struct memtap_stats s;

	crowd_look(&c, MEMBERS);
	s = host_stats(&c.home, MEMTAP_ALL);
	CU_ASSERT(s.served >= CROWD_PAGES);
	CU_ASSERT(s.served < (MEMBERS - 1) * CROWD_PAGES);
	CU_ASSERT(host_stats(&c.away[0], MEMTAP_ALL).relayed >= CROWD_PAGES);
	CU_ASSERT_EQUAL(host_stats(&c.away[MEMBERS - 1], MEMTAP_ALL).relayed, 0);
	crowd_destroy(&c);
}

/* Another memtap for a member that was killed. */
static void restart_member(struct crowd *c, unsigned i)
{
	host_restart(&c->away[i], 0);
	CU_ASSERT_EQUAL(host_file(&c->away[i], &c->cache[i], MEMTAP_F_AGAIN), 0);
	crowd_begin(c, i, MEMTAP_F_AGAIN);
	CU_ASSERT_EQUAL(vm_give_clone(&c->clones[i], &c->away[i], 0, 0, MEMTAP_F_AGAIN), 0);
	host_stats(&c->away[i], MEMTAP_ALL);
}

/* Its children ask the source. Then it is back, and is a relay as before. */
static void test_a_relay_stops(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_TREE, .content = THEN }, NULL);
	struct memtap_stats s;

	host_kill(&c.away[0]);
	crowd_look(&c, 0);
	s = host_stats(&c.home, MEMTAP_ALL);
	CU_ASSERT(s.served >= 2 * CROWD_PAGES);
	restart_member(&c, 0);
	CU_ASSERT_EQUAL(vm_do(&c.clones[0], VM_CHECK, THEN, 2), 0);
	crowd_destroy(&c);
}

/* In each mode the members go on when another memtap serves the snapshot. */
static void source_begins_again(enum mc_mode mode)
{
	struct crowd c = crowd_create((struct crowd){ mode, .content = THEN }, NULL);

	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(vm_do_some(&c.clones[i], VM_CHECK, THEN, 0, CROWD_PAGES / 2), 0);
	host_kill(&c.home);
	for (unsigned i = 0; i < MEMBERS; i++)
		vm_start(&c.clones[i], VM_CHECK, THEN, 2);
	host_restart(&c.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&c.parent, &c.home, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_file(&c.home, &c.store, MEMTAP_F_AGAIN), 0);
	crowd_arm(&c, MEMTAP_F_AGAIN);
	host_stats(&c.home, MEMTAP_ALL);
	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(vm_wait(&c.clones[i]), 0);
	crowd_destroy(&c);
}

static void test_source_begins_again(void)
{
	for (int mode = 0; mode < MC_MODES; mode++)
		source_begins_again((enum mc_mode)mode);
}

static void wait_until_complete(struct test_host *h)
{
	while (!host_stats(h, MEMTAP_ALL).complete)
		usleep(1000);
}

/* All the rest comes by itself; then nobody needs the source any more. */
static void push_completes(enum mc_mode mode)
{
	struct crowd c = crowd_create((struct crowd){ mode, 20000, .content = 3 }, NULL);

	for (unsigned i = 0; i < MEMBERS; i++) {
		wait_until_complete(&c.away[i]);
		CU_ASSERT_EQUAL(test_file_count(&c.cache[i], PAGE_ABSENT), 0);
	}
	CU_ASSERT(host_stats(&c.home, MEMTAP_ALL).pushed > 0);
	host_kill(&c.home);
	crowd_look(&c, MEMBERS);
	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(host_stats(&c.away[i], 0).pages_fetched, 0);
	host_restart(&c.home, 0);
	crowd_destroy(&c);
}

static void test_push_completes(void)
{
	for (int mode = 0; mode < MC_MODES; mode++)
		push_completes((enum mc_mode)mode);
}

static void test_nothing_is_pushed_unless_wanted(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	CU_ASSERT_EQUAL(vm_do_some(&c.clones[0], VM_CHECK, THEN, 0, 1), 0);
	CU_ASSERT_EQUAL(host_stats(&c.home, MEMTAP_ALL).pushed, 0);
	CU_ASSERT_EQUAL(host_stats(&c.away[1], MEMTAP_ALL).complete, 0);
	CU_ASSERT_EQUAL(host_stats(&c.away[1], MEMTAP_ALL).files, 1);
	crowd_destroy(&c);
}

static void test_restart_of_a_member(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	CU_ASSERT_EQUAL(vm_do_some(&c.clones[1], VM_CHECK, THEN, 0, CROWD_PAGES / 2), 0);
	host_kill(&c.away[1]);
	for (unsigned i = 0; i < MEMBERS; i++)
		vm_start(&c.clones[i], VM_CHECK, THEN, 2);
	restart_member(&c, 1);
	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(vm_wait(&c.clones[i]), 0);
	crowd_destroy(&c);
}

/* It is still in the group, by its socket, which has outlived it: it is not sent all of it alone. */
static void test_restart_in_a_group(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	host_kill(&c.away[1]);
	restart_member(&c, 1);
	crowd_look(&c, MEMBERS);
	CU_ASSERT(host_stats(&c.home, MEMTAP_ALL).served < CROWD_PAGES * 3 / 2);
	crowd_destroy(&c);
}

/* It is in the group, but the network keeps from it what is sent there; it alone reads at first. */
static void test_a_deaf_member(void)
{
	struct crowd c = { MC_MULTICAST, .content = THEN, .deaf = 1 };
	const uint64_t first = CROWD_PAGES / 8;
	struct memtap_stats s;

	c = crowd_create(c, NULL);
	CU_ASSERT_EQUAL(vm_do_some(&c.clones[0], VM_CHECK, THEN, 0, first), 0);
	s = host_stats(&c.away[0], MEMTAP_ALL);
	printf("(%llu of %llu pages asked for in vain) ", (unsigned long long)s.retries,
	       (unsigned long long)first);
	/* a few times in vain, with some pages each; not for each page again */
	CU_ASSERT(s.retries < first / 2);
	crowd_look(&c, MEMBERS);
	/* to the group once, and once to the deaf one; the rest was asked for in vain */
	s = host_stats(&c.home, MEMTAP_ALL);
	CU_ASSERT(s.served < 2 * CROWD_PAGES + first);
	CU_ASSERT(s.multicast < CROWD_PAGES + first);
	crowd_destroy(&c);
}

/* ── messages that make no sense ── */

static void test_bad_messages(void)
{
	struct crowd c = { MC_MULTICAST, .content = THEN };
	struct test_file file = test_file_create(9, CROWD_PAGES);
	struct memtap_request good, r;

	c = crowd_create(c, NULL);
	CU_ASSERT_EQUAL(host_file(&c.away[0], &file, 0), 0);
	good = crowd_request(&c, begin_request(9, CROWD_SNAPSHOT + 1, &c.home, 0), 1);
	r = good, r.mode = MC_MODES;
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	r = good, r.node = r.nodes;
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	r = good, r.node = 0;
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	r = good, r.nodes++;
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	r = good, r.compress = 2;
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	r = good, memset(&r.group, 0, sizeof(r.group));
	CU_ASSERT_EQUAL(host_say(&c.away[0], &r, &c.places, 1, NULL), EINVAL);
	CU_ASSERT_EQUAL(host_say(&c.away[0], &good, NULL, 0, NULL), EINVAL);
	CU_ASSERT_EQUAL(host_say(&c.away[0], &good, &c.places, 1, NULL), 0);
	crowd_look(&c, MEMBERS);
	crowd_destroy(&c);
	test_file_destroy(&file);
}

static const struct test tests[] = {
	{ "unicast sends to each", test_unicast_sends_to_each },
	{ "multicast sends once", test_multicast_sends_once },
	{ "lost pages come to who lacks them", test_lost_pages_come_to_who_lacks_them },
	{ "a tree sends to children", test_tree_sends_to_children },
	{ "a relay stops", test_a_relay_stops },
	{ "the source begins again", test_source_begins_again },
	{ "a member begins again", test_restart_of_a_member },
	{ "a member begins again and is in the group", test_restart_in_a_group },
	{ "a deaf member", test_a_deaf_member },
	{ "push completes", test_push_completes },
	{ "nothing is pushed unless it is wanted", test_nothing_is_pushed_unless_wanted },
	{ "bad messages", test_bad_messages },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	crowd_network();
	return run_tests("modes", tests, ARRAY_SIZE(tests), argc, argv);
}
