/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many XenStore clients through one port. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static void answers_reach_who_asked(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g), b = client_connect(g);
	struct xsd_sockmsg first;

	client_send(a, XS_READ, 7, 0, "a", 2);
	guest_xs_receive(g);
	first = g->head;
	client_send(b, XS_READ, 7, 0, "b", 2);
	guest_xs_receive(g);
	CU_ASSERT_STRING_EQUAL(g->body, "b");
	CU_ASSERT_NOT_EQUAL(g->head.req_id, first.req_id);
	/* answered in the other order */
	guest_xs_send(g, XS_READ, g->head.req_id, 0, "of b", 4);
	guest_xs_send(g, XS_READ, first.req_id, 0, "of a", 4);
	client_receive(g, a);
	CU_ASSERT_EQUAL(g->head.req_id, 7);
	CU_ASSERT_STRING_EQUAL(g->body, "of a");
	client_receive(g, b);
	CU_ASSERT_STRING_EQUAL(g->body, "of b");
	close(a);
	close(b);
	guest_stop(g);
}

static void many_requests_of_many_clients(void)
{
	enum { CLIENTS = 40, EACH = 30 };
	struct guest *g = guest_boot(0);
	int fds[CLIENTS];
	char body[32];

	for (int c = 0; c < CLIENTS; c++) {
		fds[c] = client_connect(g);
		for (unsigned i = 0; i < EACH; i++) {
			snprintf(body, sizeof(body), "%d/%u", c, i);
			client_send(fds[c], XS_READ, i, 0, body, strlen(body) + 1);
		}
	}
	for (int i = 0; i < CLIENTS * EACH; i++) {
		guest_xs_receive(g);
		guest_xs_send(g, XS_READ, g->head.req_id, 0, g->body, g->head.len);
	}
	for (int c = 0; c < CLIENTS; c++) {
		for (unsigned i = 0; i < EACH; i++) {
			client_receive(g, fds[c]);
			snprintf(body, sizeof(body), "%d/%u", c, i);
			CU_ASSERT_EQUAL(g->head.req_id, i);
			CU_ASSERT_STRING_EQUAL(g->body, body);
		}
		close(fds[c]);
	}
	guest_stop(g);
}

static void watch_tokens_are_the_clients_own(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g), b = client_connect(g);
	char token_a[64], event[128];
	int len;

	client_send(a, XS_WATCH, 1, 0, "path\0token", 11);
	guest_xs_receive(g);
	CU_ASSERT_STRING_EQUAL(g->body, "path");
	snprintf(token_a, sizeof(token_a), "%s", g->body + 5);
	CU_ASSERT_STRING_NOT_EQUAL(token_a, "token");
	guest_xs_send(g, XS_WATCH, g->head.req_id, 0, "OK", 3);
	client_receive(g, a);
	client_send(b, XS_WATCH, 1, 0, "path\0token", 11);
	guest_xs_receive(g);
	CU_ASSERT_STRING_NOT_EQUAL(g->body + 5, token_a);
	guest_xs_send(g, XS_WATCH, g->head.req_id, 0, "OK", 3);
	client_receive(g, b);

	len = snprintf(event, sizeof(event), "path/x%c%s", 0, token_a) + 1;
	guest_xs_send(g, XS_WATCH_EVENT, 0, 0, event, (size_t)len);
	client_receive(g, a);
	CU_ASSERT_EQUAL(g->head.type, XS_WATCH_EVENT);
	CU_ASSERT_EQUAL(g->head.len, 13);
	CU_ASSERT_STRING_EQUAL(g->body, "path/x");
	CU_ASSERT_STRING_EQUAL(g->body + 7, "token");
	CU_ASSERT_FALSE(client_hears(b, 50));

	client_send(a, XS_UNWATCH, 2, 0, "path\0token", 11);
	guest_xs_receive(g);
	CU_ASSERT_EQUAL(g->head.type, XS_UNWATCH);
	CU_ASSERT_STRING_EQUAL(g->body + 5, token_a);
	guest_xs_send(g, XS_UNWATCH, g->head.req_id, 0, "OK", 3);
	client_receive(g, a);
	/* nothing of a's is left, something of b's is */
	close(a);
	close(b);
	guest_xs_receive(g);
	CU_ASSERT_EQUAL(g->head.type, XS_UNWATCH);
	CU_ASSERT_STRING_NOT_EQUAL(g->body + 5, token_a);
	guest_stop(g);
}

static void long_tokens_are_refused(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g);
	char body[XENSTORE_PAYLOAD_MAX];

	memset(body, 'x', sizeof(body));
	body[4] = body[sizeof(body) - 1] = 0;
	client_send(a, XS_WATCH, 9, 0, body, sizeof(body));
	client_receive(g, a);
	CU_ASSERT_EQUAL(g->head.type, XS_ERROR);
	CU_ASSERT_EQUAL(g->head.req_id, 9);
	CU_ASSERT_STRING_EQUAL(g->body, "E2BIG");
	client_send(a, XS_WATCH, 9, 0, "no token", 9);
	client_receive(g, a);
	CU_ASSERT_STRING_EQUAL(g->body, "EINVAL");
	close(a);
	guest_stop(g);
}

static void transactions_end_with_their_client(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g), b = client_connect(g);

	client_send(a, XS_TRANSACTION_START, 1, 0, "", 1);
	guest_xs_answer(g, XS_TRANSACTION_START, "41");
	client_receive(g, a);
	CU_ASSERT_STRING_EQUAL(g->body, "41");
	/* another's transaction is nobody's */
	client_send(b, XS_READ, 1, 41, "x", 2);
	client_receive(g, b);
	CU_ASSERT_EQUAL(g->head.type, XS_ERROR);
	CU_ASSERT_STRING_EQUAL(g->body, "ENOENT");
	/* one that ended is over */
	client_send(a, XS_TRANSACTION_START, 1, 0, "", 1);
	guest_xs_answer(g, XS_TRANSACTION_START, "42");
	client_receive(g, a);
	client_send(a, XS_TRANSACTION_END, 1, 42, "T", 2);
	guest_xs_answer(g, XS_TRANSACTION_END, "OK");
	client_receive(g, a);
	/* one that is being begun as its client goes */
	client_send(a, XS_TRANSACTION_START, 1, 0, "", 1);
	guest_xs_receive(g);
	close(a);
	guest_xs_send(g, XS_TRANSACTION_START, g->head.req_id, 0, "43", 3);
	for (int i = 0; i < 2; i++) {
		guest_xs_receive(g);
		CU_ASSERT_EQUAL(g->head.type, XS_TRANSACTION_END);
		CU_ASSERT_STRING_EQUAL(g->body, "F");
		CU_ASSERT_TRUE(g->head.tx_id == 41 || g->head.tx_id == 43);
		guest_xs_send(g, XS_TRANSACTION_END, g->head.req_id, g->head.tx_id, "OK", 3);
	}
	/* the others go on */
	client_send(b, XS_READ, 5, 0, "x", 2);
	guest_xs_answer(g, XS_READ, "y");
	client_receive(g, b);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	close(b);
	guest_stop(g);
}

static void reset_is_for_one_client(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g);

	client_send(a, XS_WATCH, 1, 0, "p\0t", 4);
	guest_xs_answer(g, XS_WATCH, "OK");
	client_receive(g, a);
	client_send(a, XS_RESET_WATCHES, 2, 0, "", 1);
	guest_xs_answer(g, XS_UNWATCH, "OK");
	client_receive(g, a);
	CU_ASSERT_EQUAL(g->head.type, XS_RESET_WATCHES);
	CU_ASSERT_EQUAL(g->head.req_id, 2);
	client_send(a, XS_READ, 3, 0, "x", 2);
	guest_xs_answer(g, XS_READ, "y");
	client_receive(g, a);
	CU_ASSERT_EQUAL(g->head.req_id, 3);
	close(a);
	guest_stop(g);
}

static void garbage_ends_its_client_alone(void)
{
	struct guest *g = guest_boot(0);
	struct xsd_sockmsg huge = { XS_READ, 1, 0, XENSTORE_PAYLOAD_MAX + 1 };
	int a = client_connect(g), b = client_connect(g);
	char c;

	CU_ASSERT_EQUAL(write(a, &huge, sizeof(huge)), sizeof(huge));
	CU_ASSERT_TRUE(client_hears(a, GUEST_WAIT_MS));
	CU_ASSERT_EQUAL(read(a, &c, 1), 0);
	client_send(b, XS_READ, 5, 0, "x", 2);
	guest_xs_answer(g, XS_READ, "y");
	client_receive(g, b);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	close(a);
	close(b);
	guest_stop(g);
}

static void a_client_that_does_not_read_is_dropped(void)
{
	enum { EVENTS = 1000 };
	static char event[XENSTORE_PAYLOAD_MAX];
	struct guest *g = guest_boot(0);
	int a = client_connect(g), b = client_connect(g);
	size_t token;

	client_send(a, XS_WATCH, 1, 0, "p\0t", 4);
	guest_xs_receive(g);
	token = g->head.len - 2;
	memset(event, 'p', sizeof(event));
	event[sizeof(event) - token - 1] = 0;
	memcpy(event + sizeof(event) - token, g->body + 2, token);
	guest_xs_send(g, XS_WATCH, g->head.req_id, 0, "OK", 3);
	for (int i = 0; i < EVENTS; i++)
		guest_xs_send(g, XS_WATCH_EVENT, 0, 0, event, sizeof(event));
	guest_xs_answer(g, XS_UNWATCH, "OK");
	client_send(b, XS_READ, 5, 0, "x", 2);
	guest_xs_answer(g, XS_READ, "y");
	client_receive(g, b);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	close(a);
	close(b);
	guest_stop(g);
}

static void a_server_that_makes_no_sense_ends_the_agent(void)
{
	struct guest *g = guest_boot(0);

	guest_xs_send(g, XS_READ, 12345, 0, "x", 2);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "answers reach who asked", answers_reach_who_asked },
		{ "many requests of many clients", many_requests_of_many_clients },
		{ "watch tokens are the client's own", watch_tokens_are_the_clients_own },
		{ "long tokens are refused", long_tokens_are_refused },
		{ "transactions end with their client", transactions_end_with_their_client },
		{ "XS_RESET_WATCHES is for one client", reset_is_for_one_client },
		{ "garbage ends its client alone", garbage_ends_its_client_alone },
		{ "a client that does not read is dropped",
		  a_client_that_does_not_read_is_dropped },
		{ "a server that makes no sense ends the agent",
		  a_server_that_makes_no_sense_ends_the_agent },
		CU_TEST_INFO_NULL
	};

	return run_suite("xenstore multiplexer", tests);
}
