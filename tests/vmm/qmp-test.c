/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP against a peer that is played here: split lines, answers out of order, garbage, too much. */
#define _GNU_SOURCE
#include <CUnit/Basic.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vmm/qmp.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

/* A connection and what came over it. */
static struct {
	struct event_base *base;
	struct qmp *qmp;
	int peer;
	bool destroy_on_event;
	int greeted, events, closed, replies;
	char event[64], why[128], answer[64];
	int error;
} t;

static void on_greeted(void *arg)
{
	(void)arg;
	t.greeted++;
}

static void on_event(void *arg, const char *name, const json_t *data)
{
	(void)arg, (void)data;
	t.events++;
	snprintf(t.event, sizeof(t.event), "%s", name);
	if (t.destroy_on_event)
		qmp_destroy(steal_ptr(&t.qmp));
}

static void on_closed(void *arg, const char *why)
{
	(void)arg;
	t.closed++;
	snprintf(t.why, sizeof(t.why), "%s", why);
}

static void on_reply(void *arg, int error, const char *why, const json_t *ret)
{
	const char *word = json_string_value(json_object_get(ret, "word"));

	(void)arg;
	t.replies++;
	t.error = error;
	snprintf(t.answer, sizeof(t.answer), "%s", error ? why : word ? word : "");
}

static const struct qmp_handler handler = { on_greeted, on_event, on_closed };

static void setup(void)
{
	int ends[2];

	memset(&t, 0, sizeof(t));
	t.base = event_base_new();
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	t.peer = ends[1];
	t.qmp = qmp_create(t.base, ends[0], &handler, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(t.qmp);
}

static void teardown(void)
{
	qmp_destroy(t.qmp);
	if (t.peer >= 0)
		close(t.peer);
	event_base_free(t.base);
}

static void run(void)
{
	event_base_loop(t.base, EVLOOP_NONBLOCK);
	event_base_loop(t.base, EVLOOP_NONBLOCK);
}

static void say(const char *text)
{
	CU_ASSERT_EQUAL(io_write_full(t.peer, text, strlen(text)), 0);
	run();
}

/* What the peer received, as a string. */
static const char *heard(void)
{
	static char text[4096];
	ssize_t got = recv(t.peer, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[got > 0 ? got : 0] = 0;
	return text;
}

static void nothing_is_said_before_the_greeting(void)
{
	setup();
	CU_ASSERT_EQUAL(qmp_call(t.qmp, "query-status", NULL, -1, on_reply, NULL), 0);
	run();
	CU_ASSERT_STRING_EQUAL(heard(), "");
	say(GREETING);
	CU_ASSERT_EQUAL(t.greeted, 1);
	CU_ASSERT_STRING_EQUAL(heard(), "{\"execute\":\"qmp_capabilities\",\"id\":1}\n"
					"{\"execute\":\"query-status\",\"id\":2}\n");
	teardown();
}

static void lines_may_come_in_pieces_or_together(void)
{
	const char *text = GREETING "{\"return\": {}, \"id\": 1}\r\n"
			   "{\"event\": \"STOP\", \"timestamp\": {}}\r\n"
			   "{\"event\": \"RESUME\"}\r\n"
			   "{\"return\": {\"word\": \"hi\"}, \"id\": 2}\r\n";

	for (size_t step = 1; step < strlen(text); step += 7) {
		setup();
		qmp_call(t.qmp, "x", NULL, -1, on_reply, NULL);
		for (size_t at = 0; at < strlen(text); at += step) {
			size_t left = strlen(text) - at;

			io_write_full(t.peer, text + at, left < step ? left : step);
			run();
		}
		CU_ASSERT_EQUAL(t.events, 2);
		CU_ASSERT_STRING_EQUAL(t.event, "RESUME");
		CU_ASSERT_EQUAL(t.replies, 1);
		CU_ASSERT_STRING_EQUAL(t.answer, "hi");
		CU_ASSERT_EQUAL(t.closed, 0);
		teardown();
	}
}

static void answers_find_their_call(void)
{
	setup();
	say(GREETING "{\"return\": {}, \"id\": 1}\n");
	qmp_call(t.qmp, "a", json_pack("{s:i}", "n", 1), -1, NULL, NULL);
	qmp_call(t.qmp, "b", NULL, -1, on_reply, NULL);
	CU_ASSERT_PTR_NOT_NULL(strstr(heard(), "\"arguments\":{\"n\":1}"));
	say("{\"return\": {\"word\": \"b\"}, \"id\": 3}\n");
	CU_ASSERT_STRING_EQUAL(t.answer, "b");
	qmp_call(t.qmp, "c", NULL, -1, on_reply, NULL);
	say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no way\"}, \"id\": 4}\n");
	CU_ASSERT_EQUAL(t.error, -EIO);
	CU_ASSERT_STRING_EQUAL(t.answer, "no way");
	CU_ASSERT_EQUAL(t.replies, 2);
	teardown();
}

static void a_descriptor_goes_along(void)
{
	char text[256];
	unsigned nfds = 0;
	struct stat ours, theirs;
	int fd = -1;
	ssize_t got;

	setup();
	say(GREETING);
	heard();
	CU_ASSERT_EQUAL(qmp_call(t.qmp, "getfd", NULL, STDIN_FILENO, NULL, NULL), 0);
	got = io_recv_fds(t.peer, text, sizeof(text), &fd, 1, &nfds);
	CU_ASSERT_TRUE(got > 0);
	CU_ASSERT_EQUAL_FATAL(nfds, 1);
	CU_ASSERT_TRUE(!fstat(STDIN_FILENO, &ours) && !fstat(fd, &theirs));
	CU_ASSERT_EQUAL(ours.st_ino, theirs.st_ino);
	close(fd);
	teardown();
}

static void expect_broken(const char *text)
{
	setup();
	say(GREETING);
	qmp_call(t.qmp, "x", NULL, -1, on_reply, NULL);
	say(text);
	CU_ASSERT_EQUAL(t.closed, 1);
	CU_ASSERT_EQUAL(t.replies, 1);
	CU_ASSERT_EQUAL(t.error, -EPIPE);
	CU_ASSERT_NOT_EQUAL(t.why[0], 0);
	CU_ASSERT_EQUAL(qmp_call(t.qmp, "y", json_object(), -1, on_reply, NULL), -EPIPE);
	teardown();
}

static void garbage_ends_the_connection(void)
{
	expect_broken("hello\n");
	expect_broken("\n");
	expect_broken("[1, 2]\n");
	expect_broken("{}\n");
	expect_broken("{\"event\": 5}\n");
	expect_broken("{\"return\": {}, \"id\": 99}\n");
	expect_broken("{\"return\": {}, \"id\": \"2\"}\n");
	expect_broken("{\"return\": {}, \"return\": {}, \"id\": 2}\n");
	expect_broken("{\"error\": {}}\n");
}

static void a_line_that_is_too_long_ends_the_connection(void)
{
	_cleanup_free_ char *much = malloc(QMP_MAX_LINE + 1);

	memset(much, ' ', QMP_MAX_LINE);
	much[QMP_MAX_LINE] = 0;
	setup();
	say(GREETING);
	for (size_t at = 0; at < QMP_MAX_LINE; at += 16384) {
		CU_ASSERT_EQUAL(t.closed, 0);
		io_write_full(t.peer, much + at, 16384);
		run();
	}
	CU_ASSERT_EQUAL(t.closed, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(t.why, "too long"));
	teardown();
}

static void a_peer_that_hangs_up_answers_every_call(void)
{
	setup();
	say(GREETING);
	qmp_call(t.qmp, "x", NULL, -1, on_reply, NULL);
	qmp_call(t.qmp, "y", NULL, -1, on_reply, NULL);
	close(steal_fd(&t.peer));
	run();
	CU_ASSERT_EQUAL(t.replies, 2);
	CU_ASSERT_EQUAL(t.closed, 1);
	teardown();

	setup();
	say("{\"event\": \"STOP\"}\n");
	CU_ASSERT_EQUAL(t.closed, 1);
	CU_ASSERT_EQUAL(t.events, 0);
	teardown();
}

static void it_may_be_destroyed_in_a_callback(void)
{
	setup();
	t.destroy_on_event = true;
	qmp_call(t.qmp, "x", NULL, -1, on_reply, NULL);
	say(GREETING "{\"event\": \"A\"}\n{\"event\": \"B\"}\n");
	CU_ASSERT_EQUAL(t.events, 1);
	CU_ASSERT_EQUAL(t.replies, 0);
	CU_ASSERT_EQUAL(t.closed, 0);
	CU_ASSERT_PTR_NULL(t.qmp);
	teardown();
}

/* A peer that does not read: calls wait for room, in order, and all arrive. */
static void many_calls_wait_for_room(void)
{
	char text[65536];
	size_t lines = 0;
	ssize_t got;

	setup();
	say(GREETING);
	for (int i = 0; i < 5000; i++)
		qmp_call(t.qmp, "query-status", NULL, -1, NULL, NULL);
	for (int idle = 0; idle < 2; run()) {
		got = recv(t.peer, text, sizeof(text), MSG_DONTWAIT);
		idle = got > 0 ? 0 : idle + 1;
		for (ssize_t i = 0; i < got; i++)
			lines += text[i] == '\n';
	}
	CU_ASSERT_EQUAL(lines, 5001);
	teardown();
}

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry())
		return 1;
	suite = CU_add_suite("qmp", NULL, NULL);
	CU_ADD_TEST(suite, nothing_is_said_before_the_greeting);
	CU_ADD_TEST(suite, lines_may_come_in_pieces_or_together);
	CU_ADD_TEST(suite, answers_find_their_call);
	CU_ADD_TEST(suite, a_descriptor_goes_along);
	CU_ADD_TEST(suite, garbage_ends_the_connection);
	CU_ADD_TEST(suite, a_line_that_is_too_long_ends_the_connection);
	CU_ADD_TEST(suite, a_peer_that_hangs_up_answers_every_call);
	CU_ADD_TEST(suite, it_may_be_destroyed_in_a_callback);
	CU_ADD_TEST(suite, many_calls_wait_for_room);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
