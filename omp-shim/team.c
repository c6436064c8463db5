/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The team's threads: they wait in the parent for ever, and run in clones. */
#define _GNU_SOURCE
#include "omp-shim/team.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "omp-shim/libraries.h"
#include "omp-shim/real.h"

#define STACK_BYTES (64u << 20) /* of address space; as much as is touched is used */

static struct team_thread threads[OMP_MAX_MEMBERS];
struct team omp_team = { .ways = &team_by_clones, .size = 1, .threads = threads };
static atomic_int foreign;

void team_count_foreign(int change)
{
	atomic_fetch_add(&foreign, change);
}

bool team_has_foreign(void)
{
	return atomic_load(&foreign) > 0;
}

static struct ranges apart;
static pthread_mutex_t apart_lock = PTHREAD_MUTEX_INITIALIZER;

void team_stack_apart(uint64_t start, uint64_t end, bool there)
{
	REAL(pthread_mutex_lock)(&apart_lock);
	if (there)
		ranges_add(&apart, start, end);
	else
		ranges_remove(&apart, start, end);
	REAL(pthread_mutex_unlock)(&apart_lock);
}

int team_leave_out_stacks(struct ranges *ranges)
{
	int rc = 0;

	REAL(pthread_mutex_lock)(&apart_lock);
	for (size_t i = 0; !rc && i < apart.count; i++)
		rc = ranges_remove(ranges, apart.all[i].start, apart.all[i].end);
	REAL(pthread_mutex_unlock)(&apart_lock);
	return rc;
}

static int has_tls(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)unused;
	return size >= sizeof(*info) && info->dlpi_tls_data && !library_is_apart(info) &&
	       !strstr(info->dlpi_name, "libstdc++");
}

bool team_has_tls(void)
{
	return dl_iterate_phdr(has_tls, NULL);
}

/* Copies between the calling thread's TLS and the team's thread's, which are laid out alike. */
static void copy_tls(unsigned number, bool take)
{
	const struct ranges *theirs = &threads[number].tls;
	struct ranges mine = { 0 };

	if (number && number < omp_team.size && !ranges_of_tls(&mine)) {
		for (size_t i = 0; mine.count == theirs->count && i < mine.count; i++) {
			void *here = (void *)(uintptr_t)mine.all[i].start;
			void *there = (void *)(uintptr_t)theirs->all[i].start;
			size_t bytes = mine.all[i].end - mine.all[i].start;

			if (bytes == theirs->all[i].end - theirs->all[i].start)
				memcpy(take ? here : there, take ? there : here, bytes);
		}
	}
	ranges_fini(&mine);
}

void team_tls_take(unsigned number)
{
	copy_tls(number, true);
}

void team_tls_give(unsigned number)
{
	copy_tls(number, false);
}

pid_t raw_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, NULL, NULL, 0);
}

static void wait_for_go(struct team_thread *thread)
{
	while (!__atomic_load_n(&thread->go, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &thread->go, FUTEX_WAIT_PRIVATE, TEAM_WAIT, NULL, NULL, 0);
}

struct start { /* what a new thread learns, until it has answered */
	unsigned number;
	int error;
	uint32_t ready;
};

int team_own_stack(uint64_t *start, uint64_t *end)
{
	pthread_attr_t attr;
	size_t bytes = 0;
	void *low = NULL;
	int rc = -pthread_getattr_np(pthread_self(), &attr);

	if (rc)
		return rc;
	rc = -pthread_attr_getstack(&attr, &low, &bytes);
	pthread_attr_destroy(&attr);
	*start = (uintptr_t)low;
	*end = ((uintptr_t)low + bytes + 4095) & ~(uint64_t)4095;
	return rc;
}

/* Notes where the thread's stack and TLS are. Return: 0 or -errno. */
static int describe_self(struct team_thread *thread)
{
	int rc = team_own_stack(&thread->stack_start, &thread->stack_end);

	return rc ? rc : ranges_of_tls(&thread->tls);
}

static void *thread_main(void *opaque)
{
	struct start *start = opaque;
	unsigned number = start->number;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (omp_team.inherit) /* libgomp gets the memory for it here, and not in each member again */
		omp_team.inherit();
	start->error = describe_self(&omp_team.threads[number]);
	__atomic_store_n(&start->ready, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &start->ready, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	for (;;) {
		struct team_thread *thread = &threads[number];

		wait_for_go(thread);
		if (thread->go == TEAM_FORK && (thread->child = raw_fork())) {
			__atomic_store_n(&thread->go, TEAM_WAIT, __ATOMIC_RELEASE);
			syscall(SYS_futex, &thread->go, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
			continue;
		}
		sigemptyset(&all);
		pthread_sigmask(SIG_SETMASK, &all, NULL);
		member_run(number, omp_team.function, omp_team.data);
	}
	return NULL;
}

static int start_thread(unsigned number)
{
	struct start start = { .number = number };
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = -real_pthread_create(&omp_team.threads[number].thread, &attr, thread_main, &start);
	pthread_attr_destroy(&attr);
	if (rc)
		return rc;
	while (!__atomic_load_n(&start.ready, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &start.ready, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return start.error;
}

int team_grow(unsigned size)
{
	int rc = 0;

	while (!rc && omp_team.size < size) {
		rc = start_thread(omp_team.size);
		omp_team.size += !rc;
	}
	return rc;
}

void team_tell(unsigned number, uint32_t what)
{
	__atomic_store_n(&threads[number].go, what, __ATOMIC_RELEASE);
	syscall(SYS_futex, &threads[number].go, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

pid_t team_child(unsigned number)
{
	struct team_thread *thread = &threads[number];

	while (__atomic_load_n(&thread->go, __ATOMIC_ACQUIRE) == TEAM_FORK)
		syscall(SYS_futex, &thread->go, FUTEX_WAIT_PRIVATE, TEAM_FORK, NULL, NULL, 0);
	return thread->child;
}

bool team_has_stack(uint64_t address, size_t bytes)
{
	uint64_t here = (uintptr_t)__builtin_frame_address(0);

	for (unsigned i = 0; i < omp_team.size; i++) {
		const struct team_thread *thread = &threads[i];

		if (address >= thread->stack_start && address < thread->stack_end &&
		    bytes <= thread->stack_end - address)
			return here < thread->stack_start || here >= thread->stack_end;
	}
	return false;
}

void team_become(unsigned number)
{
	if (!number)
		member_run(0, omp_team.function, omp_team.data);
	team_tell(number, TEAM_RUN);
	for (;;)
		pause();
}
