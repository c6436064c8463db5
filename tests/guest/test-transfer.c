/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files in, results in and out. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "harness.h"

static void put(struct guest *g, uint32_t stream, const char *path, uint32_t mode, uint64_t length)
{
	uint8_t buf[512] = { 0 };
	struct agent_put head = { .mode = mode, .length = length };

	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), path, strlen(path) + 1);
	guest_send(g, AGENT_PUT, 0, stream, buf, sizeof(head) + strlen(path) + 1);
}

static int stored(struct guest *g, uint32_t stream)
{
	do {
		guest_receive(g);
	} while (g->frame.type == AGENT_CREDIT);
	CU_ASSERT_EQUAL_FATAL(g->frame.type, AGENT_STORED);
	CU_ASSERT_EQUAL_FATAL(g->frame.stream, stream);
	return ((struct agent_status *)g->payload)->value;
}

static void a_file_is_put_whole(void)
{
	static char piece[AGENT_MAX_DATA];
	struct guest *g = guest_boot(0);
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b/file", g->dir);
	put(g, 1, path, 0750, 20 * sizeof(piece));
	for (int i = 0; i < 19; i++)
		guest_send(g, AGENT_DATA, AGENT_STDIN, 1, piece, sizeof(piece));
	CU_ASSERT_TRUE(guest_speaks(g, GUEST_WAIT_MS));
	CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, piece, sizeof(piece));
	CU_ASSERT_EQUAL(stored(g, 1), 0);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, 20 * sizeof(piece));
	CU_ASSERT_EQUAL(st.st_mode & 07777, 0750);
	put(g, 2, path, 0600, 0);
	CU_ASSERT_EQUAL(stored(g, 2), 0);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, 0);
	guest_stop(g);
}

static void bad_paths_are_refused(void)
{
	struct guest *g = guest_boot(0);
	char path[128];

	put(g, 1, "relative", 0600, 5);
	CU_ASSERT_EQUAL(stored(g, 1), EINVAL);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, "12345", 5);	/* crossed the refusal */
	put(g, 2, "/dev/null/x", 0600, 5);
	CU_ASSERT_EQUAL(stored(g, 2), ENOTDIR);
	snprintf(path, sizeof(path), "%s/result", g->dir);
	put(g, 3, path, 0600, 1);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 3, "1", 1);
	CU_ASSERT_EQUAL(stored(g, 3), EISDIR);
	snprintf(path, sizeof(path), "%s/given-up", g->dir);
	put(g, 4, path, 0600, 5);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 4, "123", 3);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 4, NULL, 0);
	CU_ASSERT_EQUAL(stored(g, 4), ECANCELED);
	CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
	guest_stop(g);
}

static void more_than_promised_ends_the_agent(void)
{
	struct guest *g = guest_boot(0);
	char path[128];

	snprintf(path, sizeof(path), "%s/file", g->dir);
	put(g, 1, path, 0600, 2);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, "123", 3);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

/* Asks the agent as libsf would. Return: the connection. */
static int ask(struct guest *g, uint32_t op, uint64_t value, int fd)
{
	struct agent_sock_request request = { .op = op, .value = value };
	int sock = sock_connect(g);

	CU_ASSERT_EQUAL_FATAL(io_send_fds(sock, &request, sizeof(request), &fd, fd >= 0), 0);
	return sock;
}

static int answer(int sock)
{
	struct agent_sock_reply reply = { .error = -1 };

	CU_ASSERT_EQUAL(recv(sock, &reply, sizeof(reply), 0), sizeof(reply));
	close(sock);
	return reply.error;
}

static void results_are_files(void)
{
	struct guest *g = guest_boot(0);
	struct agent_result result = { .ticket = 7, .id = 3, .length = 5 };
	char path[128], *data;
	size_t len;

	guest_send(g, AGENT_RESULT, 0, 9, &result, sizeof(result));
	guest_send(g, AGENT_DATA, AGENT_STDIN, 9, "54321", 5);
	CU_ASSERT_EQUAL(stored(g, 9), 0);
	snprintf(path, sizeof(path), "%s/result/7.3", g->dir);
	CU_ASSERT_EQUAL_FATAL(io_read_file(path, 100, &data, &len), 0);
	CU_ASSERT_STRING_EQUAL(data, "54321");
	free(data);
	result.ticket = 70;
	guest_send(g, AGENT_RESULT, 0, 9, &result, sizeof(result));
	guest_send(g, AGENT_DATA, AGENT_STDIN, 9, "54321", 5);
	CU_ASSERT_EQUAL(stored(g, 9), 0);
	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_FORGET, 7, -1)), 0);
	CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/result/70.3", g->dir);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	guest_stop(g);
}

static int make_file(size_t bytes)
{
	int fd = memfd_create("result", MFD_CLOEXEC);

	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void a_clone_sends_its_result(void)
{
	enum { BYTES = 1000000 };
	struct guest *g = guest_boot(0);
	struct agent_status fine = { .value = 0 }, full = { .value = ENOSPC };
	int fd = make_file(BYTES), first, second;
	size_t got = 0;
	uint32_t stream;

	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_RESULT, 5, fd)), EPERM);
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 2, 0);

	first = ask(g, AGENT_SOCK_RESULT, BYTES, fd);
	second = ask(g, AGENT_SOCK_RESULT, 3, fd);
	guest_receive(g);
	CU_ASSERT_EQUAL_FATAL(g->frame.type, AGENT_RESULT);
	CU_ASSERT_EQUAL(((struct agent_result *)g->payload)->length, BYTES);
	stream = g->frame.stream;
	CU_ASSERT_TRUE(stream & AGENT_STREAM_OF_AGENT);
	while (got < BYTES) {
		struct agent_credit credit;

		guest_expect(g, AGENT_DATA, stream);
		got += credit.bytes = g->frame.length;
		guest_send(g, AGENT_CREDIT, AGENT_STDIN, stream, &credit, sizeof(credit));
	}
	CU_ASSERT_FALSE(client_hears(first, 50));
	guest_send(g, AGENT_STORED, 0, stream, &fine, sizeof(fine));
	CU_ASSERT_EQUAL(answer(first), 0);
	guest_receive(g);
	CU_ASSERT_EQUAL(g->frame.type, AGENT_RESULT);
	CU_ASSERT_NOT_EQUAL(g->frame.stream, stream);
	guest_send(g, AGENT_STORED, 0, g->frame.stream, &full, sizeof(full));
	CU_ASSERT_EQUAL(answer(second), ENOSPC);
	close(fd);
	guest_stop(g);
}

static void bad_requests_of_libsf(void)
{
	struct guest *g = guest_boot(0);
	int fd = make_file(10);

	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 2, 0);
	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_RESULT, 5, -1)), EBADF);
	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_RESULT, 11, fd)), EINVAL);
	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_RESULT, AGENT_MAX_RESULT + 1, fd)), EFBIG);
	CU_ASSERT_EQUAL(answer(ask(g, 77, 0, -1)), EINVAL);
	CU_ASSERT_EQUAL(answer(ask(g, AGENT_SOCK_ARRIVED, 3, -1)), EINVAL);
	close(fd);
	guest_stop(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "a file is put whole", a_file_is_put_whole },
		{ "bad paths are refused", bad_paths_are_refused },
		{ "more than promised ends the agent", more_than_promised_ends_the_agent },
		{ "results are files", results_are_files },
		{ "a clone sends its result", a_clone_sends_its_result },
		{ "bad requests of libsf", bad_requests_of_libsf },
		CU_TEST_INFO_NULL
	};

	return run_suite("transfers", tests);
}
