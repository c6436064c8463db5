/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One source and several members, as processes: by multicast, in a tree, by unicast.
 *
 * What the protocol does in a large or bad network is shown in tests/mcdist; here it is that memtap
 * has it do so.
 */
#include "config.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "proto/mcdist.h"
#include "tests/memtap/harness.h"

#define PAGES 2048u
#define THEN (1u | CONTENT_FULL)
#define SNAPSHOT 5u
#define MEMBERS 4u
#define GROUP "239.77.0.1"
#define GROUP_PORT 7702

struct crowd {
	enum mc_mode mode;
	uint32_t push_pages_per_s;
	uint32_t compress;
	uint64_t content;
	struct test_host home, away[MEMBERS];
	struct test_vm parent, clones[MEMBERS];
	struct test_file store, cache[MEMBERS];
	int places;
};

/* fds[0]: where all are. */
static struct memtap_request with_mode(const struct crowd *c, struct memtap_request r,
				       uint32_t node)
{
	r.mode = c->mode;
	r.node = node;
	r.nodes = MEMBERS + 1;
	r.push_pages_per_s = c->push_pages_per_s;
	r.compress = c->compress;
	if (c->mode == MC_MULTICAST) {
		r.group.addr.sin6_family = AF_INET6;
		r.group.addr.sin6_port = htons(GROUP_PORT);
		inet_pton(AF_INET6, "::ffff:" GROUP, &r.group.addr.sin6_addr);
	}
	return r;
}

static void arm(struct crowd *c, uint32_t flags)
{
	struct memtap_request r = with_mode(c, arm_request(0, SNAPSHOT, flags), 0);

	CU_ASSERT_EQUAL(host_say(&c->home, &r, &c->places, 1, NULL), 0);
}

static void begin(struct crowd *c, unsigned i, uint32_t flags)
{
	struct memtap_request r =
		with_mode(c, begin_request(0, SNAPSHOT, &c->home, flags), i + 1);

	CU_ASSERT_EQUAL(host_say(&c->away[i], &r, &c->places, 1, NULL), 0);
}

static void write_places(struct crowd *c)
{
	struct memtap_source places[MEMBERS + 1] = { 0 };

	places[0].addr = c->home.addr;
	for (unsigned i = 0; i < MEMBERS; i++)
		places[i + 1].addr = c->away[i].addr;
	c->places = memfd_create("places", MFD_CLOEXEC);
	CU_ASSERT_EQUAL(write(c->places, places, sizeof(places)), (ssize_t)sizeof(places));
}

/* A crowd that has begun. `fault`: the source's. */
static struct crowd crowd_create(struct crowd c, const char *fault)
{
	c.home = host_start(PAGES, 0, fault);
	c.parent = vm_parent(PAGES);
	c.store = test_file_create(0, PAGES);
	CU_ASSERT_EQUAL(vm_do(&c.parent, VM_FILL, c.content, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&c.parent, &c.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&c.home, &c.store, 0), 0);
	for (unsigned i = 0; i < MEMBERS; i++) {
		c.away[i] = host_start(PAGES, 0, NULL);
		c.cache[i] = test_file_create(0, PAGES);
		CU_ASSERT_EQUAL(host_file(&c.away[i], &c.cache[i], 0), 0);
		c.clones[i] = vm_clone(&c.cache[i]);
		CU_ASSERT_EQUAL(vm_give_clone(&c.clones[i], &c.away[i], 0, 0, 0), 0);
	}
	write_places(&c);
	arm(&c, 0);
	for (unsigned i = 0; i < MEMBERS; i++)
		begin(&c, i, 0);
	return c;
}

static void crowd_destroy(struct crowd *c)
{
	vm_end(&c->parent);
	/* first of all: they have copies of the hosts' sockets */
	for (unsigned i = 0; i < MEMBERS; i++)
		vm_end(&c->clones[i]);
	for (unsigned i = 0; i < MEMBERS; i++) {
		CU_ASSERT_EQUAL(host_stop(&c->away[i]), 0);
		test_file_destroy(&c->cache[i]);
	}
	CU_ASSERT_EQUAL(host_stop(&c->home), 0);
	test_file_destroy(&c->store);
	cleanup_close(&c->places);
}

/* All clones look at all of their memory at once; but for `but`. */
static void all_look(struct crowd *c, unsigned but)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i != but)
			vm_start(&c->clones[i], VM_CHECK, c->content, 2);
	}
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i != but)
			CU_ASSERT_EQUAL(vm_wait(&c->clones[i]), 0);
	}
}

static struct memtap_stats source_after_all_looked(struct crowd c, const char *fault)
{
	struct memtap_stats stats;

	c = crowd_create(c, fault);
	all_look(&c, MEMBERS);
	stats = host_stats(&c.home, MEMTAP_ALL);
	crowd_destroy(&c);
	return stats;
}

static void test_unicast_sends_to_each(void)
{
	struct memtap_stats s =
		source_after_all_looked((struct crowd){ MC_UNICAST, .content = THEN }, NULL);

	CU_ASSERT(s.served >= MEMBERS * PAGES);
	CU_ASSERT_EQUAL(s.multicast, 0);
}

static void test_multicast_sends_once(void)
{
	struct memtap_stats s =
		source_after_all_looked((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	CU_ASSERT(s.multicast >= PAGES * 3 / 4);
	CU_ASSERT(s.served < PAGES * 2);
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

	all_look(&c, MEMBERS);
	s = host_stats(&c.home, MEMTAP_ALL);
	CU_ASSERT(s.served >= PAGES);
	CU_ASSERT(s.served < 2 * PAGES);
	CU_ASSERT(host_stats(&c.away[0], MEMTAP_ALL).relayed >= MC_TREE_CHILDREN * PAGES);
	CU_ASSERT_EQUAL(host_stats(&c.away[MEMBERS - 1], MEMTAP_ALL).relayed, 0);
	crowd_destroy(&c);
}

/* Its children ask the source. Then it is back, and is a relay as before. */
static void test_a_relay_stops(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_TREE, .content = THEN }, NULL);
	struct memtap_stats s;

	host_kill(&c.away[0]);
	all_look(&c, 0);
	s = host_stats(&c.home, MEMTAP_ALL);
	CU_ASSERT(s.served >= (MEMBERS - 1) * PAGES);
	host_restart(&c.away[0], 0);
	CU_ASSERT_EQUAL(host_file(&c.away[0], &c.cache[0], MEMTAP_F_AGAIN), 0);
	begin(&c, 0, MEMTAP_F_AGAIN);
	CU_ASSERT_EQUAL(vm_give_clone(&c.clones[0], &c.away[0], 0, 0, MEMTAP_F_AGAIN), 0);
	host_stats(&c.away[0], MEMTAP_ALL);
	CU_ASSERT_EQUAL(vm_do(&c.clones[0], VM_CHECK, THEN, 2), 0);
	crowd_destroy(&c);
}

/* In each mode the members go on when another memtap serves the snapshot. */
static void source_begins_again(enum mc_mode mode)
{
	struct crowd c = crowd_create((struct crowd){ mode, .content = THEN }, NULL);

	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(vm_do_some(&c.clones[i], VM_CHECK, THEN, 0, PAGES / 2), 0);
	host_kill(&c.home);
	for (unsigned i = 0; i < MEMBERS; i++)
		vm_start(&c.clones[i], VM_CHECK, THEN, 2);
	host_restart(&c.home, 0);
	CU_ASSERT_EQUAL(vm_give_parent(&c.parent, &c.home, MEMTAP_F_AGAIN), 0);
	CU_ASSERT_EQUAL(host_file(&c.home, &c.store, MEMTAP_F_AGAIN), 0);
	arm(&c, MEMTAP_F_AGAIN);
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
	all_look(&c, MEMBERS);
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

	CU_ASSERT_EQUAL(vm_do_some(&c.clones[1], VM_CHECK, THEN, 0, PAGES / 2), 0);
	host_kill(&c.away[1]);
	for (unsigned i = 0; i < MEMBERS; i++)
		vm_start(&c.clones[i], VM_CHECK, THEN, 2);
	host_restart(&c.away[1], 0);
	CU_ASSERT_EQUAL(host_file(&c.away[1], &c.cache[1], MEMTAP_F_AGAIN), 0);
	begin(&c, 1, MEMTAP_F_AGAIN);
	CU_ASSERT_EQUAL(vm_give_clone(&c.clones[1], &c.away[1], 0, 0, MEMTAP_F_AGAIN), 0);
	host_stats(&c.away[1], MEMTAP_ALL);
	for (unsigned i = 0; i < MEMBERS; i++)
		CU_ASSERT_EQUAL(vm_wait(&c.clones[i]), 0);
	crowd_destroy(&c);
}

/* ── messages that make no sense ── */

static void test_bad_messages(void)
{
	struct crowd c = { MC_MULTICAST, .content = THEN };
	struct test_file file = test_file_create(9, PAGES);
	struct memtap_request good, r;

	c = crowd_create(c, NULL);
	CU_ASSERT_EQUAL(host_file(&c.away[0], &file, 0), 0);
	good = with_mode(&c, begin_request(9, SNAPSHOT + 1, &c.home, 0), 1);
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
	all_look(&c, MEMBERS);
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
	{ "push completes", test_push_completes },
	{ "nothing is pushed unless it is wanted", test_nothing_is_pushed_unless_wanted },
	{ "bad messages", test_bad_messages },
};

/* A network of this program's own, where the loopback carries groups. */
static void own_network(void)
{
	if (unshare(CLONE_NEWNET) < 0 ||
	    system("ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo")) {
		fprintf(stderr, "skipped: no network namespace of one's own\n");
		exit(SKIP);
	}
}

int main(int argc, char **argv)
{
	need_userfaultfd();
	own_network();
	harness_group(GROUP, GROUP_PORT);
	return run_tests("modes", tests, ARRAY_SIZE(tests), argc, argv);
}
