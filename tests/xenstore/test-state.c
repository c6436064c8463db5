/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A saved and restored server: everything goes on, at home under a new number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "guest.h"

static void test_tree_moves(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b\0x\0y");
	ASK(&g, 0, XS_SET_PERMS, "a\0n5\0r0\0w7");
	xs_host_write(g.xs, "snowflock/id", "0", false);
	xs_host_write(g.xs, "/vm/5", "path part of the same name", false);
	guest_clone(&g, 123);
	IS(ASK(&g, 0, XS_READ, "a/b"), "x");
	CU_ASSERT_EQUAL(g.head.len, 3);
	IS(ASK(&g, 0, XS_READ, "/local/domain/123/a/b"), "x");
	IS(ASK(&g, 0, XS_READ, HOME), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "/vm/5"), "path part of the same name");
	ASK(&g, 0, XS_GET_PERMS, "a");
	CU_ASSERT(g.head.len == 11 && !memcmp(g.payload, "n123\0r0\0w7", 11));
	IS(PUT(&g, 0, "a/c\0mine"), "OK");
	IS(PUT(&g, 0, "snowflock/id\0" "1"), "EACCES");
	IS(ASK(&g, 0, XS_GET_DOMAIN_PATH, "123"), "/local/domain/123");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "5"), "F");
	guest_clone(&g, 123);	/* stays where it is */
	IS(ASK(&g, 0, XS_READ, "a/c"), "mine");
	guest_stop(&g);
}

static void test_watches_go_on(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0rel");
	ASK(&g, 0, XS_WATCH, HOME "/a\0abs " HOME);
	ASK(&g, 0, XS_WATCH, HOME "\0home");
	ASK(&g, 0, XS_WATCH, HOME "5/a\0other");
	ASK(&g, 0, XS_WATCH, "@releaseDomain\0r");
	guest_clone(&g, 77);
	g.next_event = g.nevents;
	PUT(&g, 0, "a\0x");
	IS(guest_event(&g), "a rel");
	IS(guest_event(&g), "/local/domain/77/a abs " HOME);
	IS(guest_event(&g), "/local/domain/77/a home");
	IS(guest_event(&g), "");
	IS(ASK(&g, 0, XS_UNWATCH, "/local/domain/77/a\0rel"), "OK");
	IS(ASK(&g, 0, XS_UNWATCH, HOME "5/a\0other"), "OK");
	IS(ASK(&g, 0, XS_UNWATCH, "@releaseDomain\0r"), "OK");
	guest_stop(&g);
}

static void test_events_wait(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0rel");
	ASK(&g, 0, XS_WATCH, HOME "/a\0abs");
	g.next_event = g.nevents;
	xs_hold(g.xs, true);
	xs_host_write(g.xs, "a", "1", false);
	guest_clone_held(&g, 77);
	xs_host_write(g.xs, "a", "2", false);
	IS(guest_event(&g), "");
	xs_hold(g.xs, false);
	for (int i = 0; i < 2; i++) {
		IS(guest_event(&g), "a rel");
		IS(guest_event(&g), "/local/domain/77/a abs");
	}
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_transactions_go_on(void)
{
	uint32_t good, spoilt, late, empty;
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0" "1");
	PUT(&g, 0, "d/x\0" "1");
	empty = guest_begin(&g);
	good = guest_begin(&g);
	PUT(&g, good, "d/y/z\0" "2");
	ASK(&g, good, XS_RM, "d/x");
	ASK(&g, good, XS_READ, "/local/domain");
	ASK(&g, good, XS_DIRECTORY, "/");
	spoilt = guest_begin(&g);
	ASK(&g, spoilt, XS_READ, "a");
	late = guest_begin(&g);
	PUT(&g, late, "a\0late");
	PUT(&g, 0, "a\0" "3");
	guest_changes(&g);

	guest_clone(&g, 1234);

	IS(guest_commit(&g, empty), "OK");
	IS(ASK(&g, good, XS_READ, "d/y/z"), "2");
	IS(ASK(&g, good, XS_READ, "/local/domain/1234/d/x"), "ENOENT");
	IS(ASK(&g, good, XS_READ, "a"), "1");	/* as it was when the transaction began */
	IS(guest_commit(&g, spoilt), "EAGAIN");
	IS(guest_commit(&g, late), "EAGAIN");
	IS(guest_commit(&g, good), "EAGAIN");	/* it has looked at a now */
	good = guest_begin(&g);
	CU_ASSERT(good != late && good != spoilt);
	guest_stop(&g);
}

static void test_transaction_commits_in_clone(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "d/x\0" "1");
	ASK(&g, 0, XS_WATCH, "d\0t");
	tx = guest_begin(&g);
	PUT(&g, tx, "d/y/z\0" "2");
	ASK(&g, tx, XS_RM, "d/x");
	ASK(&g, tx, XS_DIRECTORY, "/local/domain");
	PUT(&g, tx, "top\0" "2");
	guest_changes(&g);
	g.next_event = g.nevents;
	guest_clone(&g, 4);
	IS(PUT(&g, tx, "d/later\0" "3"), "OK");
	IS(guest_commit(&g, tx), "OK");
	IS(guest_changes(&g), "/local/domain/4/d/later=3;/local/domain/4/d/x!;"
			      "/local/domain/4/d/y/z=2;/local/domain/4/top=2;");
	IS(guest_event(&g), "d/later t");
	IS(guest_event(&g), "d/x t");
	IS(guest_event(&g), "d/y/z t");
	IS(guest_event(&g), "");
	IS(ASK(&g, 0, XS_READ, "top"), "2");
	IS(ASK(&g, 0, XS_READ, "d/y/z"), "2");
	IS(ASK(&g, 0, XS_READ, "d/x"), "ENOENT");
	guest_stop(&g);
}

/* What the parent said of a domain with the clone's number is not mixed with the clone's own. */
static void test_number_of_another(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0" "1");
	ASK(&g, 0, XS_WATCH, "/local/domain/4/a\0t");
	ASK(&g, 0, XS_WATCH, "a\0t");
	tx = guest_begin(&g);
	ASK(&g, tx, XS_READ, "/local/domain/4/a");
	PUT(&g, tx, "a\0" "2");
	g.next_event = g.nevents;
	guest_clone(&g, 4);
	IS(guest_commit(&g, tx), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "2");
	IS(guest_event(&g), "a t");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

/* One that failed stays failed; what it holds still counts. */
static void test_failed_transaction_stays_failed(void)
{
	static char write[2 + 2048] = "a";
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	tx = guest_begin(&g);
	while (!strcmp(guest_ask(&g, tx, XS_WRITE, write, sizeof(write)), "OK"))
		;
	guest_clone(&g, 4);
	IS(guest_commit(&g, tx), "ENOSPC");
	guest_stop(&g);
}

static void test_counters_go_on(void)
{
	uint64_t received, sent;
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0x");
	received = xs_received(g.xs);
	sent = xs_sent(g.xs);
	CU_ASSERT(received == sizeof(struct xsd_sockmsg) + 3);
	CU_ASSERT(sent == sizeof(struct xsd_sockmsg) + 3);
	guest_clone(&g, 6);
	CU_ASSERT_EQUAL(xs_received(g.xs), received);
	CU_ASSERT_EQUAL(xs_sent(g.xs), sent);
	guest_stop(&g);
}

/* A clone may be cut at any byte of a request. */
static void test_half_a_request(void)
{
	struct xsd_sockmsg head = { .type = XS_WRITE, .req_id = 7, .len = 5 };
	char request[sizeof(head) + 5];
	struct guest g;

	memcpy(request, &head, sizeof(head));
	memcpy(request + sizeof(head), "a\0xyz", 5);
	guest_start(&g, NULL);
	for (size_t i = 0; i < sizeof(request); i++) {
		CU_ASSERT_EQUAL(xs_input(g.xs, request + i, 1), 0);
		guest_clone(&g, 10 + (unsigned)i);
		CU_ASSERT_EQUAL(xs_at_boundary(g.xs), i == sizeof(request) - 1);
	}
	IS(g.payload, "OK");
	CU_ASSERT_EQUAL(g.head.req_id, 7);
	IS(ASK(&g, 0, XS_READ, "a"), "xyz");
	guest_stop(&g);
}

static void test_quotas_go_on(void)
{
	struct guest g;

	guest_start(&g, NULL);
	for (int i = 0; i < 998; i++) {
		char path[16];

		sprintf(path, "n%d", i);
		guest_ask(&g, 0, XS_MKDIR, path, strlen(path) + 1);
	}
	guest_clone(&g, 9);
	IS(ASK(&g, 0, XS_MKDIR, "one"), "OK");
	IS(ASK(&g, 0, XS_MKDIR, "more"), "ENOSPC");
	guest_stop(&g);
}

/* The parent is not touched by being saved. */
static void test_parent_goes_on(void)
{
	_cleanup_free_ uint8_t *first = NULL, *second = NULL;
	size_t first_len, second_len;
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b\0x");
	tx = guest_begin(&g);
	PUT(&g, tx, "a/c\0x");
	first = xs_save(g.xs, &first_len);
	second = xs_save(g.xs, &second_len);
	CU_ASSERT(first_len == second_len && !memcmp(first, second, first_len));
	IS(guest_commit(&g, tx), "OK");
	IS(ASK(&g, 0, XS_READ, "a/c"), "x");
	guest_stop(&g);
}

static void drop(void *arg, const void *bytes, size_t len)
{
	(void)arg;
	(void)bytes;
	(void)len;
}

static const struct xs_hooks deaf = { .send = drop };

static bool restores(unsigned domid, const struct xs_limits *limits, const uint8_t *state,
		     size_t len)
{
	struct xs_server *xs = xs_restore(domid, limits, &deaf, NULL, state, len);

	if (!xs)
		CU_ASSERT_EQUAL(errno, EINVAL);
	xs_destroy(xs);
	return xs;
}

static void test_refusals(void)
{
	struct xs_limits two_watches = { .watches = 2 }, one_transaction = { .transactions = 1 };
	_cleanup_free_ uint8_t *state = NULL, *more = NULL;
	struct guest g;
	size_t len;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b\0x");
	ASK(&g, 0, XS_WATCH, "a\0" "1");
	ASK(&g, 0, XS_WATCH, "a\0" "2");
	ASK(&g, 0, XS_WATCH, "a\0" "3");
	guest_begin(&g);
	guest_begin(&g);
	state = xs_save(g.xs, &len);
	CU_ASSERT(restores(8, NULL, state, len));
	CU_ASSERT(!restores(8, &two_watches, state, len));
	CU_ASSERT(!restores(8, &one_transaction, state, len));
	CU_ASSERT(!restores(0, NULL, state, len));
	CU_ASSERT(!restores(0x7ff0, NULL, state, len));
	for (size_t cut = 0; cut < len; cut++)
		CU_ASSERT(!restores(8, NULL, state, cut));
	more = calloc(1, len + 1);
	memcpy(more, state, len);
	CU_ASSERT(!restores(8, NULL, more, len + 1));
	more[0]++;
	CU_ASSERT(!restores(8, NULL, more, len));
	more[0]--;
	more[4]++;	/* a version to come */
	CU_ASSERT(!restores(8, NULL, more, len));
	xs_host_write(g.xs, "/local/domain/8", "in the way", false);
	free(state);
	state = xs_save(g.xs, &len);
	CU_ASSERT(!restores(8, NULL, state, len));
	CU_ASSERT(restores(9, NULL, state, len));
	guest_stop(&g);
}

/* The shape of a tree that a clone inherits: a family of 32, some requests, a few hundred nodes. */
static void fill(struct guest *g)
{
	char path[64];

	for (int i = 0; i < 32; i++) {
		static const char *const names[] = { "state", "status", "host", "result", "address" };

		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			sprintf(path, "snowflock/ticket/1/clone/%d/%s", i, names[k]);
			xs_host_write(g->xs, path, "some value", false);
		}
	}
	for (int i = 0; i < 8; i++) {
		int len = sprintf(path, "watched/%d%ctoken", i, 0);

		guest_ask(g, 0, XS_WATCH, path, (size_t)len + 1);
	}
	guest_begin(g);
}

/* In the critical path of a clone. What it takes is printed; the limit only catches a wrong order of
 * growth, since tests run on machines that do other things too. */
static void test_is_quick(void)
{
	uint64_t best_ns = UINT64_MAX, start_ns;
	size_t len = 0;
	struct guest g;

	guest_start(&g, NULL);
	fill(&g);
	for (int i = 0; i < 50; i++) {
		struct xs_server *xs;
		uint8_t *state;

		start_ns = io_now_ns();
		state = xs_save(g.xs, &len);
		xs = xs_restore(9, NULL, &deaf, NULL, state, len);
		start_ns = io_now_ns() - start_ns;
		if (start_ns < best_ns)
			best_ns = start_ns;
		xs_destroy(xs);
		free(state);
	}
	printf("%zu bytes saved and restored in %u us ", len, (unsigned)(best_ns / 1000));
	CU_ASSERT(best_ns < 100000000);
	guest_stop(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "the tree moves", test_tree_moves },
		{ "watches go on", test_watches_go_on },
		{ "events wait", test_events_wait },
		{ "transactions go on", test_transactions_go_on },
		{ "a transaction commits in the clone", test_transaction_commits_in_clone },
		{ "the number of another", test_number_of_another },
		{ "a failed transaction stays failed", test_failed_transaction_stays_failed },
		{ "counters go on", test_counters_go_on },
		{ "half a request", test_half_a_request },
		{ "quotas go on", test_quotas_go_on },
		{ "the parent goes on", test_parent_goes_on },
		{ "refusals", test_refusals },
		{ "is quick", test_is_quick },
		CU_TEST_INFO_NULL,
	};

	return run_tests("state", tests);
}
