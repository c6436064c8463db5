/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of ranges against a map of bytes, and which memory of a process counts. */
#include "config.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "omp-shim/own.h"
#include "omp-shim/ranges.h"

#define SPACE 300u

static int program_data = 1;
static __thread int program_tls = 2;

static bool holds(const struct ranges *ranges, const void *at, size_t bytes)
{
	return ranges_hold(ranges, (uintptr_t)at, (uintptr_t)at + bytes);
}

static bool is_sorted(const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++) {
		const struct range *range = &ranges->all[i];

		if (range->start >= range->end || (i && range[-1].end >= range->start))
			return false;
	}
	return true;
}

static bool is_as(const struct ranges *ranges, const bool *map)
{
	for (unsigned i = 0; i < SPACE; i++) {
		if (ranges_hold(ranges, i, i + 1) != map[i])
			return false;
	}
	return is_sorted(ranges);
}

static void a_set_is_what_a_map_of_bytes_is(void)
{
	bool map[SPACE] = { false }, all;
	struct ranges ranges = { 0 };

	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned start = (unsigned)rand() % SPACE, end = start + (unsigned)rand() % 20;
		bool add = rand() % 2;

		end = end < SPACE ? end : SPACE;
		CU_ASSERT_EQUAL_FATAL((add ? ranges_add : ranges_remove)(&ranges, start, end), 0);
		memset(map + start, add, end - start);
		CU_ASSERT_FATAL(is_as(&ranges, map));
		start = (unsigned)rand() % SPACE;
		end = start + (unsigned)rand() % 9;
		all = end > start && end <= SPACE;
		for (unsigned at = start; all && at < end; at++)
			all = map[at];
		CU_ASSERT_EQUAL_FATAL(ranges_hold(&ranges, start, end), all);
	}
	ranges_fini(&ranges);
	CU_ASSERT_EQUAL(ranges.count, 0);
}

static void many_ranges_fit(void)
{
	struct ranges ranges = { 0 };

	for (uint64_t i = 0; i < 5000; i++)
		CU_ASSERT_EQUAL_FATAL(ranges_add(&ranges, i * 16, i * 16 + 8), 0);
	CU_ASSERT_EQUAL(ranges.count, 5000);
	CU_ASSERT_EQUAL(ranges_add(&ranges, 0, 16 * 5000), 0);
	CU_ASSERT_EQUAL(ranges.count, 1);
	CU_ASSERT(ranges_hold(&ranges, 0, 16 * 5000));
	CU_ASSERT(!ranges_hold(&ranges, 0, 16 * 5000 + 1));
	CU_ASSERT(!ranges_hold(&ranges, 5, 5));
	ranges_fini(&ranges);
}

static void what_the_program_writes_to_counts(void)
{
	uint8_t *heap = malloc(100), *map, *library = (uint8_t *)stdin, *own;
	struct ranges ranges = { 0 };
	size_t room = 0;
	uint64_t shared;

	map = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED && heap);
	CU_ASSERT_EQUAL_FATAL(mprotect(map + 4096, 4096, PROT_READ), 0);
	own = own_grow(NULL, &room, 100000);
	CU_ASSERT_EQUAL_FATAL(ranges_of_process(&ranges, &shared), 0);
	CU_ASSERT(is_sorted(&ranges));
	CU_ASSERT(holds(&ranges, &program_data, sizeof(program_data)));
	CU_ASSERT(holds(&ranges, heap, 100));
	CU_ASSERT(holds(&ranges, map, 4096));
	CU_ASSERT(holds(&ranges, map + 8192, 4096));
	CU_ASSERT(!holds(&ranges, map + 4096, 1));
	CU_ASSERT(holds(&ranges, &room, sizeof(room)));
	/* the C library's, this thread's, the shim's */
	CU_ASSERT(!holds(&ranges, library, 1));
	CU_ASSERT(!holds(&ranges, &errno, 1));
	CU_ASSERT(!holds(&ranges, &program_tls, 1));
	CU_ASSERT(!holds(&ranges, own, 1));
	CU_ASSERT(!holds(&ranges, own + room - 1, 1));
	CU_ASSERT(!holds(&ranges, ranges.all, 1));
	own_free(own);
	munmap(map, 3 * 4096);
	free(heap);
	ranges_fini(&ranges);
}

static void of_tls_the_programs_part_counts(void)
{
	struct ranges ranges = { 0 };

	CU_ASSERT_EQUAL_FATAL(ranges_of_tls(&ranges), 0);
	CU_ASSERT(holds(&ranges, &program_tls, sizeof(program_tls)));
	CU_ASSERT(!holds(&ranges, &errno, 1));
	CU_ASSERT_EQUAL(program_tls, 2);
	ranges_fini(&ranges);
}

static void shared_memory_is_told(void)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ranges ranges = { 0 };
	uint64_t shared = 0;

	CU_ASSERT_EQUAL(ranges_of_process(&ranges, &shared), -ENOTSUP);
	CU_ASSERT_EQUAL(shared, (uintptr_t)map);
	CU_ASSERT_EQUAL_FATAL(mprotect(map, 4096, PROT_READ), 0);
	ranges_fini(&ranges);
	CU_ASSERT_EQUAL(ranges_of_process(&ranges, &shared), 0);
	munmap(map, 4096);
	ranges_fini(&ranges);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "a set is what a map of bytes is", a_set_is_what_a_map_of_bytes_is },
		{ "many ranges fit", many_ranges_fit },
		{ "what the program writes to counts", what_the_program_writes_to_counts },
		{ "of TLS the program's part counts", of_tls_the_programs_part_counts },
		{ "shared memory is told", shared_memory_is_told },
		CU_TEST_INFO_NULL
	};
	CU_SuiteInfo suites[] = { { "ranges", NULL, NULL, NULL, NULL, tests }, CU_SUITE_INFO_NULL };
	unsigned failed;

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
