/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watches: when they fire, on which path, and how many may wait. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void test_first_fire(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(ASK(&g, 0, XS_WATCH, "a/b\0token"), "OK");
	IS(guest_event(&g), "a/b token");
	IS(ASK(&g, 0, XS_WATCH, HOME "/a/b\0other"), "OK");
	IS(guest_event(&g), HOME "/a/b other");
	IS(ASK(&g, 0, XS_WATCH, "/\0root"), "OK");
	IS(guest_event(&g), "/ root");
	IS(ASK(&g, 0, XS_WATCH, "@introduceDomain\0i"), "OK");
	IS(guest_event(&g), "@introduceDomain i");
	IS(ASK(&g, 0, XS_WATCH, "@releaseDomain\0r"), "OK");
	IS(guest_event(&g), "@releaseDomain r");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_fires_on_it_and_below(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0rel");
	ASK(&g, 0, XS_WATCH, HOME "/a\0abs");
	ASK(&g, 0, XS_WATCH, "a/b/c\0deep");
	g.next_event = g.nevents;
	PUT(&g, 0, "a\0x");
	IS(guest_event(&g), "a rel");
	IS(guest_event(&g), HOME "/a abs");
	IS(guest_event(&g), "");
	PUT(&g, 0, "a/b\0x");
	IS(guest_event(&g), "a/b rel");
	IS(guest_event(&g), HOME "/a/b abs");
	IS(guest_event(&g), "");
	PUT(&g, 0, "a-not\0x");
	PUT(&g, 0, "b\0x");
	ASK(&g, 0, XS_READ, "a");
	ASK(&g, 0, XS_MKDIR, "a");	/* exists */
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_fires_for_each_kind_of_change(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	g.next_event = g.nevents;
	PUT(&g, 0, "a/x/y\0" "1");	/* x comes with it, told as one */
	IS(guest_event(&g), "a/x/y t");
	IS(guest_event(&g), "");
	ASK(&g, 0, XS_MKDIR, "a/z");
	IS(guest_event(&g), "a/z t");
	ASK(&g, 0, XS_SET_PERMS, "a/z\0n5\0r0");
	IS(guest_event(&g), "a/z t");
	ASK(&g, 0, XS_RM, "a/z");
	IS(guest_event(&g), "a/z t");
	xs_host_write(g.xs, "a/h", "", false);
	IS(guest_event(&g), "a/h t");
	xs_host_printf(g.xs, "a/h", "%d", 1);
	IS(guest_event(&g), "a/h t");
	xs_host_remove(g.xs, "a/h");
	IS(guest_event(&g), "a/h t");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_removal_from_above(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b/c\0x");
	ASK(&g, 0, XS_WATCH, "a\0above");
	ASK(&g, 0, XS_WATCH, "a/b/c\0below");
	ASK(&g, 0, XS_WATCH, "a/b/none\0none");
	g.next_event = g.nevents;
	ASK(&g, 0, XS_RM, "a/b");
	IS(guest_event(&g), "a/b/c below");
	IS(guest_event(&g), "a/b above");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_not_for_what_is_refused(void)
{
	struct guest g;

	guest_start(&g, NULL);
	xs_host_write(g.xs, "h", "x", false);
	ASK(&g, 0, XS_WATCH, "/\0t");
	g.next_event = g.nevents;
	PUT(&g, 0, "h\0y");
	PUT(&g, 0, "h/new\0y");
	ASK(&g, 0, XS_RM, "h");
	ASK(&g, 0, XS_RM, "none");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_unwatch(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	ASK(&g, 0, XS_WATCH, "a\0u");
	IS(ASK(&g, 0, XS_UNWATCH, "a\0none"), "ENOENT");
	IS(ASK(&g, 0, XS_UNWATCH, "b\0t"), "ENOENT");
	IS(ASK(&g, 0, XS_UNWATCH, HOME "/a\0t"), "OK");	/* the same path */
	IS(ASK(&g, 0, XS_UNWATCH, "a\0t"), "ENOENT");
	g.next_event = g.nevents;
	PUT(&g, 0, "a\0x");
	IS(guest_event(&g), "a u");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

static void test_reset(void)
{
	uint32_t tx;
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	tx = guest_begin(&g);
	IS(ASK(&g, 0, XS_RESET_WATCHES, ""), "OK");
	g.next_event = g.nevents;
	PUT(&g, 0, "a\0x");
	IS(guest_event(&g), "");
	IS(guest_commit(&g, tx), "ENOENT");
	IS(ASK(&g, 0, XS_WATCH, "a\0t"), "OK");
	guest_stop(&g);
}

static void test_errors(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	IS(ASK(&g, 0, XS_WATCH, "a\0t"), "EEXIST");
	IS(ASK(&g, 0, XS_WATCH, HOME "/a\0t"), "EEXIST");
	IS(ASK(&g, 0, XS_WATCH, "a"), "EINVAL");
	IS(ASK(&g, 0, XS_WATCH, "a\0b\0" "1"), "EINVAL");
	IS(ASK(&g, 0, XS_WATCH, "a b\0t"), "EINVAL");
	IS(ASK(&g, 0, XS_WATCH, "\0t"), "EINVAL");
	IS(ASK(&g, 0, XS_UNWATCH, "a"), "EINVAL");
	IS(ASK(&g, 0, XS_UNWATCH, "a/\0t"), "EINVAL");
	guest_stop(&g);
}

static void test_held(void)
{
	uint64_t sent;
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	g.next_event = g.nevents;
	sent = xs_sent(g.xs);
	xs_hold(g.xs, true);
	xs_host_write(g.xs, "a/1", "", false);
	xs_host_write(g.xs, "a/2", "", false);
	IS(guest_event(&g), "");
	CU_ASSERT_EQUAL(xs_sent(g.xs), sent);
	IS(ASK(&g, 0, XS_READ, "a/1"), "");	/* answered all the same */
	CU_ASSERT(xs_sent(g.xs) > sent);
	IS(guest_event(&g), "");
	xs_hold(g.xs, false);
	IS(guest_event(&g), "a/1 t");
	IS(guest_event(&g), "a/2 t");
	IS(guest_event(&g), "");
	CU_ASSERT_EQUAL(xs_sent(g.xs), g.bytes);
	guest_stop(&g);
}

/* With the limit reached, equal events are one, and different ones become one of the watch. */
static void test_too_many_wait(void)
{
	struct xs_limits limits = { .watch_events = 3 };
	struct guest g;

	guest_start(&g, &limits);
	ASK(&g, 0, XS_WATCH, "a\0t");
	g.next_event = g.nevents;
	xs_hold(g.xs, true);
	xs_host_write(g.xs, "a/1", "", false);
	xs_host_write(g.xs, "a/1", "", false);
	xs_host_write(g.xs, "a/2", "", false);
	xs_host_write(g.xs, "a/2", "", false);
	for (int i = 0; i < 100; i++) {
		char path[16];

		sprintf(path, "a/%d", i);
		xs_host_write(g.xs, path, "", false);
	}
	xs_hold(g.xs, false);
	IS(guest_event(&g), "a/1 t");
	IS(guest_event(&g), "a/1 t");
	IS(guest_event(&g), "a/2 t");
	IS(guest_event(&g), "a t");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

/* An event that the wire does not take is told as one of the watch. */
static void test_too_long(void)
{
	char watch[XENSTORE_PAYLOAD_MAX] = "a", path[1000] = "a/", wanted[XENSTORE_PAYLOAD_MAX + 2];
	struct guest g;

	memset(watch + 2, 't', sizeof(watch) - 3);
	memset(path + 2, 'x', sizeof(path) - 3);
	sprintf(wanted, "a %s", watch + 2);
	guest_start(&g, NULL);
	IS(guest_ask(&g, 0, XS_WATCH, watch, sizeof(watch)), "OK");
	IS(guest_event(&g), wanted);
	IS(guest_ask(&g, 0, XS_WRITE, path, sizeof(path)), "OK");
	IS(guest_event(&g), wanted);
	IS(guest_event(&g), "");
	guest_stop(&g);
}

/* Back-pressure: the receiver holds events from within the hook that gets them. */
static void hold_from_hook(struct guest *g, const char *path, const char *value, size_t len)
{
	(void)path;
	(void)value;
	(void)len;
	xs_hold(g->xs, true);
}

static void test_hold_in_hook(void)
{
	struct guest g;

	guest_start(&g, NULL);
	ASK(&g, 0, XS_WATCH, "a\0t");
	g.next_event = g.nevents;
	g.on_change = hold_from_hook;
	IS(PUT(&g, 0, "a\0" "1"), "OK");
	g.on_change = NULL;
	xs_hold(g.xs, false);
	IS(guest_event(&g), "a t");
	IS(guest_event(&g), "");
	guest_stop(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "fires at registration", test_first_fire },
		{ "fires on it and below", test_fires_on_it_and_below },
		{ "fires for each kind of change", test_fires_for_each_kind_of_change },
		{ "removal from above", test_removal_from_above },
		{ "not for what is refused", test_not_for_what_is_refused },
		{ "unwatch", test_unwatch },
		{ "reset", test_reset },
		{ "errors", test_errors },
		{ "held", test_held },
		{ "too many wait", test_too_many_wait },
		{ "too long", test_too_long },
		{ "hold in the hook", test_hold_in_hook },
		CU_TEST_INFO_NULL,
	};

	return run_tests("watches", tests);
}
