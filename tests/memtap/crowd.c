/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Setting a crowd up, and taking it down. */
#include "config.h"

#include "tests/memtap/crowd.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <linux/filter.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"

void crowd_network(void)
{
	if (unshare(CLONE_NEWNET) < 0 ||
	    system("ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo")) {
		fprintf(stderr, "skipped: no network namespace of one's own\n");
		exit(SKIP);
	}
	harness_group(GROUP, GROUP_PORT);
}

struct memtap_request crowd_request(const struct crowd *c, struct memtap_request r, uint32_t node)
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

void crowd_arm(struct crowd *c, uint32_t flags)
{
	struct memtap_request r = crowd_request(c, arm_request(0, CROWD_SNAPSHOT, flags), 0);

	CU_ASSERT_EQUAL(host_say(&c->home, &r, &c->places, 1, NULL), 0);
}

void crowd_begin(struct crowd *c, unsigned i, uint32_t flags)
{
	struct memtap_request r =
		crowd_request(c, begin_request(0, CROWD_SNAPSHOT, &c->home, flags), i + 1);

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

/* Its datagrams are dropped by the kernel, though it is in the group. */
static void deafen(const struct test_host *h)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { 1, &nothing };

	CU_ASSERT_EQUAL(setsockopt(h->group, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				   sizeof(program)), 0);
}

struct crowd crowd_create(struct crowd c, const char *fault)
{
	c.home = host_start(CROWD_PAGES, 0, fault);
	c.parent = vm_parent(CROWD_PAGES);
	c.store = test_file_create(0, CROWD_PAGES);
	CU_ASSERT_EQUAL(vm_do(&c.parent, VM_FILL, c.content, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&c.parent, &c.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&c.home, &c.store, 0), 0);
	for (unsigned i = 0; i < MEMBERS; i++) {
		c.away[i] = host_start(CROWD_PAGES, 0, NULL);
		if (c.deaf == i + 1)
			deafen(&c.away[i]);
		c.cache[i] = test_file_create(0, CROWD_PAGES);
		CU_ASSERT_EQUAL(host_file(&c.away[i], &c.cache[i], 0), 0);
		c.clones[i] = vm_clone(&c.cache[i]);
		CU_ASSERT_EQUAL(vm_give_clone(&c.clones[i], &c.away[i], 0, 0, 0), 0);
	}
	write_places(&c);
	crowd_arm(&c, 0);
	for (unsigned i = 0; i < MEMBERS; i++)
		crowd_begin(&c, i, 0);
	return c;
}

void crowd_destroy(struct crowd *c)
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

void crowd_look(struct crowd *c, unsigned but)
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
