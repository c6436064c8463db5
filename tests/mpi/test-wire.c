/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: put together, taken apart, and those that cannot be. */
#define _GNU_SOURCE
#include "mpi-shim/wire.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"

static int ends[2];

static void set_up(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
}

static void tear_down(void)
{
	close(ends[0]);
	close(ends[1]);
}

static void a_frame_arrives_as_it_was_sent(void)
{
	_cleanup_free_ uint8_t *payload = NULL;
	_cleanup_free_ char **strings = NULL;
	struct wire_payload sent = { 0 };
	struct mpi_frame frame;
	size_t count;

	wire_add_string(&sent, "one");
	wire_add_string(&sent, "");
	CU_ASSERT_EQUAL(wire_send(ends[0], MPI_LOST, 7, &sent), 0);
	wire_free(&sent);
	CU_ASSERT_EQUAL(wire_receive(ends[1], &frame, &payload), 0);
	CU_ASSERT(frame.type == MPI_LOST && frame.number == 7 && frame.length == 5);
	strings = wire_strings(payload, frame.length, &count);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strings);
	CU_ASSERT_EQUAL(count, 2);
	CU_ASSERT_STRING_EQUAL(strings[0], "one");
	CU_ASSERT_STRING_EQUAL(strings[1], "");
	CU_ASSERT_PTR_NULL(strings[2]);
}

static void strings_must_end(void)
{
	static uint8_t many[MPI_MAX_STRINGS + 1];
	_cleanup_free_ char **none = NULL, **most = NULL;
	size_t count;

	CU_ASSERT_PTR_NULL(wire_strings((const uint8_t *)"ab", 2, &count));
	CU_ASSERT_EQUAL(errno, EPROTO);
	none = wire_strings(many, 0, &count);
	CU_ASSERT(none && !count);
	most = wire_strings(many, MPI_MAX_STRINGS, &count);
	CU_ASSERT(most && count == MPI_MAX_STRINGS);
	CU_ASSERT_PTR_NULL(wire_strings(many, MPI_MAX_STRINGS + 1, &count));
}

static void too_much_is_not_sent(void)
{
	_cleanup_free_ char *much = calloc(1, MPI_MAX_FRAME);
	struct wire_payload payload = { 0 };

	wire_add(&payload, much, MPI_MAX_FRAME);
	CU_ASSERT_EQUAL(payload.error, 0);
	wire_add(&payload, "x", 1);
	CU_ASSERT_EQUAL(payload.error, -EMSGSIZE);
	CU_ASSERT_EQUAL(payload.len, MPI_MAX_FRAME);
	CU_ASSERT_EQUAL(wire_send(ends[0], MPI_WANT, 0, &payload), -EMSGSIZE);
	wire_free(&payload);
}

static int never(void *owner, const struct mpi_frame *frame, const uint8_t *payload)
{
	(void)owner;
	(void)frame;
	(void)payload;
	return -ECANCELED;
}

static void impossible_frames_are_refused(void)
{
	static const struct mpi_frame frames[] = {
		{ .type = MPI_WANT, .length = MPI_MAX_FRAME + 1 },
		{ .type = 0 },
		{ .type = MPI_TYPES },
		{ .type = MPI_WANT, .reserved = 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		struct wire wire = { .sock = ends[1] };
		struct mpi_frame frame;
		uint8_t *payload;

		for (int n = 0; n < 2; n++)
			CU_ASSERT(write(ends[0], &frames[i], sizeof(frame)) == sizeof(frame));
		CU_ASSERT_EQUAL(wire_receive(ends[1], &frame, &payload), -EPROTO);
		CU_ASSERT_EQUAL(wire_read(&wire, never, NULL), -EPROTO);
		wire_fini(&wire);
	}
}

static int collect(void *owner, const struct mpi_frame *frame, const uint8_t *payload)
{
	unsigned *sum = owner;

	for (uint32_t i = 0; i < frame->length; i++)
		*sum += payload[i];
	*sum += frame->number * 1000;
	return 0;
}

static void frames_come_in_pieces(void)
{
	const struct mpi_frame head = { .type = MPI_OUTPUT, .number = 3, .length = 2 };
	struct wire wire = { .sock = ends[1] };
	uint8_t bytes[sizeof(head) + 2];
	unsigned sum = 0;

	memcpy(bytes, &head, sizeof(head));
	memcpy(bytes + sizeof(head), "\1\2", 2);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		CU_ASSERT_EQUAL(sum, 0);
		CU_ASSERT_EQUAL(write(ends[0], bytes + i, 1), 1);
		CU_ASSERT_EQUAL(wire_read(&wire, collect, &sum), 0);
	}
	CU_ASSERT_EQUAL(sum, 3003);
	close(ends[0]);
	CU_ASSERT_EQUAL(wire_read(&wire, collect, &sum), -EPIPE);
	wire_fini(&wire);
}

static void what_does_not_go_is_kept(void)
{
	struct wire out = { .sock = ends[0] }, in = { .sock = ends[1] };
	_cleanup_free_ char *much = calloc(1, 1 << 20);
	unsigned sum = 0;

	for (unsigned i = 0; i < 4; i++) {
		struct wire_payload payload = { 0 };

		wire_add(&payload, much, 1 << 20);
		CU_ASSERT_EQUAL(wire_queue(&out, MPI_OUTPUT, 1, &payload), 0);
		wire_free(&payload);
	}
	CU_ASSERT(out.out_len > 0);
	while (out.out_len) {
		CU_ASSERT_EQUAL_FATAL(wire_read(&in, collect, &sum), 0);
		CU_ASSERT_EQUAL_FATAL(wire_flush(&out), 0);
	}
	while (sum < 4000)
		CU_ASSERT_EQUAL_FATAL(wire_read(&in, collect, &sum), 0);
	CU_ASSERT_EQUAL(sum, 4000);
	wire_fini(&out);
	wire_fini(&in);
}

static CU_TestInfo tests[] = {
	{ "a frame arrives as it was sent", a_frame_arrives_as_it_was_sent },
	{ "strings must end", strings_must_end },
	{ "too much is not sent", too_much_is_not_sent },
	{ "impossible frames are refused", impossible_frames_are_refused },
	{ "frames come in pieces", frames_come_in_pieces },
	{ "what does not go is kept", what_does_not_go_is_kept },
	CU_TEST_INFO_NULL,
};

static CU_SuiteInfo suites[] = {
	{ "wire", NULL, NULL, set_up, tear_down, tests },
	CU_SUITE_INFO_NULL,
};

int main(void)
{
	unsigned failed;

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
