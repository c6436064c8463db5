/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams lost, damaged, forged and replayed; memory that is short. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/wire.h"
#include "tests/memtap/harness.h"

#define PAGES 2048u
#define THEN 1u
#define NOW (2u | CONTENT_FULL)
#define SNAPSHOT 77u

struct world {
	struct test_host home, away;
	struct test_vm parent, clone;
	struct test_file store, cache;
};

static struct world world_create(const char *home_fault, const char *away_fault)
{
	struct world w = { .home = host_start(PAGES, 0, home_fault),
			   .away = host_start(PAGES, 0, away_fault),
			   .parent = vm_parent(PAGES),
			   .store = test_file_create(0, PAGES),
			   .cache = test_file_create(0, PAGES) };

	w.clone = vm_clone(&w.cache);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_FILL, THEN, 2), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&w.parent, &w.home, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.home, &w.store, 0), 0);
	CU_ASSERT_EQUAL(host_file(&w.away, &w.cache, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&w.clone, &w.away, 0, 0, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&w.home, 0, SNAPSHOT, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&w.away, 0, SNAPSHOT, &w.home, 0), 0);
	return w;
}

static void world_destroy(struct world *w)
{
	vm_end(&w->clone);
	vm_end(&w->parent);
	CU_ASSERT_EQUAL(host_stop(&w->away), 0);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	test_file_destroy(&w->store);
	test_file_destroy(&w->cache);
}

/* What the two processes have counted. */
struct counted {
	struct memtap_stats home, away;
};

/* The clone sees the instant with this trouble. */
static struct counted with_trouble(const char *home_fault, const char *away_fault)
{
	struct world w = world_create(home_fault, away_fault);
	struct counted c;

	vm_start(&w.parent, VM_FILL, NOW, 2);
	CU_ASSERT_EQUAL(vm_do(&w.clone, VM_CHECK, THEN, 3), 0);
	CU_ASSERT_EQUAL(vm_wait(&w.parent), 0);
	CU_ASSERT_EQUAL(vm_do(&w.parent, VM_CHECK, NOW, 2), 0);
	c.home = host_stats(&w.home, MEMTAP_ALL);
	c.away = host_stats(&w.away, MEMTAP_ALL);
	CU_ASSERT_EQUAL(c.away.pages_fetched, PAGES);
	world_destroy(&w);
	return c;
}

/*
 * Every answer has been asked for, and in the end each page has come once: so of what was asked for,
 * each datagram that was lost has cost a retry. Only what was pushed has not been asked for: a member
 * that hears nothing joins again and again, and two seconds after the first request gets, each time,
 * what has been asked for till then.
 */
static void assert_each_cost_a_retry(const struct counted *c, uint64_t lost)
{
	printf("(%llu retries, %llu pages pushed) ", (unsigned long long)c->away.retries,
	       (unsigned long long)c->home.pushed);
	CU_ASSERT(c->away.retries + c->home.pushed >= lost);
}

static void test_lost_answers_are_asked_for_again(void)
{
	struct counted c = with_trouble("mcdist-drop-reply:40", NULL);

	assert_each_cost_a_retry(&c, 40);
	CU_ASSERT_EQUAL(c.away.dropped, 0);
}

static void test_lost_requests_are_sent_again(void)
{
	CU_ASSERT(with_trouble(NULL, "mcdist-drop-request:20").away.retries >= 20);
}

static void test_damaged_answers_are_dropped(void)
{
	struct counted c = with_trouble("mcdist-corrupt-reply:30", NULL);

	assert_each_cost_a_retry(&c, 30);
	CU_ASSERT_EQUAL(c.away.dropped, 30);
}

static void test_short_memory_is_waited_out(void)
{
	with_trouble("snapshot-no-memory:4", "snapshot-no-memory:4");
}

/* ── a stranger's datagrams ── */

struct stranger {
	int sock;
	struct mc_seal seal;
	uint8_t datagram[MC_MAX_DATAGRAM];
	size_t len;
};

static struct stranger stranger_create(const uint8_t *key)
{
	struct stranger s = { .sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0) };

	mc_seal_init(&s.seal, SNAPSHOT, key, false);
	return s;
}

static uint8_t *body(struct stranger *s)
{
	return s->datagram + sizeof(struct mc_header);
}

static void seal_request(struct stranger *s, uint64_t gfn, uint32_t pages)
{
	struct mc_span span = { .gfn = gfn, .pages = pages };

	s->len = mc_seal_datagram(&s->seal, MC_REQUEST, s->datagram,
				  mc_write_request(body(s), &span, 1));
}

/* Sends what is sealed. Return: true if an answer comes. */
static bool is_answered(struct stranger *s, const struct test_host *to, int wait_ms)
{
	struct pollfd p = { .fd = s->sock, .events = POLLIN };
	uint8_t answer[MC_MAX_DATAGRAM];

	CU_ASSERT_EQUAL(sendto(s->sock, s->datagram, s->len, 0, (const struct sockaddr *)&to->addr,
			       sizeof(to->addr)), (ssize_t)s->len);
	return poll(&p, 1, wait_ms) == 1 && recv(s->sock, answer, sizeof(answer), 0) > 0;
}

/* Sends what is sealed; it is counted as dropped and gets no answer. */
static void is_dropped(struct stranger *s, struct test_host *to)
{
	uint64_t before = host_stats(to, MEMTAP_ALL).dropped, now = before;

	CU_ASSERT_FALSE(is_answered(s, to, 0));
	for (unsigned i = 0; now == before && i < 1000; i++)
		now = host_stats(to, MEMTAP_ALL).dropped;
	CU_ASSERT_EQUAL(now, before + 1);
	CU_ASSERT_EQUAL(poll(&(struct pollfd){ .fd = s->sock, .events = POLLIN }, 1, 0), 0);
}

static void test_strangers_get_nothing(void)
{
	struct world w = world_create(NULL, NULL);
	uint8_t key[MC_KEY_BYTES], wrong[MC_KEY_BYTES] = { 1 };
	struct stranger knows, guesses = stranger_create(wrong);

	snapshot_key(SNAPSHOT, key);
	knows = stranger_create(key);
	seal_request(&knows, 1, 1);
	CU_ASSERT_TRUE(is_answered(&knows, &w.home, TEST_PATIENCE_MS));
	/* the same once more */
	is_dropped(&knows, &w.home);
	/* without the key */
	seal_request(&guesses, 1, 1);
	is_dropped(&guesses, &w.home);
	/* cut, and with a bit turned in the header and in the body */
	seal_request(&knows, 1, 1);
	knows.len -= 1;
	is_dropped(&knows, &w.home);
	seal_request(&knows, 1, 1);
	knows.datagram[8] ^= 1;
	is_dropped(&knows, &w.home);
	seal_request(&knows, 1, 1);
	knows.datagram[knows.len - MC_TAG_BYTES - 1] ^= 1;
	is_dropped(&knows, &w.home);
	/* another snapshot */
	knows.seal.snapshot++;
	seal_request(&knows, 1, 1);
	is_dropped(&knows, &w.home);
	knows.seal.snapshot--;
	/* authentic, but it makes no sense */
	seal_request(&knows, PAGES, 1);
	is_dropped(&knows, &w.home);
	seal_request(&knows, PAGES - 1, 2);
	is_dropped(&knows, &w.home);
	seal_request(&knows, UINT64_MAX, 8);
	is_dropped(&knows, &w.home);
	seal_request(&knows, 0, 0);
	is_dropped(&knows, &w.home);
	seal_request(&knows, 0, MC_MAX_PAGES + 1);
	is_dropped(&knows, &w.home);
	knows.len = mc_seal_datagram(&knows.seal, MC_REQUEST, knows.datagram, 0);
	is_dropped(&knows, &w.home);
	knows.len = mc_seal_datagram(&knows.seal, 9, knows.datagram, 16);
	is_dropped(&knows, &w.home);
	knows.len = mc_seal_datagram(&knows.seal, MC_JOIN, knows.datagram, 1);
	is_dropped(&knows, &w.home);
	/* who serves does not fetch, who fetches does not serve */
	seal_request(&knows, 1, 1);
	is_dropped(&knows, &w.away);
	knows.len = mc_seal_datagram(&knows.seal, MC_JOIN, knows.datagram, 8);
	is_dropped(&knows, &w.away);
	knows.len = mc_seal_datagram(&knows.seal, MC_PAGES, knows.datagram, 16);
	is_dropped(&knows, &w.home);
	/* and all is well still */
	seal_request(&knows, 1, 1);
	CU_ASSERT_TRUE(is_answered(&knows, &w.home, TEST_PATIENCE_MS));
	CU_ASSERT_EQUAL(vm_do(&w.clone, VM_CHECK, THEN, 2), 0);
	close(knows.sock);
	close(guesses.sock);
	world_destroy(&w);
}

/* Pages nobody asked for are taken if they are authentic, and change nothing that is there. */
static void test_unasked_pages(void)
{
	struct world w = world_create(NULL, NULL);
	uint8_t key[MC_KEY_BYTES], page[MC_PAGE_BYTES];
	struct mc_pages_writer writer;
	struct mc_span span = { .gfn = 9, .pages = 1 };
	struct stranger s;

	snapshot_key(SNAPSHOT, key);
	s = stranger_create(key);
	CU_ASSERT_EQUAL(vm_do(&w.clone, VM_CHECK, THEN, 2), 0);
	memset(page, 0xaa, sizeof(page));
	mc_pages_begin(&writer, body(&s), &span);
	memcpy(mc_pages_room(&writer), page, sizeof(page));
	mc_pages_add(&writer, MC_PLAIN, MC_PAGE_BYTES);
	s.len = mc_seal_datagram(&s.seal, MC_PAGES, s.datagram, mc_pages_end(&writer));
	CU_ASSERT_FALSE(is_answered(&s, &w.away, 0));
	CU_ASSERT_EQUAL(host_stats(&w.away, MEMTAP_ALL).dropped, 0);
	CU_ASSERT_EQUAL(vm_do(&w.clone, VM_CHECK, THEN, 2), 0);
	close(s.sock);
	world_destroy(&w);
}

static const struct test tests[] = {
	{ "lost answers are asked for again", test_lost_answers_are_asked_for_again },
	{ "lost requests are sent again", test_lost_requests_are_sent_again },
	{ "damaged answers are dropped", test_damaged_answers_are_dropped },
	{ "short memory is waited out", test_short_memory_is_waited_out },
	{ "strangers get nothing", test_strangers_get_nothing },
	{ "pages nobody asked for", test_unasked_pages },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("loss", tests, ARRAY_SIZE(tests), argc, argv);
}
