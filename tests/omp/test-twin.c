/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The twin: what a process wrote is found byte for byte, whatever it did to its memory. */
#include "config.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "omp-shim/twin.h"

#define AREA_PAGES 600u
#define AREA_BYTES (AREA_PAGES * PAGE_BYTES)
#define NO_LIMIT   SIZE_MAX

static uint8_t *area;	/* what is compared */
static uint8_t *before; /* a copy of it, as the twin has it */
static struct ranges ranges;
static struct twin twin;
static struct pieces pieces;

static uint8_t *map_bytes(size_t bytes)
{
	uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

static void set_up(void)
{
	srand(1);
	area = map_bytes(AREA_BYTES);
	before = map_bytes(AREA_BYTES);
	CU_ASSERT_FATAL(area && before);
	for (size_t i = 0; i < AREA_BYTES / 2; i++) /* the rest was never touched */
		area[i] = before[i] = (uint8_t)rand();
	CU_ASSERT_EQUAL_FATAL(ranges_add(&ranges, (uintptr_t)area, (uintptr_t)area + AREA_BYTES), 0);
	CU_ASSERT_EQUAL_FATAL(twin_make(&twin), 0);
}

static void tear_down(void)
{
	twin_end(&twin);
	pieces_fini(&pieces);
	ranges_fini(&ranges);
	munmap(area, AREA_BYTES);
	munmap(before, AREA_BYTES);
}

/*
 * Compares, and looks whether the pieces are the bytes of the area that are not as in `before` and
 * no others, and all of them in [from, to); makes `before` the same. Return: how many bytes the pieces name.
 */
static size_t find(size_t from, size_t to)
{
	struct pieces_reader reader;
	struct pieces_part part;
	size_t count = 0;

	pieces.len = 0;
	CU_ASSERT_EQUAL_FATAL(twin_diff(&twin, &ranges, &pieces, NO_LIMIT), 0);
	CU_ASSERT_FATAL(pieces_check(pieces.bytes, pieces.len, &ranges));
	pieces_read(&reader, pieces.bytes, pieces.len);
	while (pieces_next(&reader, &part) > 0) {
		for (unsigned i = 0; i < PAGE_BYTES; i++) {
			size_t at = part.address + i - (uintptr_t)area;

			if (!(part.mask[i / LINE_BYTES] >> i % LINE_BYTES & 1))
				continue;
			count++;
			if (at >= AREA_BYTES || before[at] == part.page[i])
				CU_FAIL_FATAL("a byte that was not changed");
			before[at] = part.page[i];
		}
	}
	CU_ASSERT(!memcmp(before + from, area + from, to - from));
	return count;
}

static void bytes_that_were_written_are_found(void)
{
	set_up();
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	for (unsigned round = 0; round < 60; round++) {
		size_t start = (size_t)rand() % AREA_BYTES, step = 1 + (size_t)rand() % 100;
		size_t end = start + (size_t)rand() % (AREA_BYTES - start), part = rand() % 30;

		for (size_t i = start; i < end; i += step)
			for (size_t j = i; j < end && j <= i + part; j++)
				area[j] = (uint8_t)rand();
		find(0, AREA_BYTES);
		CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	}
	tear_down();
}

static void borders_of_ranges_are_kept(void)
{
	uint64_t start = (uintptr_t)area;

	set_up();
	start = (uintptr_t)area;
	ranges_remove(&ranges, start, start + AREA_BYTES);
	ranges_add(&ranges, start + 100, start + 200);
	ranges_add(&ranges, start + 300, start + 3 * PAGE_BYTES + 5);
	ranges_add(&ranges, start + 5 * PAGE_BYTES - 1, start + 5 * PAGE_BYTES);
	for (size_t i = 0; i < 8 * PAGE_BYTES; i++)
		area[i] ^= 0xff;
	memcpy(before, area, 100);
	memcpy(before + 200, area + 200, 100);
	CU_ASSERT_EQUAL(find(100, 3 * PAGE_BYTES + 5), 100 + 3 * PAGE_BYTES + 5 - 300 + 1);
	tear_down();
}

static void what_was_discarded_reads_as_zeros(void)
{
	size_t expect = 0;

	set_up();
	madvise(area + 3 * PAGE_BYTES, 4 * PAGE_BYTES, MADV_DONTNEED);
	for (size_t i = 3 * PAGE_BYTES; i < 7 * PAGE_BYTES; i++)
		expect += before[i] != 0;
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), expect);
	/* and in between written to again */
	area[9 * PAGE_BYTES] = 1;
	madvise(area + 9 * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
	area[9 * PAGE_BYTES + 1] = 2;
	find(0, AREA_BYTES);
	tear_down();
}

static void memory_that_is_gone_is_left_out(void)
{
	set_up();
	munmap(area + 10 * PAGE_BYTES, 5 * PAGE_BYTES);
	area[9 * PAGE_BYTES] ^= 1;
	area[15 * PAGE_BYTES] ^= 1;
	CU_ASSERT_EQUAL(find(0, 10 * PAGE_BYTES), 2);
	/* what is there instead counts again */
	CU_ASSERT_FATAL(mmap(area + 10 * PAGE_BYTES, 5 * PAGE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	area[12 * PAGE_BYTES + 7] = 7;
	find(0, AREA_BYTES);
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	tear_down();
}

static void memory_that_may_not_be_read_is_read(void)
{
	set_up();
	area[20 * PAGE_BYTES + 1] ^= 0x11;
	area[21 * PAGE_BYTES + 2] ^= 0x12;
	mprotect(area + 20 * PAGE_BYTES, PAGE_BYTES, PROT_NONE);
	mprotect(area + 21 * PAGE_BYTES, PAGE_BYTES, PROT_READ);
	CU_ASSERT_EQUAL(find(0, 20 * PAGE_BYTES), 2);
	mprotect(area + 20 * PAGE_BYTES, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE);
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	tear_down();
}

static void the_twin_may_have_it_protected(void)
{
	set_up();
	twin_end(&twin);
	mprotect(area + 400 * PAGE_BYTES, 10 * PAGE_BYTES, PROT_NONE);
	CU_ASSERT_EQUAL_FATAL(twin_make(&twin), 0);
	mprotect(area + 400 * PAGE_BYTES, 10 * PAGE_BYTES, PROT_READ | PROT_WRITE);
	memset(area + 400 * PAGE_BYTES + 9, 9, 9 * PAGE_BYTES);
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 9 * PAGE_BYTES);
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	/* memory that it has not got at all cannot be remembered: that is said, not passed over */
	ranges_remove(&ranges, (uintptr_t)area, (uintptr_t)area + AREA_BYTES);
	munmap(area, PAGE_BYTES);
	twin_end(&twin);
	CU_ASSERT_EQUAL_FATAL(twin_make(&twin), 0);
	CU_ASSERT_FATAL(mmap(area, PAGE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area);
	area[5] = 5;
	ranges_add(&ranges, (uintptr_t)area, (uintptr_t)area + PAGE_BYTES);
	pieces.len = 0;
	CU_ASSERT_EQUAL(twin_diff(&twin, &ranges, &pieces, NO_LIMIT), -EFAULT);
	tear_down();
}

static void too_much_is_told(void)
{
	set_up();
	for (size_t i = 0; i < AREA_BYTES / 2; i++)
		area[i] ^= 1;
	CU_ASSERT_EQUAL(twin_diff(&twin, &ranges, &pieces, AREA_BYTES / 4), -EFBIG);
	tear_down();
}

/* Changes every `step`-th byte of a half of the area. Return: bytes sent for each byte changed. */
static double overhead(size_t step)
{
	size_t count;

	for (size_t i = 0; i < AREA_BYTES / 2; i += step)
		area[i] ^= (uint8_t)(1 + rand() % 255);
	count = find(0, AREA_BYTES);
	printf(" %zu: %.3f", step, (double)pieces.len / (double)count);
	return (double)pieces.len / (double)count;
}

static void few_bytes_are_sent_besides(void)
{
	double *numbers;
	size_t count;

	set_up();
	CU_ASSERT(overhead(1) < 1.001);
	CU_ASSERT(overhead(2) <= 1.1);
	CU_ASSERT(overhead(3) <= 1.5);
	CU_ASSERT(overhead(8) <= 1.1);
	CU_ASSERT(overhead(64) <= 3.5);
	/* numbers of the same size, of which sign and exponent stay */
	numbers = (double *)(void *)area;
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < AREA_BYTES / 2 / sizeof(double); i++)
			numbers[i] = 1.0 + rand() / (RAND_MAX + 1.0) + rand() / 1e19;
		count = find(0, AREA_BYTES);
		printf(" doubles: %.3f", (double)pieces.len / (double)count);
		CU_ASSERT((double)pieces.len <= 1.1 * (double)count);
	}
	putchar(' ');
	tear_down();
}

static void what_comes_is_put_in_and_not_sent_back(void)
{
	struct pieces came = { 0 };
	uint8_t bytes[2 * PAGE_BYTES];

	set_up();
	memset(bytes, 0x5a, sizeof(bytes));
	for (unsigned i = 0; i < 200; i++)
		CU_ASSERT_EQUAL_FATAL(pieces_add(&came, (uintptr_t)area + i * 3 * PAGE_BYTES + 77,
						 bytes, i % 2 ? 3 : sizeof(bytes)), 0);
	CU_ASSERT_FATAL(pieces_check(came.bytes, came.len, &ranges));
	CU_ASSERT_EQUAL(twin_apply(&twin, came.bytes, came.len), 0);
	for (unsigned i = 0; i < 200; i++)
		memset(before + i * 3 * PAGE_BYTES + 77, 0x5a, i % 2 ? 3 : sizeof(bytes));
	CU_ASSERT(!memcmp(before, area, AREA_BYTES));
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	pieces_fini(&came);
	tear_down();
}

static void what_was_not_sent_is_not_lost(void)
{
	uint8_t bytes[4] = { 1, 2, 3, 4 };
	struct pieces came = { 0 };

	set_up();
	memset(area, 0, PAGE_BYTES);
	find(0, AREA_BYTES);
	area[1] = 100; /* mine */
	area[3] = 4;   /* the same as what comes */
	area[9] = 9;
	CU_ASSERT_EQUAL_FATAL(pieces_add(&came, (uintptr_t)area, bytes, sizeof(bytes)), 0);
	CU_ASSERT_EQUAL(twin_apply(&twin, came.bytes, came.len), 0);
	CU_ASSERT(!memcmp(area, ((uint8_t[]){ 1, 100, 3, 4, 0 }), 5));
	memcpy(before, bytes, sizeof(bytes));
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 2);
	/* a page that may not be written to takes it as well */
	mprotect(area + PAGE_BYTES, PAGE_BYTES, PROT_READ);
	came.len = 0;
	CU_ASSERT_EQUAL_FATAL(pieces_add(&came, (uintptr_t)area + PAGE_BYTES, bytes, 4), 0);
	CU_ASSERT_EQUAL(twin_apply(&twin, came.bytes, came.len), 0);
	CU_ASSERT(!memcmp(area + PAGE_BYTES, bytes, 4));
	pieces_fini(&came);
	tear_down();
}

static void the_twin_alone_is_written_to(void)
{
	uint32_t value = 0x12345678;

	set_up();
	CU_ASSERT_EQUAL(twin_differs(&twin, (uintptr_t)area + 4094, 4), 0);
	memcpy(area + 4094, &value, 4);
	CU_ASSERT_EQUAL(twin_differs(&twin, (uintptr_t)area + 4094, 4), 1);
	CU_ASSERT_EQUAL(twin_put(&twin, (uintptr_t)area + 4094, &value, 4), 0);
	CU_ASSERT_EQUAL(twin_differs(&twin, (uintptr_t)area + 4094, 4), 0);
	memcpy(before + 4094, &value, 4);
	CU_ASSERT_EQUAL(find(0, AREA_BYTES), 0);
	tear_down();
}

/* ---- the process ---- */

static volatile unsigned stop;
static volatile unsigned signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void *hold_locks(void *unused)
{
	(void)unused;
	while (!stop)
		free(malloc(1000000));
	return NULL;
}

static void nobody_sees_the_twin(void)
{
	pthread_t thread;
	int status;

	signal(SIGCHLD, count_signal);
	stop = 0;
	CU_ASSERT_FATAL(!pthread_create(&thread, NULL, hold_locks, NULL));
	for (unsigned i = 0; i < 50; i++) {
		CU_ASSERT_EQUAL_FATAL(twin_make(&twin), 0);
		CU_ASSERT_EQUAL(waitpid(-1, &status, WNOHANG), -1);
		CU_ASSERT_EQUAL(errno, ECHILD);
		twin_end(&twin);
	}
	stop = 1;
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(signals, 0);
	signal(SIGCHLD, SIG_DFL);
}

static void the_twin_dies_with_its_maker(void)
{
	struct pollfd polled = { .events = POLLIN }, end = { 0 };
	int ends[2];
	pid_t pid, number = 0;

	CU_ASSERT_FATAL(!pipe(ends));
	pid = fork();
	if (!pid) {
		if (twin_make(&twin) || write(ends[1], &twin.pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		close(ends[1]);
		for (;;)
			pause();
	}
	close(ends[1]);
	CU_ASSERT_EQUAL_FATAL(read(ends[0], &number, sizeof(number)), sizeof(number));
	polled.fd = (int)syscall(SYS_pidfd_open, number, 0);
	CU_ASSERT_FATAL(polled.fd >= 0);
	CU_ASSERT_EQUAL(poll(&polled, 1, 0), 0);
	/* it keeps nothing open */
	end.fd = ends[0];
	CU_ASSERT_EQUAL(poll(&end, 1, 20000), 1);
	CU_ASSERT_EQUAL(poll(&polled, 1, 0), 0);
	kill(pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
	CU_ASSERT_EQUAL(poll(&polled, 1, 60000), 1);
	close(ends[0]);
	close(polled.fd);
}

/* ---- measurements: test-twin bench ---- */

static double ms_since(uint64_t begin_ns)
{
	return (double)(io_now_ns() - begin_ns) / 1e6;
}

static void bench_make(size_t bytes)
{
	uint8_t *memory = map_bytes(bytes);
	uint64_t begin;

	memset(memory, 1, bytes);
	for (unsigned i = 0; i < 3; i++) {
		begin = io_now_ns();
		if (twin_make(&twin))
			abort();
		printf("twin_make with %zu MB: %.2f ms", bytes >> 20, ms_since(begin));
		ranges_add(&ranges, (uintptr_t)memory, (uintptr_t)memory + bytes);
		begin = io_now_ns();
		if (twin_diff(&twin, &ranges, &pieces, NO_LIMIT))
			abort();
		printf("; twin_diff of nothing: %.2f ms\n", ms_since(begin));
		twin_end(&twin);
		ranges_fini(&ranges);
	}
	munmap(memory, bytes);
}

static void bench_diff(const char *what, size_t step, size_t part)
{
	const size_t bytes = 10u << 20;
	uint8_t *memory = map_bytes(bytes);
	uint64_t begin;
	double ms;

	memset(memory, 1, bytes);
	ranges_add(&ranges, (uintptr_t)memory, (uintptr_t)memory + bytes);
	if (twin_make(&twin))
		abort();
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < bytes; i += step)
			for (size_t j = 0; j < part; j++)
				memory[i + j]++;
		pieces.len = 0;
		begin = io_now_ns();
		if (twin_diff(&twin, &ranges, &pieces, NO_LIMIT))
			abort();
		ms = ms_since(begin);
		printf("twin_diff, 10 MB, %s: %.2f ms, %.2f GB/s, %.3f bytes sent for each\n", what,
		       ms, (double)bytes / ms / 1e6,
		       (double)pieces.len / (double)(bytes / step * part));
	}
	twin_end(&twin);
	ranges_fini(&ranges);
	munmap(memory, bytes);
}

static int bench(void)
{
	bench_make(100u << 20);
	bench_make(1u << 30);
	bench_diff("all bytes", 1, 1);
	bench_diff("7 bytes of 8", 8, 7);
	bench_diff("1 byte of 8", 8, 1);
	bench_diff("4 bytes of 256", 256, 4);
	bench_diff("1 byte of a page", PAGE_BYTES, 1);
	return 0;
}

int main(int argc, char **argv)
{
	CU_TestInfo found[] = {
		{ "bytes that were written are found", bytes_that_were_written_are_found },
		{ "borders of ranges are kept", borders_of_ranges_are_kept },
		{ "what was discarded reads as zeros", what_was_discarded_reads_as_zeros },
		{ "memory that is gone is left out", memory_that_is_gone_is_left_out },
		{ "memory that may not be read is read", memory_that_may_not_be_read_is_read },
		{ "the twin may have it protected", the_twin_may_have_it_protected },
		{ "too much is told", too_much_is_told },
		{ "few bytes are sent besides", few_bytes_are_sent_besides },
		CU_TEST_INFO_NULL
	};
	CU_TestInfo came[] = {
		{ "what comes is put in and not sent back", what_comes_is_put_in_and_not_sent_back },
		{ "what was not sent is not lost", what_was_not_sent_is_not_lost },
		{ "the twin alone is written to", the_twin_alone_is_written_to },
		CU_TEST_INFO_NULL
	};
	CU_TestInfo process[] = {
		{ "nobody sees the twin", nobody_sees_the_twin },
		{ "the twin dies with its maker", the_twin_dies_with_its_maker },
		CU_TEST_INFO_NULL
	};
	CU_SuiteInfo suites[] = {
		{ "what was written", NULL, NULL, NULL, NULL, found },
		{ "what comes", NULL, NULL, NULL, NULL, came },
		{ "the process", NULL, NULL, NULL, NULL, process },
		CU_SUITE_INFO_NULL
	};
	unsigned failed;

	if (argc > 1 && !strcmp(argv[1], "bench"))
		return bench();
	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
