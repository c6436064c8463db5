/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The doorbell against a guest that is played here: one ring, a flood, an end. */
#define _GNU_SOURCE
#include <CUnit/Basic.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vmm/doorbell.h"

#define FLOOD_MS 100

static struct {
	struct event_base *base;
	struct doorbell *bell;
	int guest;
	unsigned rung;
	bool destroy;
} t;

static void on_rung(void *arg)
{
	(void)arg;
	t.rung++;
	if (t.destroy)
		doorbell_destroy(steal_ptr(&t.bell));
}

static void setup(void)
{
	int ends[2];

	memset(&t, 0, sizeof(t));
	t.base = event_base_new();
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	t.guest = ends[1];
	io_set_nonblock(t.guest, true);
	t.bell = doorbell_create(t.base, ends[0], on_rung, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(t.bell);
}

static void teardown(void)
{
	doorbell_destroy(t.bell);
	cleanup_close(&t.guest);
	event_base_free(t.base);
}

/* Runs the loop until nothing is left to do for now. */
static void run_ms(unsigned ms)
{
	const struct timeval limit = { 0, (suseconds_t)ms * 1000 };

	event_base_loopexit(t.base, &limit);
	event_base_dispatch(t.base);
}

static void every_ring_is_heard(void)
{
	setup();
	for (unsigned i = 1; i <= 5; i++) {
		CU_ASSERT_EQUAL(write(t.guest, "x", 1), 1);
		run_ms(20);
		CU_ASSERT_EQUAL(t.rung, i);
	}
	CU_ASSERT_EQUAL(write(t.guest, "xyz", 3), 3);
	run_ms(20);
	CU_ASSERT_EQUAL(t.rung, 6);
	teardown();
}

static void a_flood_is_heard_now_and_then(void)
{
	uint64_t end_ns;

	setup();
	end_ns = io_now_ns() + FLOOD_MS * 1000000ull;
	while (io_now_ns() < end_ns) {
		while (write(t.guest, "x", 1) == 1)
			;
		event_base_loop(t.base, EVLOOP_NONBLOCK);
	}
	CU_ASSERT(t.rung >= 1 && t.rung <= FLOOD_MS + 1);
	teardown();
}

static void an_end_is_no_ring(void)
{
	setup();
	close(steal_fd(&t.guest));
	run_ms(20);
	CU_ASSERT_EQUAL(t.rung, 0);
	teardown();
}

static void it_may_be_destroyed_when_it_rings(void)
{
	setup();
	t.destroy = true;
	CU_ASSERT_EQUAL(write(t.guest, "x", 1), 1);
	run_ms(20);
	CU_ASSERT_EQUAL(t.rung, 1);
	CU_ASSERT_PTR_NULL(t.bell);
	teardown();
}

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry())
		return 1;
	suite = CU_add_suite("doorbell", NULL, NULL);
	CU_ADD_TEST(suite, every_ring_is_heard);
	CU_ADD_TEST(suite, a_flood_is_heard_now_and_then);
	CU_ADD_TEST(suite, an_end_is_no_ring);
	CU_ADD_TEST(suite, it_may_be_destroyed_when_it_rings);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
