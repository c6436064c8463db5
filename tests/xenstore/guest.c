/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's end of a XenStore server, for tests: asks, and keeps what comes back. */
#define _GNU_SOURCE
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep_event(struct guest *g, const char *payload, size_t len)
{
	const char *token = payload + strlen(payload) + 1;

	if (token >= payload + len || g->nevents == GUEST_EVENTS)
		abort();
	if (asprintf(&g->events[g->nevents++], "%s %s", payload, token) < 0)
		abort();
}

/* Whole frames come, as the server's header promises. */
static void receive(void *arg, const void *bytes, size_t len)
{
	const char *at = bytes, *end = at + len;
	struct guest *g = arg;

	g->bytes += len;
	while (at < end) {
		struct xsd_sockmsg head;

		memcpy(&head, at, sizeof(head));
		at += sizeof(head);
		if (head.len > XENSTORE_PAYLOAD_MAX || head.len > (size_t)(end - at))
			abort();
		if (head.type == XS_WATCH_EVENT) {
			keep_event(g, at, head.len);
		} else {
			g->answered = true;
			g->head = head;
			memcpy(g->payload, at, head.len);
			g->payload[head.len] = '\0';
		}
		at += head.len;
	}
}

static void changed(void *arg, const char *path, const char *value, size_t len)
{
	struct guest *g = arg;
	size_t used = strlen(g->changes);

	if (value && (value[len] || g->answered))
		abort();
	if (value)
		snprintf(g->changes + used, TEXT_SIZE - used, "%s=%.*s;", path, (int)len, value);
	else
		snprintf(g->changes + used, TEXT_SIZE - used, "%s!;", path);
	if (g->on_change)
		g->on_change(g, path, value, len);
}

static const struct xs_hooks hooks = { .send = receive, .changed = changed };

void guest_start(struct guest *g, const struct xs_limits *limits)
{
	memset(g, 0, sizeof(*g));
	g->xs = xs_create(GUEST_DOMID, limits, &hooks, g);
	if (!g->xs)
		abort();
}

void guest_stop(struct guest *g)
{
	for (unsigned i = 0; i < g->nevents; i++)
		free(g->events[i]);
	xs_destroy(g->xs);
}

void guest_clone_held(struct guest *g, unsigned domid)
{
	size_t len;
	_cleanup_free_ uint8_t *state = xs_save(g->xs, &len);
	struct xs_server *xs = xs_restore(domid, NULL, &hooks, g, state, len);

	CU_ASSERT_PTR_NOT_NULL_FATAL(xs);
	xs_destroy(g->xs);
	g->xs = xs;
}

void guest_clone(struct guest *g, unsigned domid)
{
	guest_clone_held(g, domid);
	xs_hold(g->xs, false);
}

const char *guest_ask(struct guest *g, uint32_t tx, uint32_t type, const void *payload, size_t len)
{
	struct xsd_sockmsg head = {
		.type = type,
		.req_id = ++g->req_id,
		.tx_id = tx,
		.len = (uint32_t)len,
	};

	g->answered = false;
	CU_ASSERT_EQUAL(xs_input(g->xs, &head, sizeof(head)), 0);
	CU_ASSERT_EQUAL(xs_input(g->xs, payload, len), 0);
	CU_ASSERT(g->answered);
	CU_ASSERT_EQUAL(g->head.req_id, g->req_id);
	CU_ASSERT_EQUAL(g->head.tx_id, tx);
	CU_ASSERT(g->head.type == type || g->head.type == XS_ERROR);
	return g->payload;
}

uint32_t guest_begin(struct guest *g)
{
	uint32_t tx = (uint32_t)strtoul(ASK(g, 0, XS_TRANSACTION_START, ""), NULL, 10);

	CU_ASSERT_NOT_EQUAL(tx, 0);
	return tx;
}

const char *guest_commit(struct guest *g, uint32_t tx)
{
	return ASK(g, tx, XS_TRANSACTION_END, "T");
}

const char *guest_event(struct guest *g)
{
	return g->next_event < g->nevents ? g->events[g->next_event++] : "";
}

const char *guest_changes(struct guest *g)
{
	static char text[TEXT_SIZE];

	strcpy(text, g->changes);
	*g->changes = '\0';
	return text;
}

int run_tests(const char *suite, CU_TestInfo *tests)
{
	CU_SuiteInfo suites[] = { { .pName = suite, .pTests = tests }, CU_SUITE_INFO_NULL };
	unsigned failures;

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 99;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failures ? 1 : 0;
}
