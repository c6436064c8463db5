/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's end of a XenStore server, for tests: asks, and keeps what comes back. */
#ifndef TESTS_XENSTORE_GUEST_H
#define TESTS_XENSTORE_GUEST_H

#include <CUnit/Basic.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>

#include "common/cleanup.h"
#include "host/sfd/xs_server.h"

#define GUEST_DOMID 5
#define HOME "/local/domain/5"
#define TEXT_SIZE (2 * XENSTORE_PAYLOAD_MAX)
#define GUEST_EVENTS 8192

struct guest {
	struct xs_server *xs;
	uint32_t req_id;	/* of the last request */
	bool answered;
	struct xsd_sockmsg head;	/* of the last answer */
	char payload[XENSTORE_PAYLOAD_MAX + 1];	/* with a zero byte behind it */
	uint64_t bytes;		/* all that came */
	char *events[GUEST_EVENTS];	/* "path token" */
	unsigned nevents;
	unsigned next_event;
	char changes[TEXT_SIZE];	/* what the hook was told: "path=value;" or "path!;" */
	void (*on_change)(struct guest *g, const char *path, const char *value, size_t len);
};

void guest_start(struct guest *g, const struct xs_limits *limits);
void guest_stop(struct guest *g);

/* Becomes the guest of a clone's server, made from the saved state and no longer held. */
void guest_clone(struct guest *g, unsigned domid);
/* The same, still held. */
void guest_clone_held(struct guest *g, unsigned domid);

/* Sends one request. Return: its answer as text: an error's name, or the payload. */
const char *guest_ask(struct guest *g, uint32_t tx, uint32_t type, const void *payload,
		      size_t len);
/* With a literal, whose last zero byte is sent (ASK) or not (PUT: the end of a value). */
#define ASK(g, tx, type, literal) guest_ask(g, tx, type, literal, sizeof(literal))
#define PUT(g, tx, literal) guest_ask(g, tx, XS_WRITE, literal, sizeof(literal) - 1)

/* Return: a new transaction's number. */
uint32_t guest_begin(struct guest *g);
const char *guest_commit(struct guest *g, uint32_t tx);

/* Return: the next event, "path token", or "" if there is none. */
const char *guest_event(struct guest *g);

/* Return: what the hook was told since the last call. */
const char *guest_changes(struct guest *g);

#define IS(expression, text) CU_ASSERT_STRING_EQUAL(expression, text)

/* Runs tests, an array that CUnit ends with CU_TEST_INFO_NULL. Return: main()'s result. */
int run_tests(const char *suite, CU_TestInfo *tests);

#endif
