/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions: what is seen in them and outside, conflicts, what fires when they end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void test_isolation(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0old");
	PUT(&g, 0, "gone/x\0old");
	tx = guest_begin(&g);
	IS(PUT(&g, tx, "a\0new"), "OK");
	IS(PUT(&g, tx, "b/c\0new"), "OK");
	IS(ASK(&g, tx, XS_RM, "gone"), "OK");
	IS(ASK(&g, tx, XS_SET_PERMS, "a\0n5\0r0"), "OK");
	IS(ASK(&g, tx, XS_READ, "a"), "new");
	IS(ASK(&g, tx, XS_READ, "b/c"), "new");
	IS(ASK(&g, tx, XS_READ, "gone/x"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "a"), "old");
	IS(ASK(&g, 0, XS_READ, "b/c"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "gone/x"), "old");
	IS(guest_commit(&g, tx), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "new");
	IS(ASK(&g, 0, XS_READ, "b/c"), "new");
	IS(ASK(&g, 0, XS_READ, "gone/x"), "ENOENT");
	ASK(&g, 0, XS_GET_PERMS, "a");
	CU_ASSERT_EQUAL(g.head.len, 6);
	guest_stop(&g);
}

static void test_giving_up(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	tx = guest_begin(&g);
	PUT(&g, tx, "a\0new");
	IS(ASK(&g, tx, XS_TRANSACTION_END, "F"), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "ENOENT");
	IS(guest_commit(&g, tx), "ENOENT");
	IS(guest_changes(&g), "");
	guest_stop(&g);
}

static void test_errors(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	IS(guest_commit(&g, 0), "ENOENT");
	tx = guest_begin(&g);
	IS(ASK(&g, tx, XS_TRANSACTION_START, ""), "EBUSY");
	IS(ASK(&g, tx, XS_TRANSACTION_END, "x"), "EINVAL");
	IS(ASK(&g, tx, XS_TRANSACTION_END, ""), "EINVAL");
	IS(guest_ask(&g, tx, XS_TRANSACTION_END, "T", 1), "EINVAL");
	IS(PUT(&g, tx, "/x\0x"), "EACCES");
	IS(ASK(&g, tx, XS_RM, "none/x"), "ENOENT");
	IS(guest_commit(&g, tx), "OK");
	guest_stop(&g);
}

/* Runs `in` in a transaction, `out` outside of it. Return: how the transaction ends. */
static const char *race(const char *in, uint32_t in_type, size_t in_len, const char *out,
			uint32_t out_type, size_t out_len)
{
	static char result[16];
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0" "1");
	PUT(&g, 0, "d/x\0" "1");
	tx = guest_begin(&g);
	guest_ask(&g, tx, in_type, in, in_len);
	guest_ask(&g, 0, out_type, out, out_len);
	strcpy(result, guest_commit(&g, tx));
	guest_stop(&g);
	return result;
}

#define RACE(in_type, in, out_type, out) \
	race(in, in_type, sizeof(in), out, out_type, sizeof(out))

static void test_conflicts(void)
{
	IS(RACE(XS_READ, "a", XS_WRITE, "a\0" "2"), "EAGAIN");
	IS(RACE(XS_READ, "a", XS_WRITE, "a\0" "1"), "EAGAIN");
	IS(RACE(XS_READ, "a", XS_RM, "a"), "EAGAIN");
	IS(RACE(XS_READ, "a", XS_SET_PERMS, "a\0n5\0r1"), "EAGAIN");
	IS(RACE(XS_READ, "none", XS_WRITE, "none\0" "2"), "EAGAIN");
	IS(RACE(XS_READ, "none/deep", XS_WRITE, "none/deep\0" "2"), "EAGAIN");
	IS(RACE(XS_DIRECTORY, "d", XS_WRITE, "d/y\0" "2"), "EAGAIN");
	IS(RACE(XS_DIRECTORY, "d", XS_RM, "d/x"), "EAGAIN");
	IS(RACE(XS_GET_PERMS, "d", XS_WRITE, "d\0" "2"), "EAGAIN");
	IS(RACE(XS_WRITE, "a\0" "2", XS_WRITE, "a\0" "3"), "EAGAIN");
	IS(RACE(XS_WRITE, "d/x\0" "2", XS_RM, "d"), "EAGAIN");
	IS(RACE(XS_WRITE, "d/new\0" "2", XS_RM, "d"), "EAGAIN");
	IS(RACE(XS_WRITE, "d/new\0" "2", XS_WRITE, "d/new\0" "2"), "EAGAIN");
	IS(RACE(XS_RM, "d", XS_WRITE, "d/y\0" "2"), "EAGAIN");
	IS(RACE(XS_RM, "d", XS_WRITE, "d/x\0" "2"), "EAGAIN");
	IS(RACE(XS_RM, "d", XS_WRITE, "d/x/y\0" "2"), "EAGAIN");
	IS(RACE(XS_RM, "d/none", XS_WRITE, "d/none\0" "2"), "EAGAIN");
	IS(RACE(XS_MKDIR, "d/new", XS_RM, "d"), "EAGAIN");
}

static void test_no_conflicts(void)
{
	IS(RACE(XS_READ, "a", XS_WRITE, "d/x\0" "2"), "OK");
	IS(RACE(XS_READ, "d", XS_WRITE, "d/x\0" "2"), "OK");
	IS(RACE(XS_DIRECTORY, "d", XS_WRITE, "d/x\0" "2"), "OK");
	IS(RACE(XS_WRITE, "d/x\0" "2", XS_WRITE, "d/y\0" "2"), "OK");
	IS(RACE(XS_WRITE, "d/y\0" "2", XS_WRITE, "d/x\0" "2"), "OK");
	IS(RACE(XS_READ, "a", XS_READ, "a"), "OK");
	IS(RACE(XS_RM, "d", XS_WRITE, "a\0" "2"), "OK");
}

static void test_merging(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "d/x\0" "1");
	PUT(&g, 0, "d/y\0" "1");
	PUT(&g, 0, "e/old\0" "1");
	tx = guest_begin(&g);
	PUT(&g, tx, "d/x\0" "2");
	ASK(&g, tx, XS_RM, "e");
	PUT(&g, tx, "e/new/er\0" "2");
	PUT(&g, 0, "d/y\0" "3");
	PUT(&g, 0, "d/y/z\0" "3");
	IS(guest_commit(&g, tx), "OK");
	IS(ASK(&g, 0, XS_READ, "d/x"), "2");
	IS(ASK(&g, 0, XS_READ, "d/y"), "3");
	IS(ASK(&g, 0, XS_READ, "d/y/z"), "3");
	IS(ASK(&g, 0, XS_READ, "e/old"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "e/new/er"), "2");
	guest_stop(&g);
}

static void test_watches_at_the_end(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	PUT(&g, 0, "w/gone/x\0" "1");
	ASK(&g, 0, XS_WATCH, "w\0t");
	ASK(&g, 0, XS_WATCH, "w/gone/x\0below");
	g.next_event = g.nevents;
	guest_changes(&g);
	tx = guest_begin(&g);
	PUT(&g, tx, "w/b/c\0" "1");
	PUT(&g, tx, "w/b/c\0" "2");
	ASK(&g, tx, XS_MKDIR, "w/a");
	ASK(&g, tx, XS_RM, "w/gone");
	ASK(&g, tx, XS_READ, "w");
	IS(guest_event(&g), "");
	IS(guest_changes(&g), "");
	IS(guest_commit(&g, tx), "OK");
	IS(guest_event(&g), "w/a t");
	IS(guest_event(&g), "w/b/c t");
	IS(guest_event(&g), "w/gone t");
	IS(guest_event(&g), "w/gone/x below");
	IS(guest_event(&g), "");
	IS(guest_changes(&g), HOME "/w/a=;" HOME "/w/b/c=2;" HOME "/w/gone!;");
	guest_stop(&g);
}

static void test_nothing_fires_after_a_conflict(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "w\0t");
	PUT(&g, 0, "w/a\0" "1");
	tx = guest_begin(&g);
	PUT(&g, tx, "w/a\0" "2");
	PUT(&g, 0, "w/a\0" "3");
	g.next_event = g.nevents;
	guest_changes(&g);
	IS(guest_commit(&g, tx), "EAGAIN");
	IS(guest_event(&g), "");
	IS(guest_changes(&g), "");
	IS(ASK(&g, 0, XS_READ, "w/a"), "3");
	IS(guest_commit(&g, tx), "ENOENT");
	guest_stop(&g);
}

static void test_quota_of_open_ones(void)
{
	struct xs_limits limits = { .transactions = 2 };
	struct guest g;
	uint32_t tx;

	guest_start(&g, &limits);
	tx = guest_begin(&g);
	CU_ASSERT_NOT_EQUAL(tx, guest_begin(&g));
	IS(ASK(&g, 0, XS_TRANSACTION_START, ""), "ENOSPC");
	IS(guest_commit(&g, tx), "OK");
	guest_begin(&g);
	guest_stop(&g);
}

/* Two transactions that fit one by one do not fit together. */
static void test_quota_at_the_end(void)
{
	struct xs_limits limits = { .nodes = 4 };	/* home, d, e and one more */
	struct guest g;
	uint32_t tx, other;

	guest_start(&g, &limits);
	ASK(&g, 0, XS_MKDIR, "d");
	ASK(&g, 0, XS_MKDIR, "e");
	tx = guest_begin(&g);
	other = guest_begin(&g);
	IS(ASK(&g, tx, XS_MKDIR, "d/x"), "OK");
	IS(ASK(&g, tx, XS_MKDIR, "d/y"), "ENOSPC");
	IS(ASK(&g, other, XS_MKDIR, "e/x"), "OK");
	IS(guest_commit(&g, tx), "OK");
	IS(guest_commit(&g, other), "ENOSPC");
	IS(ASK(&g, 0, XS_READ, "e/x"), "ENOENT");
	/* making room counts */
	tx = guest_begin(&g);
	IS(ASK(&g, tx, XS_RM, "d"), "OK");
	IS(ASK(&g, tx, XS_MKDIR, "e/y"), "OK");
	IS(ASK(&g, tx, XS_MKDIR, "e/z"), "OK");
	IS(guest_commit(&g, tx), "OK");
	guest_stop(&g);
}

/* One that looks at too much is told so, and can't be committed. */
static void test_too_much_in_one(void)
{
	char path[32];
	const char *answer = "";
	struct guest g;
	uint32_t tx;
	int i;

	guest_start(&g, NULL);
	tx = guest_begin(&g);
	PUT(&g, tx, "a\0x");
	for (i = 0; i < 5000 && strcmp(answer, "ENOSPC"); i++) {
		sprintf(path, "none-%d", i);
		answer = guest_ask(&g, tx, XS_READ, path, strlen(path) + 1);
	}
	CU_ASSERT(i > 1000 && i < 1030);
	IS(guest_commit(&g, tx), "ENOSPC");
	IS(ASK(&g, 0, XS_READ, "a"), "ENOENT");
	guest_stop(&g);
}

static void test_too_many_bytes_in_one(void)
{
	static char write[2 + 2048] = "a";
	const char *answer = "OK";
	struct guest g;
	uint32_t tx;
	int i;

	guest_start(&g, NULL);
	tx = guest_begin(&g);
	for (i = 0; i < 5000 && !strcmp(answer, "OK"); i++)
		answer = guest_ask(&g, tx, XS_WRITE, write, sizeof(write));
	IS(answer, "ENOSPC");
	CU_ASSERT(i > 500 && i < 520);
	IS(guest_commit(&g, tx), "ENOSPC");
	guest_stop(&g);
}

static void write_back(struct guest *g, const char *path, const char *value, size_t len)
{
	(void)len;
	if (value)
		xs_host_remove(g->xs, path);
	xs_host_write(g->xs, "reply", value ? value : "none", true);
}

/* The hook removes what the guest wrote while the commit goes on. */
static void test_hook_changes_the_tree(void)
{
	struct guest g;
	uint32_t tx;

	guest_start(&g, NULL);
	tx = guest_begin(&g);
	PUT(&g, tx, "q/1\0one");
	PUT(&g, tx, "q/2\0two");
	g.on_change = write_back;
	IS(guest_commit(&g, tx), "OK");
	g.on_change = NULL;
	IS(ASK(&g, 0, XS_READ, "q/1"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "q/2"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "reply"), "two");
	guest_stop(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "isolation", test_isolation },
		{ "giving up", test_giving_up },
		{ "errors", test_errors },
		{ "conflicts", test_conflicts },
		{ "no conflicts", test_no_conflicts },
		{ "merging", test_merging },
		{ "watches fire at the end", test_watches_at_the_end },
		{ "nothing fires after a conflict", test_nothing_fires_after_a_conflict },
		{ "quota of open ones", test_quota_of_open_ones },
		{ "quota at the end", test_quota_at_the_end },
		{ "too much in one", test_too_much_in_one },
		{ "too many bytes in one", test_too_many_bytes_in_one },
		{ "the hook changes the tree", test_hook_changes_the_tree },
		CU_TEST_INFO_NULL,
	};

	return run_tests("transactions", tests);
}
