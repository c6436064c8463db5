/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the parent: one region away, from the decision to the merged memory. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "omp-shim/heap.h"
#include "omp-shim/locked.h"
#include "omp-shim/serve.h"
#include "omp-shim/store.h"
#include "omp-shim/team.h"

#define WHY 256

static int listener = -1;

static enum omp_reason cannot(char *why, enum omp_reason reason, const char *what, int rc)
{
	snprintf(why, WHY, "%s: %s", what, strerror(-rc));
	return reason;
}

/* Listens where members reach this VM. Return: 0 or -errno. */
static int listen_here(void)
{
	struct sockaddr_in here = { .sin_family = AF_INET };
	socklen_t len = sizeof(here);
	_cleanup_fd_ int sock = -1;
	int rc;

	if (listener >= 0)
		return 0;
	rc = omp_team.ways->address(omp_team.address, sizeof(omp_team.address));
	if (rc)
		return rc;
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0 || inet_pton(AF_INET, omp_team.address, &here.sin_addr) != 1 ||
	    bind(sock, (struct sockaddr *)&here, sizeof(here)) || listen(sock, SOMAXCONN) ||
	    getsockname(sock, (struct sockaddr *)&here, &len))
		return -errno;
	omp_team.port = ntohs(here.sin_port);
	listener = steal_fd(&sock);
	return 0;
}

/* Where the program's stack ends for now: below this frame nothing is the region's. */
static int describe_program(struct team_thread *thread, uint64_t frame)
{
	int rc = team_own_stack(&thread->stack_start, &thread->stack_end);

	thread->stack_end = frame;
	ranges_fini(&thread->tls);
	return rc ? rc : ranges_of_tls(&thread->tls);
}

/* What is compared, as omp-shim/README.md says. Return: 0 or -errno. */
static int choose_ranges(uint64_t *shared)
{
	struct ranges *ranges = &omp_team.ranges;
	int rc;

	ranges->count = 0;
	rc = ranges_of_process(ranges, shared);
	if (!rc)
		rc = team_leave_out_stacks(ranges);
	for (unsigned i = 0; !rc && i < omp_team.size; i++) {
		const struct team_thread *thread = &omp_team.threads[i];

		rc = ranges_remove(ranges, thread->stack_start, thread->stack_end);
		for (size_t at = 0; !rc && at < thread->tls.count; at++)
			rc = ranges_add(ranges, thread->tls.all[at].start, thread->tls.all[at].end);
	}
	return rc ? rc : heap_ranges(ranges);
}

/* All that can be done before the instant. */
static enum omp_reason get_ready(unsigned *size, uint64_t frame, char *why)
{
	uint64_t shared = 0;
	int rc = omp_team.ways->ready(size);

	if (rc)
		return cannot(why, OMP_NO_ROOM, "no clones", rc);
	if (*size < 2) {
		snprintf(why, WHY, "there is room for %u clone%s", *size, *size == 1 ? "" : "s");
		return OMP_NO_ROOM;
	}
	rc = listen_here();
	if (rc)
		return cannot(why, OMP_NO_ROOM, "this VM cannot be reached by clones", rc);
	rc = team_grow(*size);
	if (!rc)
		rc = heap_reserve(*size);
	if (!rc)
		rc = locked_find();
	if (rc < 0)
		return cannot(why, OMP_TOO_MUCH, "a team cannot be made", rc);
	rc = describe_program(&omp_team.threads[0], frame);
	/* again, if the list itself needed memory: members change it, and it has to be left out */
	for (size_t room = SIZE_MAX; !rc && room != omp_team.ranges.room;) {
		room = omp_team.ranges.room;
		rc = choose_ranges(&shared);
	}
	if (rc == -ENOTSUP) {
		snprintf(why, WHY, "memory at %#llx is shared with other processes",
			 (unsigned long long)shared);
		return OMP_SHARED;
	}
	if (rc)
		return cannot(why, OMP_TOO_MUCH, "its memory cannot be described", rc);
	if (getrandom(omp_team.token, sizeof(omp_team.token), 0) != sizeof(omp_team.token))
		return cannot(why, OMP_TOO_MUCH, "no random numbers", -errno);
	return OMP_NO_REASON;
}

/* Puts in what was written. Return: false if it cannot be, and nothing was. */
static bool merge(struct store *store, struct outcome *outcome, struct costs *costs)
{
	uint64_t begin = io_now_ns();

	costs->changed_bytes = store_commit(store);
	if (costs->changed_bytes == UINT64_MAX)
		return false;
	serve_release(outcome);
	costs->merge_ns = io_now_ns() - begin;
	return true;
}

/* From the instant on. */
static enum omp_reason run_members(struct costs *costs, char *why)
{
	struct store *store = store_new(omp_team.members, &omp_team.ranges);
	struct outcome outcome = { 0 };
	uint64_t begin = io_now_ns(), cloned;
	int id;

	if (!store)
		return cannot(why, OMP_TOO_MUCH, "no store", -ENOMEM);
	fflush(NULL);
	id = omp_team.ways->clone(omp_team.members);
	if (id > 0)
		team_become((unsigned)id - 1);
	cloned = io_now_ns();
	costs->clone_ns = cloned - begin;
	if (id < 0) {
		store_free(store);
		return cannot(why, OMP_NO_ROOM, "no clones", id);
	}
	serve(listener, store, &outcome);
	costs->first_hello_ns = outcome.first_hello_ns ? outcome.first_hello_ns - cloned : 0;
	costs->run_ns = outcome.last_done_ns - cloned;
	costs->sent_bytes = outcome.received_bytes;
	costs->syncs = outcome.syncs;
	costs->pages = outcome.pages;
	costs->member_cpu_ns = outcome.member_cpu_ns;
	snprintf(why, WHY, "%s", outcome.why);
	if (!outcome.reason && !merge(store, &outcome, costs)) {
		outcome.reason = OMP_TOO_MUCH;
		snprintf(why, WHY, "memory that a member wrote to is not there any more");
	}
	serve_fini(&outcome);
	store_free(store);
	begin = io_now_ns();
	omp_team.ways->end();
	costs->join_ns = io_now_ns() - begin;
	return outcome.reason;
}

enum omp_reason region_away(region_function *function, void *data, unsigned size, unsigned *got,
			    struct costs *costs, char *why)
{
	uint64_t begin = io_now_ns();
	enum omp_reason reason;

	memset(costs, 0, sizeof(*costs));
	*why = 0;
	omp_team.function = function;
	omp_team.data = data;
	omp_team.region++;
	reason = get_ready(&size, (uintptr_t)__builtin_frame_address(0), why);
	costs->ticket_ns = io_now_ns() - begin;
	*got = omp_team.members = size;
	return reason ? reason : run_members(costs, why);
}
