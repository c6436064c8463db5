/* SPDX-License-Identifier: GPL-2.0-or-later */
/* omp-shim/heap.c: the malloc() family in a member and in the parent. It is this program's own. */
#define _GNU_SOURCE
#include "config.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "omp-shim/heap.h"
#include "omp-shim/team.h"

#define MEMBERS 4u

void member_fail(enum omp_reason reason, const char *format, ...)
{
	(void)format;
	_exit(100 + (int)reason);
}

static void *volatile hidden; /* so that no call is left out */
static struct ranges all;

static bool is_in_a_part(const void *address)
{
	return ranges_hold(&all, (uintptr_t)address, (uintptr_t)address + 1);
}

static int in_member(unsigned number, int (*run)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		heap_enter(number);
		_exit(run());
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* -- in a member ------------------------------------------------------------------------------ */

#define LIVE 500u
static uint64_t seed = 1;

static uint64_t some_number(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 33;
}

static void fill(uint8_t *block, size_t bytes, unsigned mark)
{
	for (size_t i = 0; i < bytes; i++)
		block[i] = (uint8_t)(mark + i * 7);
}

static bool is_full(const uint8_t *block, size_t bytes, unsigned mark)
{
	for (size_t i = 0; i < bytes; i++)
		if (block[i] != (uint8_t)(mark + i * 7))
			return false;
	return true;
}

/* Blocks of random sizes come, grow and go; each keeps what is in it. Return: 0, or what failed. */
static int come_and_go(void)
{
	struct {
		uint8_t *block;
		size_t bytes;
	} live[LIVE] = { 0 };

	for (unsigned n = 0; n < 40000; n++) {
		unsigned i = (unsigned)some_number() % LIVE;
		size_t bytes = some_number() % (n % 50 ? 1500 : 200000), align = 1u << some_number() % 14;

		if (live[i].block && !is_full(live[i].block, live[i].bytes, i))
			return 2;
		switch (some_number() % 4) {
		case 0:
			free(live[i].block);
			live[i].block = calloc(1, bytes);
			for (size_t at = 0; at < bytes; at++)
				if (live[i].block[at])
					return 3;
			break;
		case 1:
			live[i].block = realloc(live[i].block, bytes + 1);
			if (!is_full(live[i].block, bytes < live[i].bytes ? bytes : live[i].bytes, i))
				return 4;
			bytes++;
			break;
		case 2:
			free(live[i].block);
			live[i].block = memalign(align, bytes);
			if ((uintptr_t)live[i].block & (align - 1))
				return 5;
			break;
		default:
			free(live[i].block);
			live[i].block = malloc(bytes);
		}
		if (!is_in_a_part(live[i].block) || malloc_usable_size(live[i].block) < bytes ||
		    (uintptr_t)live[i].block & 15)
			return 6;
		live[i].bytes = bytes;
		fill(live[i].block, bytes, i);
	}
	return 0;
}

static void blocks_keep_what_is_in_them(void)
{
	CU_ASSERT_EQUAL(in_member(1, come_and_go), 0);
}

static void *come_and_go_in_thread(void *unused)
{
	(void)unused;
	for (unsigned n = 0; n < 30000; n++) {
		size_t bytes = 1 + n % 700;
		uint8_t *block = malloc(bytes);

		fill(block, bytes, n);
		hidden = block;
		if (!is_full(block, bytes, n))
			return "";
		free(block);
	}
	return NULL;
}

static int many_threads(void)
{
	pthread_t threads[4];
	void *failed;
	int rc = 0;

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, come_and_go_in_thread, NULL);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		rc |= failed ? 2 : 0;
	}
	return rc;
}

static void threads_of_nested_regions_may_allocate(void)
{
	CU_ASSERT_EQUAL(in_member(1, many_threads), 0);
}

static int alignment(void)
{
	volatile size_t many = SIZE_MAX / 2;
	void *block = NULL;

	if (posix_memalign(&block, 3, 10) != EINVAL || posix_memalign(&block, 4096, 10) ||
	    (uintptr_t)block & 4095 || !is_in_a_part(block))
		return 2;
	if ((uintptr_t)valloc(1) & 4095 || malloc_usable_size(pvalloc(1)) < 4096 ||
	    (uintptr_t)aligned_alloc(64, 640) & 63)
		return 3;
	errno = 0;
	hidden = malloc(HEAP_PART_BYTES);
	if (hidden || errno != ENOMEM)
		return 4;
	hidden = reallocarray(NULL, many, 3);
	return hidden ? 5 : 0;
}

static void alignment_and_limits_are_as_usual(void)
{
	CU_ASSERT_EQUAL(in_member(1, alignment), 0);
}

static uint8_t *foreign[1000];

static int free_foreign(void)
{
	size_t count = 0;
	const uint64_t *frees;
	uint8_t *mine = malloc(10);

	free(mine);
	for (unsigned i = 0; i < 999; i++)
		free(foreign[i]);
	foreign[999] = realloc(foreign[999], 20000);
	if (!is_in_a_part(foreign[999]) || !is_full(foreign[999], 100, 999))
		return 2;
	frees = heap_frees(&count);
	if (count != 1000)
		return 3;
	for (unsigned i = 0; i < 999; i++)
		if (frees[i] != (uintptr_t)foreign[i])
			return 4;
	return 0;
}

static void what_is_anothers_is_noted(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		foreign[i] = malloc(100);
		CU_ASSERT(!is_in_a_part(foreign[i]));
		fill(foreign[i], 100, i);
	}
	CU_ASSERT_EQUAL(in_member(2, free_foreign), 0);
	for (unsigned i = 0; i < 1000; i++)
		free(foreign[i]);
}

/* -- and then in the parent ------------------------------------------------------------------- */

static uint8_t *(*gift)[3]; /* shared: where members' blocks are */
static int pipe_ends[2];

/* What was allocated goes home by the ranges that are in use. */
static int give(void)
{
	struct ranges ranges = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		static const size_t sizes[] = { 100, 5000, 3000000 };

		(*gift)[i] = malloc(sizes[i]);
		fill((*gift)[i], sizes[i], i);
	}
	if (ranges_add(&ranges, all.all[0].start, all.all[0].end) || heap_ranges(&ranges))
		return 2;
	for (size_t i = 0; i < ranges.count; i++) {
		struct range range = ranges.all[i];

		if (range.end - range.start > 4000000)
			return 3;
		if (write(pipe_ends[1], &range, sizeof(range)) != sizeof(range))
			return 4;
		for (uint64_t at = range.start; at < range.end;) {
			ssize_t done = write(pipe_ends[1], (void *)(uintptr_t)at, range.end - at);

			if (done <= 0)
				return 5;
			at += (uint64_t)done;
		}
	}
	return 0;
}

static void take(void)
{
	struct range range;

	close(pipe_ends[1]);
	while (read(pipe_ends[0], &range, sizeof(range)) == sizeof(range)) {
		for (uint64_t at = range.start; at < range.end;) {
			ssize_t done = read(pipe_ends[0], (void *)(uintptr_t)at, range.end - at);

			if (done <= 0)
				return;
			at += (uint64_t)done;
		}
	}
	close(pipe_ends[0]);
}

static int reuse(void) /* in the same part, in a later region */
{
	uint8_t *block = malloc(5000);

	return block == (*gift)[1] || !is_full((*gift)[0], 100, 0) ? 0 : 2;
}

static void the_parent_may_use_and_free_them(void)
{
	pid_t pid;
	int status;

	gift = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(gift != MAP_FAILED && !pipe(pipe_ends));
	pid = fork();
	if (!pid) {
		heap_enter(3);
		_exit(give());
	}
	take();
	CU_ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
	CU_ASSERT(malloc_usable_size((*gift)[0]) >= 100);
	CU_ASSERT(is_full((*gift)[0], 100, 0));
	CU_ASSERT(is_full((*gift)[1], 5000, 1));
	(*gift)[2] = realloc((*gift)[2], 4000000);
	CU_ASSERT(is_full((*gift)[2], 3000000, 2));
	CU_ASSERT(!is_in_a_part((*gift)[2]));
	free((*gift)[2]);
	free((*gift)[1]);
	CU_ASSERT_EQUAL(in_member(3, reuse), 0);
	free((*gift)[0]);
	CU_ASSERT_EQUAL(in_member(2, come_and_go), 0);
}

static double pair_ns(void)
{
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned n = 0; n < 5000000; n++) {
		hidden = malloc(40);
		free(hidden);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / 5e6;
}

static int time_pairs(void)
{
	printf("a pair in a member: %.1f ns\n", pair_ns());
	fflush(stdout);
	return 0;
}

static void pairs_are_cheap(void)
{
	printf("a pair in the parent: %.1f ns; ", pair_ns());
	fflush(stdout);
	CU_ASSERT_EQUAL(in_member(0, time_pairs), 0);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "blocks keep what is in them", blocks_keep_what_is_in_them },
		{ "threads of nested regions may allocate", threads_of_nested_regions_may_allocate },
		{ "alignment and limits are as usual", alignment_and_limits_are_as_usual },
		{ "what is another's is noted", what_is_anothers_is_noted },
		{ "the parent may use and free them", the_parent_may_use_and_free_them },
		{ "pairs are cheap", pairs_are_cheap },
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{ "heap", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	printf("a pair before there are parts: %.1f ns\n", pair_ns());
	if (heap_reserve(MEMBERS) || heap_ranges(&all) || CU_initialize_registry() ||
	    CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	return CU_get_number_of_failures() || !CU_get_number_of_tests_run();
}
