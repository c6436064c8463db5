/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's own access, what it is told, and the quotas that bound the guest but not it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void test_write_read_remove(void)
{
	struct guest g;
	char *value;
	size_t len = 99;

	guest_start(&g, NULL);
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "a/b", "x", false), 0);
	value = xs_host_read(g.xs, HOME "/a/b", &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(value);
	IS(value, "x");
	CU_ASSERT_EQUAL(len, 1);
	free(value);
	value = xs_host_read(g.xs, "a", NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(value);
	IS(value, "");
	free(value);
	CU_ASSERT_EQUAL(xs_host_printf(g.xs, "a/b", "%d %s", 1, "two"), 0);
	IS(ASK(&g, 0, XS_READ, "a/b"), "1 two");
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "a"), 0);
	IS(ASK(&g, 0, XS_READ, "a/b"), "ENOENT");
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "/vm/x", "y", false), 0);
	IS(ASK(&g, 0, XS_READ, "/vm/x"), "y");
	IS(guest_changes(&g), "");	/* it is not told of itself */
	guest_stop(&g);
}

static void test_errors(void)
{
	char long_value[XENSTORE_PAYLOAD_MAX + 2];
	struct guest g;

	guest_start(&g, NULL);
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "a b", "x", false), -EINVAL);
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "", "x", false), -EINVAL);
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "@event", "x", false), -EINVAL);
	memset(long_value, 'x', sizeof(long_value) - 1);
	long_value[sizeof(long_value) - 1] = '\0';
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "a", long_value, false), -E2BIG);
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "none"), -ENOENT);
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "a//b"), -EINVAL);
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, HOME), -EINVAL);
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "/local"), -EINVAL);
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "/"), -EINVAL);
	CU_ASSERT(!xs_host_read(g.xs, "none", NULL) && errno == ENOENT);
	CU_ASSERT(!xs_host_read(g.xs, "a//", NULL) && errno == EINVAL);
	CU_ASSERT_EQUAL(xs_host_list(g.xs, "none", NULL, NULL), -ENOENT);
	CU_ASSERT(!xs_create(0, NULL, &(struct xs_hooks){ 0 }, NULL) && errno == EINVAL);
	CU_ASSERT(!xs_create(0x7ff0, NULL, &(struct xs_hooks){ 0 }, NULL) && errno == EINVAL);
	guest_stop(&g);
}

static void test_whose_nodes_are(void)
{
	struct guest g;

	guest_start(&g, NULL);
	xs_host_write(g.xs, "snowflock/id", "0", false);
	xs_host_write(g.xs, "snowflock/request", "", true);
	IS(ASK(&g, 0, XS_READ, "snowflock/id"), "0");
	IS(PUT(&g, 0, "snowflock/id\0" "1"), "EACCES");
	IS(PUT(&g, 0, "snowflock/id/below\0" "1"), "EACCES");
	IS(PUT(&g, 0, "snowflock/new\0" "1"), "EACCES");
	IS(ASK(&g, 0, XS_MKDIR, "snowflock/new"), "EACCES");
	IS(ASK(&g, 0, XS_RM, "snowflock/id"), "EACCES");
	IS(ASK(&g, 0, XS_RM, "snowflock/none"), "EACCES");
	IS(ASK(&g, 0, XS_RM, "snowflock"), "EACCES");
	IS(PUT(&g, 0, "snowflock/request/key\0clone"), "OK");
	IS(ASK(&g, 0, XS_RM, "snowflock/request/key"), "OK");
	/* what the host writes anew changes hands */
	PUT(&g, 0, "name\0mine");
	xs_host_write(g.xs, "name", "yours", false);
	IS(PUT(&g, 0, "name\0mine"), "EACCES");
	xs_host_write(g.xs, "name", "yours", true);
	IS(PUT(&g, 0, "name\0mine"), "OK");
	guest_stop(&g);
}

static void collect(void *arg, const char *name)
{
	strcat(arg, name);
	strcat(arg, " ");
}

static void remove_each(void *arg, const char *name)
{
	struct guest *g = arg;
	char path[32];

	sprintf(path, "d/%s", name);
	CU_ASSERT_EQUAL(xs_host_remove(g->xs, path), 0);
}

static void test_list(void)
{
	char names[64] = "";
	struct guest g;

	guest_start(&g, NULL);
	for (int i = 12; i > 7; i--) {
		sprintf(names, "d/%d", i);
		xs_host_write(g.xs, names, "", false);
	}
	*names = '\0';
	CU_ASSERT_EQUAL(xs_host_list(g.xs, "d", collect, names), 0);
	IS(names, "8 9 10 11 12 ");
	CU_ASSERT_EQUAL(xs_host_list(g.xs, "d", remove_each, &g), 0);
	*names = '\0';
	CU_ASSERT_EQUAL(xs_host_list(g.xs, "d", collect, names), 0);
	IS(names, "");
	guest_stop(&g);
}

static void test_is_told(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b\0value");
	IS(guest_changes(&g), HOME "/a/b=value;");
	PUT(&g, 0, "a/b\0");
	IS(guest_changes(&g), HOME "/a/b=;");
	ASK(&g, 0, XS_MKDIR, "c");
	IS(guest_changes(&g), HOME "/c=;");
	ASK(&g, 0, XS_MKDIR, "c");
	ASK(&g, 0, XS_READ, "c");
	ASK(&g, 0, XS_SET_PERMS, "c\0n5");
	PUT(&g, 0, "/x\0no");
	IS(guest_changes(&g), "");
	ASK(&g, 0, XS_RM, "a");
	IS(guest_changes(&g), HOME "/a!;");
	ASK(&g, 0, XS_RM, "a");
	IS(guest_changes(&g), "");
	guest_stop(&g);
}

static void answer_request(struct guest *g, const char *path, const char *value, size_t len)
{
	CU_ASSERT_EQUAL(xs_host_remove(g->xs, path), 0);
	CU_ASSERT_EQUAL(xs_host_printf(g->xs, "reply", "%s", "ok"), 0);
	/* the value outlives its node */
	CU_ASSERT(len == 5 && !memcmp(value, "clone", 6));
	IS(guest_event(g), "request/1 r");	/* written */
	IS(guest_event(g), "request/1 r");	/* removed */
	IS(guest_event(g), "reply a");
}

static void test_answers_in_the_hook(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "reply\0a");
	ASK(&g, 0, XS_WATCH, "request\0r");
	g.next_event = g.nevents;
	g.on_change = answer_request;
	IS(PUT(&g, 0, "request/1\0clone"), "OK");
	IS(ASK(&g, 0, XS_READ, "request/1"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "reply"), "ok");
	guest_stop(&g);
}

static void test_quota_of_nodes(void)
{
	struct xs_limits limits = { .nodes = 4 };
	struct guest g;

	guest_start(&g, &limits);	/* home is one */
	IS(PUT(&g, 0, "a/b/c\0x"), "OK");
	IS(PUT(&g, 0, "d\0x"), "ENOSPC");
	IS(ASK(&g, 0, XS_MKDIR, "d"), "ENOSPC");
	IS(PUT(&g, 0, "a/b/c\0y"), "OK");
	IS(ASK(&g, 0, XS_RM, "a/b"), "OK");
	IS(ASK(&g, 0, XS_MKDIR, "d/e/f"), "ENOSPC");
	IS(ASK(&g, 0, XS_READ, "d"), "ENOENT");
	IS(ASK(&g, 0, XS_MKDIR, "d/e"), "OK");
	for (int i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(xs_host_printf(g.xs, "host/x", "%d", i), 0);
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "given", "", true), 0);
	guest_stop(&g);
}

static void test_quota_of_values(void)
{
	struct xs_limits limits = { .node_bytes = 4 };
	struct guest g;

	guest_start(&g, &limits);
	IS(PUT(&g, 0, "a\0" "1234"), "OK");
	IS(PUT(&g, 0, "a\0" "12345"), "ENOSPC");
	IS(PUT(&g, 0, "b\0" "12345"), "ENOSPC");
	IS(ASK(&g, 0, XS_READ, "a"), "1234");
	IS(ASK(&g, 0, XS_READ, "b"), "ENOENT");
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "a", "123456789", true), 0);
	guest_stop(&g);
}

static void test_quota_of_watches(void)
{
	struct xs_limits limits = { .watches = 2 };
	struct guest g;

	guest_start(&g, &limits);
	IS(ASK(&g, 0, XS_WATCH, "a\0" "1"), "OK");
	IS(ASK(&g, 0, XS_WATCH, "a\0" "2"), "OK");
	IS(ASK(&g, 0, XS_WATCH, "a\0" "3"), "E2BIG");
	IS(ASK(&g, 0, XS_UNWATCH, "a\0" "1"), "OK");
	IS(ASK(&g, 0, XS_WATCH, "a\0" "3"), "OK");
	guest_stop(&g);
}

static void test_default_quotas(void)
{
	char path[32];
	struct guest g;
	int i;

	guest_start(&g, NULL);
	for (i = 0; i < 2000; i++) {
		sprintf(path, "n-%d", i);
		if (strcmp(guest_ask(&g, 0, XS_MKDIR, path, strlen(path) + 1), "OK"))
			break;
	}
	CU_ASSERT_EQUAL(i, 999);	/* and home */
	guest_stop(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "write, read, remove", test_write_read_remove },
		{ "errors", test_errors },
		{ "whose nodes are", test_whose_nodes_are },
		{ "list", test_list },
		{ "is told", test_is_told },
		{ "answers in the hook", test_answers_in_the_hook },
		{ "quota of nodes", test_quota_of_nodes },
		{ "quota of values", test_quota_of_values },
		{ "quota of watches", test_quota_of_watches },
		{ "default quotas", test_default_quotas },
		CU_TEST_INFO_NULL,
	};

	return run_tests("host", tests);
}
