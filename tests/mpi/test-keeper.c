/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper and its executors, with a libsf whose clones are fork()s of the keeper on 127.0.0.2 and
 * so on: all but the machine is as in a VM.
 */
#define _GNU_SOURCE
#include "mpi-shim/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "mpi-shim/door.h"
#include "tests/mpi/ground.h"

#define TICKETS	 16
#define MOST	 8 /* clones of one */
#define OUT_BYTES 20000000u

/* What the double's host has, and what the test may set; shared with the keeper. */
static struct host {
	atomic_int room;     /* for clones of one ticket */
	atomic_int hold;     /* clones do not come up */
	atomic_int refuse;   /* errno for the next request */
	atomic_int last_ticket, freed, killed;
	atomic_int granted[TICKETS];
	_Atomic pid_t clones[TICKETS][MOST + 1];
	atomic_int status[TICKETS][MOST + 1]; /* as of wait(2), +1; 0: lives */
	struct sockaddr_in home;
	uint8_t token[MPI_TOKEN_BYTES];
} *host;

static pid_t keeper_pid;
static struct keeper keeper; /* of the keeper's process */

/* ---- a libsf ---- */

static int play_request_ticket(unsigned n, const struct sf_hints *hints)
{
	int ticket = atomic_fetch_add(&host->last_ticket, 1) + 1;

	errno = atomic_exchange(&host->refuse, 0);
	if (errno)
		return -1;
	(void)hints;
	host->granted[ticket] = (int)n < host->room ? (int)n : host->room;
	return ticket;
}

static int play_clone_ticket(int ticket)
{
	for (int id = 1; id <= host->granted[ticket]; id++) {
		pid_t pid = fork();

		if (!pid) {
			prctl(PR_SET_PDEATHSIG, 0);
			while (host->hold)
				poll(NULL, 0, 5);
			return id;
		}
		host->clones[ticket][id] = pid;
	}
	host->home = keeper.home;
	memcpy(host->token, keeper.token, sizeof(host->token));
	return 0;
}

static int play_count(void)
{
	return host->granted[host->last_ticket];
}

static int play_wait_any(int ticket, int timeout_ms)
{
	(void)timeout_ms;
	for (;;) {
		int living = 0;

		for (int id = 1; id <= host->granted[ticket]; id++) {
			int status;

			if (host->status[ticket][id])
				continue;
			living++;
			if (waitpid(host->clones[ticket][id], &status, WNOHANG) > 0) {
				host->status[ticket][id] = status + 1;
				return id;
			}
		}
		if (!living)
			return 0;
		poll(NULL, 0, 5);
	}
}

static int play_status_ticket(int ticket, unsigned id, struct sf_status *status)
{
	int waited = host->status[ticket][id] - 1;

	*status = (struct sf_status){ .state = WIFEXITED(waited) ? SF_STATE_EXITED : SF_STATE_LOST };
	snprintf(status->host, sizeof(status->host), "h%u", id);
	if (WIFSIGNALED(waited))
		snprintf(status->reason, sizeof(status->reason), "its host burns");
	return 0;
}

static int play_address_ticket(int ticket, unsigned id, char *text, size_t len)
{
	snprintf(text, len, "127.0.%d.%u", ticket, id + 1);
	return 0;
}

static int play_kill_ticket(int ticket)
{
	atomic_fetch_add(&host->killed, 1);
	for (int id = 1; id <= host->granted[ticket]; id++) {
		if (!host->status[ticket][id])
			kill(host->clones[ticket][id], SIGKILL);
	}
	return 0;
}

static int play_ticket_free(int ticket)
{
	(void)ticket;
	atomic_fetch_add(&host->freed, 1);
	return 0;
}

static int play_id(void)
{
	return 0;
}

static const char *play_error(void)
{
	return "no host has room, says the double";
}

static const struct keeper_libsf play = {
	.request_ticket = play_request_ticket,
	.clone_ticket = play_clone_ticket,
	.count = play_count,
	.wait_any = play_wait_any,
	.status_ticket = play_status_ticket,
	.address_ticket = play_address_ticket,
	.kill_ticket = play_kill_ticket,
	.ticket_free = play_ticket_free,
	.id = play_id,
	.error = play_error,
	.exit = _exit,
};

/* ---- a keeper for each test ---- */

static void run_keeper(int ready)
{
	int rc = keeper_init(&keeper, &play);

	if (write(ready, &rc, sizeof(rc)) != sizeof(rc))
		_exit(1);
	close(ready);
	if (!rc)
		rc = keeper_run(&keeper);
	keeper_fini(&keeper);
	_exit(rc != 0);
}

static void set_up(void)
{
	int ready[2], rc = -1;

	memset(host, 0, sizeof(*host));
	host->room = MOST;
	if (pipe2(ready, O_CLOEXEC))
		abort();
	keeper_pid = fork();
	if (!keeper_pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		run_keeper(ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &rc, sizeof(rc)) != sizeof(rc) || rc)
		abort();
	close(ready[0]);
}

static int clones_have_gone(void *arg)
{
	(void)arg;
	for (int ticket = 1; ticket < TICKETS; ticket++) {
		for (int id = 1; id <= host->granted[ticket]; id++) {
			pid_t pid = host->clones[ticket][id];

			if (pid && !kill(pid, 0))
				return 0;
		}
	}
	return 1;
}

/* Every keeper ends by itself, with success, and none of its clones is left. */
static void tear_down(void)
{
	int status = -1;

	if (!keeper_pid)
		return;
	CU_ASSERT_EQUAL(waitpid(keeper_pid, &status, 0), keeper_pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT(ground_await(clones_have_gone, NULL));
	CU_ASSERT_EQUAL(host->freed, host->last_ticket);
}

/* ---- talking to it ---- */

static int want(int sock, uint32_t ranks, uint32_t per_clone, uint32_t *group, char **hosts)
{
	struct mpi_want wanted = { .ranks = ranks, .per_clone = per_clone };
	_cleanup_free_ char *why = NULL;
	struct mpi_grant grant;
	int rc = door_want(sock, &wanted, group, &grant, hosts, &why);

	if (rc)
		fprintf(stderr, "\n    refused: %s\n", why);
	return rc;
}

static void launch_at(int sock, const char *address, const char *script)
{
	struct mpi_counts counts = { .argc = 3, .envc = 1 };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &counts, sizeof(counts));
	wire_add_string(&payload, address);
	wire_add_string(&payload, "/");
	wire_add_string(&payload, "sh");
	wire_add_string(&payload, "-c");
	wire_add_string(&payload, script);
	wire_add_string(&payload, "PATH=/usr/bin:/bin");
	CU_ASSERT_EQUAL(wire_send(sock, MPI_LAUNCH, 0, &payload), 0);
	wire_free(&payload);
}

/* Launches a script in clone `id` of the ticket. Return: the launcher's connection. */
static int launch(int ticket, unsigned id, const char *script)
{
	char address[SF_ADDRESS_BYTES];
	int sock = door_open(MPI_LAUNCHER);

	CU_ASSERT(sock >= 0);
	play_address_ticket(ticket, id, address, sizeof(address));
	launch_at(sock, address, script);
	return sock;
}

/* What a command printed and how it ended. */
struct outcome {
	char out[3][2048];
	size_t bytes[3];
	int status;
	char why[512];
};

/* Return: true when EXITED came. */
static bool await_exit(int sock, struct outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	for (;;) {
		_cleanup_free_ uint8_t *payload = NULL;
		struct mpi_frame frame;

		if (wire_receive(sock, &frame, &payload))
			return false;
		if (frame.type == MPI_EXITED) {
			memcpy(&outcome->status, payload, sizeof(int));
			snprintf(outcome->why, sizeof(outcome->why), "%s", payload + 4);
			return true;
		}
		if (frame.type != MPI_OUTPUT || (payload[0] != 1 && payload[0] != 2))
			return false;
		if (outcome->bytes[payload[0]] + frame.length < sizeof(outcome->out[0]))
			memcpy(outcome->out[payload[0]] + outcome->bytes[payload[0]], payload + 4,
			       frame.length - 4);
		outcome->bytes[payload[0]] += frame.length - 4;
	}
}

/* Return: true when a frame of that type came about the group, nothing else before. */
static bool await_frame(int sock, enum mpi_type type, uint32_t number)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;

	return !wire_receive(sock, &frame, &payload) && frame.type == type && frame.number == number;
}

/* Return: true if the keeper hangs up. */
static bool is_dropped(int sock)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;

	return wire_receive(sock, &frame, &payload) == -EPIPE;
}

static bool has_frame(int sock, int timeout_ms)
{
	struct pollfd ready = { .fd = sock, .events = POLLIN };

	return poll(&ready, 1, timeout_ms) > 0;
}

static void end_group(int sock, uint32_t group)
{
	CU_ASSERT_EQUAL(wire_send(sock, MPI_END, group, NULL), 0);
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
}

/* ---- WANT ---- */

static void check_hosts(int room, uint32_t ranks, uint32_t per_clone, const char *expected)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER);
	uint32_t group = 0;

	host->room = room;
	CU_ASSERT_EQUAL(want(sock, ranks, per_clone, &group, &hosts), 0);
	if (hosts)
		CU_ASSERT_STRING_EQUAL(hosts, expected);
	end_group(sock, group);
	close(sock);
}

static void ranks_fill_clones(void)
{
	check_hosts(8, 5, 2, "127.0.1.2:2,127.0.1.3:2,127.0.1.4:1");
}

static void fewer_clones_get_more_ranks(void)
{
	check_hosts(2, 5, 1, "127.0.1.2:3,127.0.1.3:2");
}

static void a_refusal_has_libsfs_sentence(void)
{
	struct mpi_want wanted = { .ranks = 1, .per_clone = 1 };
	_cleanup_free_ char *why = NULL, *hosts = NULL;
	struct mpi_grant grant;
	int sock = door_open(MPI_ASKER);
	uint32_t group;

	host->refuse = ENOSPC;
	CU_ASSERT_EQUAL(door_want(sock, &wanted, &group, &grant, &hosts, &why), -ENOSPC);
	CU_ASSERT_STRING_EQUAL(why, play_error());
	host->freed = host->last_ticket;
	close(sock);
}

/* ---- commands ---- */

static void a_command_runs_and_its_clone_leaves(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0;

	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "echo out; echo err >&2; echo $" MPI_ENV "; exit 3");
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 3);
	CU_ASSERT_STRING_EQUAL(outcome.why, "");
	CU_ASSERT(!strncmp(outcome.out[1], "out\n127.0.0.1:", 14) ||
		  !strncmp(outcome.out[1], "out\n127.0.", 10));
	CU_ASSERT_STRING_EQUAL(outcome.out[2], "err\n");
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(launcher);
	close(sock);
}

static void what_cannot_run_is_told(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher = door_open(MPI_LAUNCHER);
	struct mpi_counts counts = { .argc = 1 };
	struct wire_payload payload = { 0 };
	struct outcome outcome;
	uint32_t group = 0;

	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	wire_add(&payload, &counts, sizeof(counts));
	wire_add(&payload, "127.0.1.2\0/\0/no/such", 21);
	CU_ASSERT_EQUAL(wire_send(launcher, MPI_LAUNCH, 0, &payload), 0);
	wire_free(&payload);
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_EQUAL(outcome.status, -1);
	CU_ASSERT_STRING_EQUAL(outcome.why, "cannot run /no/such: No such file or directory");
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(launcher);
	close(sock);
}

static void a_launch_waits_for_its_clone(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0;

	host->hold = 1;
	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "echo late");
	CU_ASSERT(!has_frame(launcher, 200));
	host->hold = 0;
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_STRING_EQUAL(outcome.out[1], "late\n");
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(launcher);
	close(sock);
}

static void an_address_of_others_is_unknown(void)
{
	int launcher = door_open(MPI_ASKER), other;

	other = door_open(MPI_LAUNCHER);
	launch_at(other, "10.1.2.3", "true");
	CU_ASSERT(await_frame(other, MPI_UNKNOWN, 0));
	close(other);
	close(launcher);
}

static int has_ended(void *arg)
{
	return kill(*(pid_t *)arg, 0) && errno == ESRCH;
}

/* Return: the number that is the first that a command prints. */
static pid_t await_pid(int sock)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;

	if (wire_receive(sock, &frame, &payload) || frame.type != MPI_OUTPUT)
		return -1;
	return atoi((char *)payload + 4);
}

static void check_command_ends_with_launcher(const char *script)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher, other;
	struct outcome outcome;
	uint32_t group = 0;
	pid_t pid, other_pid;

	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	/* another one, so that the clone stays: its end would end everything */
	other = launch(1, 1, "trap 'echo on; exit' USR1; echo $$; while :; do sleep 0.05; done");
	other_pid = await_pid(other);
	launcher = launch(1, 1, script);
	pid = await_pid(launcher);
	CU_ASSERT(pid > 0 && !kill(pid, 0));
	close(launcher);
	CU_ASSERT(ground_await(has_ended, &pid));
	CU_ASSERT(!has_frame(other, 50));
	kill(other_pid, SIGUSR1);
	CU_ASSERT(await_exit(other, &outcome));
	CU_ASSERT_STRING_EQUAL(outcome.out[1], "on\n");
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(other);
	close(sock);
}

static void a_command_ends_with_its_launcher(void)
{
	check_command_ends_with_launcher("sleep 1000 & echo $!; wait");
}

static void a_stubborn_command_is_killed(void)
{
	check_command_ends_with_launcher("trap '' TERM; setsid sleep 1000 & echo $!; wait; sleep 1000");
}

/* ---- groups ---- */

static void groups_are_independent(void)
{
	_cleanup_free_ char *hosts = NULL, *other_hosts = NULL;
	int sock = door_open(MPI_ASKER), other = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0, other_group = 0;

	CU_ASSERT_EQUAL(want(sock, 2, 1, &group, &hosts), 0);
	CU_ASSERT_EQUAL(want(other, 1, 1, &other_group, &other_hosts), 0);
	/* one's group is not the other's to end */
	CU_ASSERT_EQUAL(wire_send(other, MPI_END, group, NULL), 0);
	end_group(other, other_group);
	close(other);
	CU_ASSERT(!has_frame(sock, 100));
	launcher = launch((int)group, 2, "echo there");
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_STRING_EQUAL(outcome.out[1], "there\n");
	end_group(sock, group);
	close(launcher);
	close(sock);
}

static void dropped_clones_leave(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER);
	uint32_t group = 0;

	CU_ASSERT_EQUAL(want(sock, 3, 1, &group, &hosts), 0);
	CU_ASSERT_EQUAL(wire_send(sock, MPI_DROP, group, NULL), 0);
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(sock);
}

static void an_asker_that_goes_leaves_nothing(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0;

	CU_ASSERT_EQUAL(want(sock, 2, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "sleep 0.3; echo done");
	CU_ASSERT(!has_frame(launcher, 50));
	close(sock);
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_STRING_EQUAL(outcome.out[1], "done\n");
	close(launcher);
}

static void check_lost(int hold)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0;

	host->hold = hold;
	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "echo up; sleep 1000");
	CU_ASSERT(has_frame(launcher, hold ? 100 : 10000) == !hold);
	kill(host->clones[1][1], SIGKILL);
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_EQUAL(outcome.status, -1);
	CU_ASSERT_STRING_EQUAL(outcome.why,
			       "clone 1 (127.0.1.2, on host h1) was lost: its host burns");
	CU_ASSERT(await_frame(sock, MPI_LOST, group));
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(launcher);
	close(sock);
}

static void a_lost_clone_is_told(void)
{
	check_lost(0);
}

static void a_clone_lost_before_it_calls_is_told(void)
{
	check_lost(1);
}

static void clones_of_a_killed_keeper_end(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;
	uint32_t group = 0;
	pid_t pid;

	CU_ASSERT_EQUAL(want(sock, 2, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "echo $$; sleep 1000");
	CU_ASSERT_EQUAL(wire_receive(launcher, &frame, &payload), 0);
	pid = atoi((char *)payload + 4);
	kill(keeper_pid, SIGKILL);
	waitpid(keeper_pid, NULL, 0);
	keeper_pid = 0;
	CU_ASSERT(ground_await(clones_have_gone, NULL));
	CU_ASSERT(ground_await(has_ended, &pid));
	close(launcher);
	close(sock);
}

/* ---- what a clone has ---- */

/* Lists a process's sockets, as " [inode] [inode]". */
static void list_sockets(pid_t pid, char *list, size_t len)
{
	list[0] = 0;
	for (int fd = 0; fd < 256; fd++) {
		char path[64], link[64] = "";

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		if (readlink(path, link, sizeof(link) - 1) > 0 && !strncmp(link, "socket:", 7))
			snprintf(list + strlen(list), len - strlen(list), " %s", link + 7);
	}
}

static void a_clone_has_no_socket_of_the_parents(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), other = door_open(MPI_ASKER), launcher;
	char parents[4096], clones[4096], *at;
	struct outcome outcome;
	uint32_t group = 0;
	unsigned count = 0;

	CU_ASSERT_EQUAL(want(sock, 2, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "true");
	CU_ASSERT(await_exit(launcher, &outcome));
	list_sockets(keeper_pid, parents, sizeof(parents));
	list_sockets(host->clones[1][2], clones, sizeof(clones));
	for (char *inode = strtok_r(clones, " ", &at); inode; inode = strtok_r(NULL, " ", &at)) {
		CU_ASSERT_PTR_NULL(strstr(parents, inode));
		count++;
	}
	CU_ASSERT_EQUAL(count, 1);
	end_group(sock, group);
	close(launcher);
	close(sock);
	close(other);
}

/* ---- liars ---- */

static int open_raw(bool tcp)
{
	int sock;

	if (!tcp) {
		/* by the door, which says a HELLO that is right */
		return door_open(MPI_ASKER);
	}
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL(connect(sock, (struct sockaddr *)&host->home, sizeof(host->home)), 0);
	return sock;
}

static void lie_hello(uint32_t magic, uint32_t role, uint32_t id, bool token)
{
	struct mpi_hello hello = { .magic = magic, .version = MPI_VERSION, .role = role, .group = 1,
				   .id = id };
	struct wire_payload payload = { 0 };
	int sock = open_raw(true);

	memcpy(hello.token, host->token, sizeof(hello.token));
	hello.token[MPI_TOKEN_BYTES - 1] ^= !token;
	wire_add(&payload, &hello, sizeof(hello));
	CU_ASSERT_EQUAL(wire_send(sock, MPI_HELLO, 0, &payload), 0);
	wire_free(&payload);
	CU_ASSERT(is_dropped(sock));
	close(sock);
}

static void lie_raw(bool tcp, struct mpi_frame frame, const void *bytes, size_t len)
{
	int sock = open_raw(tcp);

	CU_ASSERT(send(sock, &frame, sizeof(frame), MSG_NOSIGNAL) == sizeof(frame));
	CU_ASSERT(!len || send(sock, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
	CU_ASSERT(is_dropped(sock));
	close(sock);
}

static void lie_launch(uint32_t argc, uint32_t envc, const char *strings, size_t len)
{
	struct mpi_counts counts = { .argc = argc, .envc = envc };
	struct wire_payload payload = { 0 };
	int sock = door_open(MPI_LAUNCHER);

	wire_add(&payload, &counts, sizeof(counts));
	wire_add(&payload, strings, len);
	CU_ASSERT_EQUAL(wire_send(sock, MPI_LAUNCH, 0, &payload), 0);
	wire_free(&payload);
	CU_ASSERT(is_dropped(sock));
	close(sock);
}

static void liars_are_dropped_and_harm_nobody(void)
{
	const struct mpi_want none = { 0 }, many = { .ranks = MPI_MAX_RANKS + 1 };
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	uint32_t group = 0;

	CU_ASSERT_EQUAL(want(sock, 2, 1, &group, &hosts), 0);
	launcher = launch(1, 1, "sleep 0.5; echo well");
	lie_hello(MPI_MAGIC + 1, MPI_ASKER, 0, true);
	lie_hello(MPI_MAGIC, MPI_ASKER, 0, false);
	lie_hello(MPI_MAGIC, MPI_LAUNCHER, 0, true);
	lie_hello(MPI_MAGIC, 99, 0, true);
	lie_hello(MPI_MAGIC, MPI_EXECUTOR, 0, true);
	lie_hello(MPI_MAGIC, MPI_EXECUTOR, 77, true);
	lie_raw(true, (struct mpi_frame){ .type = MPI_WANT, .length = sizeof(none) }, &many,
		sizeof(many));
	lie_raw(true, (struct mpi_frame){ .type = MPI_HELLO, .length = MPI_MAX_FRAME + 1 }, "", 0);
	lie_raw(false, (struct mpi_frame){ .type = MPI_TYPES }, "", 0);
	lie_raw(false, (struct mpi_frame){ .type = MPI_DROP, .reserved = 1 }, "", 0);
	lie_raw(false, (struct mpi_frame){ .type = MPI_WANT, .length = 3 }, "abc", 3);
	lie_raw(false, (struct mpi_frame){ .type = MPI_WANT, .length = sizeof(none) }, &none,
		sizeof(none));
	lie_raw(false, (struct mpi_frame){ .type = MPI_WANT, .length = sizeof(many) }, &many,
		sizeof(many));
	lie_raw(false, (struct mpi_frame){ .type = MPI_OUTPUT, .length = 4 }, "\1\0\0\0", 4);
	lie_launch(1, 0, "127.0.1.2\0/\0ls", 14);
	lie_launch(1u << 31, 1u << 31, "127.0.1.2\0/", 12);
	lie_launch(UINT32_MAX, 0, "127.0.1.2\0/", 12);
	lie_launch(0, 1, "127.0.1.2\0/\0A=1", 16);
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_STRING_EQUAL(outcome.out[1], "well\n");
	end_group(sock, group);
	close(launcher);
	close(sock);
}

/* ---- output ---- */

/* Return: kilobytes of memory that a process has. */
static unsigned long memory_of(pid_t pid)
{
	char path[64], line[128];
	unsigned long kb = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "VmRSS: %lu", &kb) == 1)
			break;
	}
	if (file)
		fclose(file);
	return kb;
}

static void who_does_not_read_makes_the_command_wait(void)
{
	_cleanup_free_ char *hosts = NULL;
	int sock = door_open(MPI_ASKER), launcher;
	struct outcome outcome;
	unsigned long before;
	uint32_t group = 0;
	char script[128];

	CU_ASSERT_EQUAL(want(sock, 1, 1, &group, &hosts), 0);
	before = memory_of(keeper_pid);
	snprintf(script, sizeof(script), "head -c %u /dev/zero; echo end >&2", OUT_BYTES);
	launcher = launch(1, 1, script);
	CU_ASSERT(has_frame(launcher, 10000));
	poll(NULL, 0, 1000);
	CU_ASSERT(memory_of(keeper_pid) - before < OUT_BYTES / 2 / 1024);
	CU_ASSERT(memory_of(host->clones[1][1]) - before < OUT_BYTES / 2 / 1024);
	CU_ASSERT(await_exit(launcher, &outcome));
	CU_ASSERT_EQUAL(outcome.bytes[1], OUT_BYTES);
	CU_ASSERT_STRING_EQUAL(outcome.out[2], "end\n");
	CU_ASSERT(await_frame(sock, MPI_ENDED, group));
	close(launcher);
	close(sock);
}

static CU_TestInfo tests[] = {
	{ "ranks fill clones", ranks_fill_clones },
	{ "fewer clones get more ranks", fewer_clones_get_more_ranks },
	{ "a refusal has libsf's sentence", a_refusal_has_libsfs_sentence },
	{ "a command runs, and its clone leaves", a_command_runs_and_its_clone_leaves },
	{ "what cannot run is told", what_cannot_run_is_told },
	{ "a launch waits for its clone", a_launch_waits_for_its_clone },
	{ "an address of others is unknown", an_address_of_others_is_unknown },
	{ "a command ends with its launcher", a_command_ends_with_its_launcher },
	{ "a stubborn command is killed", a_stubborn_command_is_killed },
	{ "groups are independent", groups_are_independent },
	{ "dropped clones leave", dropped_clones_leave },
	{ "an asker that goes leaves nothing", an_asker_that_goes_leaves_nothing },
	{ "a lost clone is told", a_lost_clone_is_told },
	{ "a clone lost before it calls is told", a_clone_lost_before_it_calls_is_told },
	{ "clones of a killed keeper end", clones_of_a_killed_keeper_end },
	{ "a clone has no socket of the parent's", a_clone_has_no_socket_of_the_parents },
	{ "liars are dropped and harm nobody", liars_are_dropped_and_harm_nobody },
	{ "who does not read makes the command wait", who_does_not_read_makes_the_command_wait },
	CU_TEST_INFO_NULL,
};

static CU_SuiteInfo suites[] = {
	{ "keeper", NULL, NULL, set_up, tear_down, tests },
	CU_SUITE_INFO_NULL,
};

int main(void)
{
	log_init("test-keeper", LOG_LVL_ERR);
	unsetenv(MPI_ENV);
	host = mmap(NULL, sizeof(*host), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return host == MAP_FAILED ? 1 : ground_main(suites);
}
