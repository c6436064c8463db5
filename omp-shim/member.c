/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In a clone: the life of one member, from the instant to its end. */
#define _GNU_SOURCE
#include "omp-shim/member.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "omp-shim/guard.h"
#include "omp-shim/heap.h"
#include "omp-shim/locked.h"
#include "omp-shim/wire.h"

static struct member self;

struct member *member_self(void)
{
	return &self;
}

struct ranges *member_ranges(struct member *m)
{
	heap_ranges(&m->ranges);
	return &m->ranges;
}

/* Calls home. Ends the copy if nobody is there. */
static void connect_home(struct member *m)
{
	struct sockaddr_in home = { .sin_family = AF_INET, .sin_port = htons(omp_team.port) };
	struct omp_hello hello = {
		.magic = htole32(OMP_MAGIC),
		.version = htole32(OMP_VERSION),
		.region = htole64(omp_team.region),
		.member = htole32(m->number),
	};
	int one = 1;

	memcpy(hello.token, omp_team.token, sizeof(hello.token));
	m->sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (m->sock < 0 || inet_pton(AF_INET, omp_team.address, &home.sin_addr) != 1 ||
	    connect(m->sock, (struct sockaddr *)&home, sizeof(home)) ||
	    setsockopt(m->sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    omp_send(m->sock, OMP_HELLO, &hello, sizeof(hello), NULL, 0))
		omp_team.ways->leave(1);
}

static void must(int rc, const char *what)
{
	if (rc < 0)
		member_fail(OMP_TOO_MUCH, "%s: %s", what, strerror(-rc));
}

static void send_output(struct member *m, int fd)
{
	struct omp_output head = { .fd = htole32((uint32_t)fd) };
	size_t len = 0;
	uint8_t *bytes = guard_output(fd, &len);

	/* not freed: the copy ends */
	if (bytes && len && omp_send(m->sock, OMP_OUTPUT, &head, sizeof(head), bytes, len))
		omp_team.ways->leave(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void finish(struct member *m, uint64_t ran_ns)
{
	const struct pieces *pieces;
	struct omp_done done;
	const uint64_t *frees;
	size_t count;

	send_output(m, 1);
	send_output(m, 2);
	frees = heap_frees(&count);
	if (count && omp_send(m->sock, OMP_FREES, frees, count * sizeof(*frees), NULL, 0))
		omp_team.ways->leave(1);
	pieces = sync_written(m);
	done.cpu_ns = htole64(ran_ns);
	done.page_count = htole64(m->page_count);
	if (omp_send(m->sock, OMP_DONE, &done, sizeof(done), pieces->bytes, pieces->len))
		omp_team.ways->leave(1);
	/* what is under way would end with the clone */
	sync_await_goodbye(m);
	omp_team.ways->leave(0);
}

void member_run(unsigned number, region_function *function, void *data)
{
	struct member *m = &self;
	const struct team_thread *thread = &omp_team.threads[number];
	uint64_t begin_ns;

	m->number = number;
	m->size = omp_team.members;
	connect_home(m);
	for (size_t i = 0; i < omp_team.ranges.count; i++)
		must(ranges_add(&m->ranges, omp_team.ranges.all[i].start, omp_team.ranges.all[i].end),
		     "no memory");
	must(twin_make(&m->twin), "there is no second process");
	heap_enter(number);
	if (omp_team.inherit)
		omp_team.inherit();
	must(locked_arm(thread->stack_start, thread->stack_end), "no breakpoints");
	must(guard_arm(m->sock, (int[]){ m->twin.memory, m->twin.twin_memory, m->twin.clear_refs }, 3),
	     "no filter of system calls");
	m->entry = (uintptr_t)__builtin_frame_address(0);
	begin_ns = cpu_ns();
	omp_here = m;
	function(data);
	omp_here = NULL;
	finish(m, cpu_ns() - begin_ns);
	__builtin_unreachable();
}
