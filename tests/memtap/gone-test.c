/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is kept of a snapshot is freed when its last clone has gone, on the source and on each member:
 * memory, descriptors, the group. Who asks for its pages gets nothing any more.
 */
#include "config.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/wire.h"
#include "tests/memtap/crowd.h"

#define THEN (1u | CONTENT_FULL)
#define FILE_NUMBER 7u
#define VM_NUMBER 9u
#define FIRST_SNAPSHOT 100u
#define ROUNDS_BEFORE 5u	/* what the C library keeps for the next time is there then */
#define ROUNDS 30u
#define SLACK_KB 256u		/* a session alone would be 20 KB in each round */

/* One snapshot of the crowd's parent, and a clone on each of two members. */
struct round {
	struct test_file store, cache[2];
	struct test_vm clones[2];
};

static void round_begin(struct crowd *c, struct round *r, uint64_t snapshot)
{
	struct memtap_request arm =
		crowd_request(c, arm_request(FILE_NUMBER, snapshot, 0), 0);

	r->store = test_file_create(FILE_NUMBER, CROWD_PAGES);
	CU_ASSERT_EQUAL(host_file(&c->home, &r->store, 0), 0);
	CU_ASSERT_EQUAL(host_say(&c->home, &arm, &c->places, 1, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct memtap_request begin = crowd_request(
			c, begin_request(FILE_NUMBER, snapshot, &c->home, 0), i + 1);

		r->cache[i] = test_file_create(FILE_NUMBER, CROWD_PAGES);
		CU_ASSERT_EQUAL(host_file(&c->away[i], &r->cache[i], 0), 0);
		CU_ASSERT_EQUAL(host_say(&c->away[i], &begin, &c->places, 1, NULL), 0);
		r->clones[i] = vm_clone(&r->cache[i]);
		CU_ASSERT_EQUAL(vm_give_clone(&r->clones[i], &c->away[i], FILE_NUMBER, VM_NUMBER,
					      0), 0);
	}
}

static void round_end(struct crowd *c, struct round *r)
{
	for (unsigned i = 0; i < 2; i++) {
		vm_end(&r->clones[i]);
		CU_ASSERT_EQUAL(host_clone_gone(&c->away[i], VM_NUMBER), 0);
		CU_ASSERT_EQUAL(host_file_gone(&c->away[i], FILE_NUMBER), 0);
		test_file_destroy(&r->cache[i]);
	}
	host_file_gone(&c->home, FILE_NUMBER);
	test_file_destroy(&r->store);
}

static void round_of(struct crowd *c, uint64_t snapshot)
{
	struct round r;

	round_begin(c, &r, snapshot);
	for (unsigned i = 0; i < 2; i++)
		vm_start(&r.clones[i], VM_CHECK, THEN, 2);
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(vm_wait(&r.clones[i]), 0);
	round_end(c, &r);
}

/* ── what a process has ── */

struct held {
	unsigned long memory_kb;	/* its own, not what it maps of others */
	unsigned fds;
};

static struct held held_by(const struct test_host *h)
{
	char path[64], line[256];
	struct held held = { 0 };
	struct dirent *entry;
	FILE *status;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)h->pid);
	status = fopen(path, "re");
	CU_ASSERT_PTR_NOT_NULL_FATAL(status);
	while (fgets(line, sizeof(line), status))
		sscanf(line, "RssAnon: %lu", &held.memory_kb);
	fclose(status);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)h->pid);
	fds = opendir(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(fds);
	while ((entry = readdir(fds)))
		held.fds += entry->d_name[0] != '.';
	closedir(fds);
	return held;
}

static bool is_in_group(void)
{
	struct in_addr group;
	char line[256], word[16];
	bool found = false;
	FILE *igmp = fopen("/proc/net/igmp", "re");

	CU_ASSERT_PTR_NOT_NULL_FATAL(igmp);
	inet_pton(AF_INET, GROUP, &group);
	snprintf(word, sizeof(word), "%08X", group.s_addr);
	while (fgets(line, sizeof(line), igmp))
		found |= strstr(line, word) != NULL;
	fclose(igmp);
	return found;
}

static void nothing_grows(enum mc_mode mode)
{
	struct crowd c = crowd_create((struct crowd){ mode, 20000, .compress = 1, .content = THEN }, NULL);
	struct test_host *const hosts[] = { &c.home, &c.away[0], &c.away[1] };
	struct held before[ARRAY_SIZE(hosts)];

	for (unsigned i = 0; i < ROUNDS_BEFORE; i++)
		round_of(&c, FIRST_SNAPSHOT + i);
	for (unsigned i = 0; i < ARRAY_SIZE(hosts); i++)
		before[i] = held_by(hosts[i]);
	for (unsigned i = ROUNDS_BEFORE; i < ROUNDS_BEFORE + ROUNDS; i++)
		round_of(&c, FIRST_SNAPSHOT + i);
	for (unsigned i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct held after = held_by(hosts[i]);

		printf("(%lu KB, then %lu) ", before[i].memory_kb, after.memory_kb);
		CU_ASSERT_EQUAL(after.fds, before[i].fds);
		CU_ASSERT(after.memory_kb <= before[i].memory_kb + SLACK_KB);
	}
	crowd_destroy(&c);
}

static void test_nothing_grows(void)
{
	for (int mode = 0; mode < MC_MODES; mode++)
		nothing_grows((enum mc_mode)mode);
}

/* Asks the source for a page. Return: true if it is given. */
static bool is_given(struct crowd *c, int sock, uint64_t snapshot)
{
	struct mc_span span = { .gfn = 1, .pages = 1 };
	uint8_t key[MC_KEY_BYTES], datagram[MC_MAX_DATAGRAM];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = c->home.addr.sin6_port };
	struct pollfd p = { .fd = sock, .events = POLLIN };
	uint64_t dropped = host_stats(&c->home, MEMTAP_ALL).dropped;
	struct mc_seal seal;
	size_t len;

	memcpy(&to.sin_addr, &c->home.addr.sin6_addr.s6_addr[12], sizeof(to.sin_addr));
	snapshot_key(snapshot, key);
	mc_seal_init(&seal, snapshot, key, false);
	len = mc_seal_datagram(&seal, MC_REQUEST, datagram,
			       mc_write_request(datagram + sizeof(struct mc_header), &span, 1));
	CU_ASSERT_EQUAL(sendto(sock, datagram, len, 0, (struct sockaddr *)&to, sizeof(to)),
			(ssize_t)len);
	/* it answers, or counts it as dropped */
	while (poll(&p, 1, 0) == 0) {
		if (host_stats(&c->home, MEMTAP_ALL).dropped > dropped)
			return false;
	}
	return recv(sock, datagram, sizeof(datagram), 0) > 0;
}

static void test_nobody_is_answered(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_UNICAST, .content = THEN }, NULL);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct round r;

	round_begin(&c, &r, FIRST_SNAPSHOT);
	CU_ASSERT_TRUE(is_given(&c, sock, FIRST_SNAPSHOT));
	round_end(&c, &r);
	CU_ASSERT_FALSE(is_given(&c, sock, FIRST_SNAPSHOT));
	CU_ASSERT_TRUE(is_given(&c, sock, CROWD_SNAPSHOT));
	close(sock);
	crowd_destroy(&c);
}

static void test_the_group_is_left(void)
{
	struct crowd c = crowd_create((struct crowd){ MC_MULTICAST, .content = THEN }, NULL);

	CU_ASSERT_TRUE(is_in_group());
	for (unsigned i = 0; i < MEMBERS; i++) {
		CU_ASSERT_EQUAL(host_clone_gone(&c.away[i], 0), 0);
		CU_ASSERT_TRUE(is_in_group());
		CU_ASSERT_EQUAL(host_file_gone(&c.away[i], 0), 0);
	}
	CU_ASSERT_FALSE(is_in_group());
	crowd_destroy(&c);
}

static const struct test tests[] = {
	{ "nothing grows", test_nothing_grows },
	{ "nobody is answered", test_nobody_is_answered },
	{ "the group is left", test_the_group_is_left },
};

/* The address sanitizer would keep what is freed, to see who uses it still: that looks like growth. */
static void let_it_free(void)
{
	const char *given = getenv("ASAN_OPTIONS");
	char options[512];

	snprintf(options, sizeof(options), "%s:quarantine_size_mb=0:thread_local_quarantine_size_kb=0",
		 given ? given : "");
	setenv("ASAN_OPTIONS", options, 1);
}

int main(int argc, char **argv)
{
	let_it_free();
	need_userfaultfd();
	crowd_network();
	return run_tests("gone", tests, ARRAY_SIZE(tests), argc, argv);
}
