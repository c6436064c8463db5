/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Getting quiet, and going on as the parent and as a clone. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define ROOM (1u << 20)

static char out[ROOM], err[ROOM];

static void quiet_waits_for_answers(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g), b = client_connect(g);
	const struct agent_quiesce *quiesced;
	struct agent_quiesce quiesce = { .op = 3 };
	uint64_t received;

	client_send(a, XS_READ, 1, 0, "x", 2);
	guest_xs_receive(g);
	received = sizeof(g->head) + g->head.len;
	/* the answer and an event are still to come as the host asks */
	quiesce.xs_sent = 2 * sizeof(struct xsd_sockmsg) + 2 + 4;
	guest_send(g, AGENT_QUIESCE, 0, 0, &quiesce, sizeof(quiesce));
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	client_send(b, XS_READ, 2, 0, "late", 5);
	guest_xs_send(g, XS_READ, g->head.req_id, 0, "y", 2);
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	guest_xs_send(g, XS_WATCH_EVENT, 0, 0, "p\0t", 4);
	quiesced = guest_expect(g, AGENT_QUIESCED, 0);
	CU_ASSERT_EQUAL(quiesced->op, 3);
	CU_ASSERT_EQUAL(quiesced->xs_sent, received);
	client_receive(g, a);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	CU_ASSERT_FALSE(client_hears(g->xs, 50));
	guest_resume(g, 3, 0, 0);
	guest_xs_answer(g, XS_READ, "on time");
	client_receive(g, b);
	CU_ASSERT_STRING_EQUAL(g->body, "on time");
	close(a);
	close(b);
	guest_stop(g);
}

static void answers_may_cross_the_question(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g);

	client_send(a, XS_READ, 1, 0, "x", 2);
	guest_xs_receive(g);
	guest_quiesce(g, 1);	/* its count is without the answer */
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	guest_xs_send(g, XS_READ, g->head.req_id, 0, "y", 2);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 0, 0);
	client_receive(g, a);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	close(a);
	guest_stop(g);
}

static void giving_up_before_it_is_quiet(void)
{
	struct guest *g = guest_boot(0);
	int a = client_connect(g);

	client_send(a, XS_READ, 1, 0, "x", 2);
	guest_xs_receive(g);
	guest_quiesce(g, 4);
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	guest_resume(g, 4, 0, 0);
	guest_xs_send(g, XS_READ, g->head.req_id, 0, "y", 2);
	client_receive(g, a);
	CU_ASSERT_STRING_EQUAL(g->body, "y");
	guest_quiesce(g, 5);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 5, 0, 0);
	close(a);
	guest_stop(g);
}

static void frames_out_of_turn_end_the_agent(void)
{
	struct guest *g = guest_boot(0);

	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_quiesce(g, 2);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
	g = guest_start();
	guest_expect(g, AGENT_HELLO, 0);
	guest_exec(g, 1, 0, "true", NULL);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

static void the_parent_sends_what_was_printed(void)
{
	struct guest *g = guest_boot(0);
	char fifo[64];
	int gate;

	snprintf(fifo, sizeof(fifo), "%s/gate", g->dir);
	CU_ASSERT_EQUAL_FATAL(mkfifo(fifo, 0600), 0);
	guest_exec(g, 1, 0, "sh", "-c", "printf one; read x < $0; printf two", fifo, NULL);
	guest_expect(g, AGENT_DATA, 1);
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	gate = open(fifo, O_WRONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(write(gate, "\n", 1), 1);
	close(gate);
	CU_ASSERT_FALSE(guest_speaks(g, 100));
	guest_resume(g, 1, 0, 0);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	CU_ASSERT_STRING_EQUAL(out, "two");
	guest_stop(g);
}

/* The window is full with output of before the clone; only what comes after it is the clone's. */
static void a_clone_sends_only_its_own(void)
{
	struct guest *g = guest_boot(0);
	char fifo[64];
	size_t got = 0;
	int gate, status;

	snprintf(fifo, sizeof(fifo), "%s/gate", g->dir);
	CU_ASSERT_EQUAL_FATAL(mkfifo(fifo, 0600), 0);
	guest_exec(g, 1, 0, "sh", "-c",
		   "head -c $1 /dev/zero; read x < $0; printf two; cat; exit 9", fifo, "300000",
		   NULL);
	while (got < AGENT_WINDOW) {
		guest_expect(g, AGENT_DATA, 1);
		got += g->frame.length;
	}
	CU_ASSERT_FALSE(guest_speaks(g, 100));
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 2, 0);
	gate = open(fifo, O_WRONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(write(gate, "\n", 1), 1);
	close(gate);
	/* cat ends: standard input is at its end */
	status = guest_output(g, 1, out, err, ROOM);
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 9);
	CU_ASSERT_STRING_EQUAL(out, "two");
	guest_stop(g);
}

static void a_clone_forgets_puts(void)
{
	struct guest *g = guest_boot(0);
	struct { struct agent_put head; char path[64]; } put = { .head = { 0600, 0, 10 } };

	snprintf(put.path, sizeof(put.path), "%s/file", g->dir);
	guest_send(g, AGENT_PUT, 0, 5, &put, sizeof(put.head) + strlen(put.path) + 1);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 5, "12345", 5);
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 1, 0);
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	guest_exec(g, 5, 0, "sh", "-c", "ls $0 | grep -c file", g->dir, NULL);
	guest_output(g, 5, out, err, ROOM);
	CU_ASSERT_STRING_EQUAL(out, "0\n");
	guest_stop(g);
}

/* Binds a UDP socket to 127.0.0.<last>. Return: the descriptor; *port as bound. */
static int udp(unsigned last, uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(*port),
				       .sin_addr = { htonl(0x7f000000 + last) } };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	getsockname(fd, (struct sockaddr *)&address, &len);
	*port = ntohs(address.sin_port);
	return fd;
}

static uint16_t free_port(void)
{
	uint16_t port = 0;

	close(udp(1, &port));
	return port;
}

static void the_parent_hears_arrivals(void)
{
	uint16_t port = free_port(), any = 0;
	struct guest *g = guest_boot(port);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr = { htonl(0x7f000001) } };
	struct agent_arrived message = { AGENT_ARRIVED_MAGIC, 2 }, back = { 0, 0 };
	const struct agent_answered *answered;
	int fd = udp(3, &any);	/* slot 2 */

	/* no clone has no ID */
	message.id = 0;
	sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&to, sizeof(to));
	CU_ASSERT_FALSE(guest_speaks(g, 50));
	message.id = 2;
	sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&to, sizeof(to));
	answered = guest_expect(g, AGENT_ANSWERED, 0);
	CU_ASSERT_EQUAL(answered->id, 2);
	CU_ASSERT_EQUAL(answered->slot, 2);
	CU_ASSERT_TRUE(client_hears(fd, GUEST_WAIT_MS));
	CU_ASSERT_EQUAL(recv(fd, &back, sizeof(back), 0), sizeof(back));
	CU_ASSERT_EQUAL(back.id, 2);
	close(fd);
	guest_stop(g);
}

static void a_clone_tells_until_it_is_answered(void)
{
	uint16_t port = 0;
	struct guest *g = guest_boot(free_port());
	struct agent_sock_request request = { .op = AGENT_SOCK_ARRIVED, .value = 2 };
	struct agent_sock_reply reply = { .error = -1 };
	struct agent_arrived message = { 0, 0 };
	int fd = udp(1, &port), sock;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);

	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 2, port);
	sock = sock_connect(g);
	send(sock, &request, sizeof(request), 0);
	CU_ASSERT_EQUAL(recv(sock, &reply, sizeof(reply), 0), sizeof(reply));
	CU_ASSERT_EQUAL(reply.error, 0);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_TRUE_FATAL(client_hears(fd, GUEST_WAIT_MS));
		CU_ASSERT_EQUAL(recvfrom(fd, &message, sizeof(message), 0,
					 (struct sockaddr *)&from, &len), sizeof(message));
		CU_ASSERT_EQUAL(message.magic, AGENT_ARRIVED_MAGIC);
		CU_ASSERT_EQUAL(message.id, 2);
	}
	sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&from, len);
	while (client_hears(fd, 400))	/* one more may have been under way */
		recv(fd, &message, sizeof(message), 0);
	close(sock);
	close(fd);
	guest_stop(g);
}

/* Tells the agent that we wait for the instant of request `key`. Return: the connection. */
static int sock_await(struct guest *g, const char *key)
{
	struct agent_sock_await wish = { .head = { .op = AGENT_SOCK_AWAIT } };
	struct agent_sock_reply noted = { .error = -1 };
	int sock = sock_connect(g);

	memcpy(wish.request, key, strlen(key));
	send(sock, &wish, sizeof(wish), 0);
	CU_ASSERT_EQUAL_FATAL(recv(sock, &noted, sizeof(noted), 0), sizeof(noted));
	CU_ASSERT_EQUAL(noted.error, 0);
	return sock;
}

/* Two wait; the one whose request it was is told, before the rest goes on. */
static void who_asked_is_told_first(void)
{
	uint16_t port = 0;
	struct guest *g = guest_boot(free_port());
	struct agent_resume resume = { .op = 1, .id = 2, .count = 4, .prefix = 8, .checkpoint = 7,
				       .address = htobe32(0x7f000003), .request = "80-1-c0ffee",
				       .parent = htobe32(0x7f000001) };
	struct agent_sock_request arrived = { .op = AGENT_SOCK_ARRIVED, .value = 2 };
	int fd = udp(1, &port), other = sock_await(g, "80-1-c0ffe"), sock;
	struct agent_sock_instant told = { 0 };
	struct agent_arrived message = { 0, 0 };

	sock = sock_await(g, resume.request);
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	resume.answer_port = port;
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	CU_ASSERT_EQUAL_FATAL(recv(sock, &told, sizeof(told), 0), sizeof(told));
	CU_ASSERT_EQUAL(told.error, 0);
	CU_ASSERT_EQUAL(told.id, 2);
	CU_ASSERT_EQUAL(told.count, 4);
	CU_ASSERT_EQUAL(told.checkpoint, 7);
	CU_ASSERT_EQUAL(told.parent, resume.parent);
	CU_ASSERT_EQUAL(told.answer_port, port);
	guest_expect(g, AGENT_RESUMED, 0);
	send(sock, &arrived, sizeof(arrived), 0);
	close(sock);
	/* it is we who tell ID 0; the agent begins later */
	CU_ASSERT_FALSE(client_hears(fd, AGENT_ARRIVED_AGAIN_MS / 2));
	CU_ASSERT_TRUE_FATAL(client_hears(fd, GUEST_WAIT_MS));
	CU_ASSERT_EQUAL(recv(fd, &message, sizeof(message), 0), sizeof(message));
	CU_ASSERT_EQUAL(message.magic, AGENT_ARRIVED_MAGIC);
	CU_ASSERT_FALSE(client_hears(other, 0));
	close(other);
	close(fd);
	guest_stop(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "quiet waits for answers", quiet_waits_for_answers },
		{ "answers may cross the question", answers_may_cross_the_question },
		{ "giving up before it is quiet", giving_up_before_it_is_quiet },
		{ "frames out of turn end the agent", frames_out_of_turn_end_the_agent },
		{ "the parent sends what was printed", the_parent_sends_what_was_printed },
		{ "a clone sends only its own", a_clone_sends_only_its_own },
		{ "a clone forgets puts", a_clone_forgets_puts },
		{ "the parent hears arrivals", the_parent_hears_arrivals },
		{ "a clone tells until it is answered", a_clone_tells_until_it_is_answered },
		{ "who asked is told first", who_asked_is_told_first },
		CU_TEST_INFO_NULL
	};

	return run_suite("quiesce", tests);
}
