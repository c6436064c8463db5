/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's layers on a real disk: what is read next is in memory before it is wanted. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/memtap/layers.h"
#include "tests/memtap/harness.h"

#define PAGES 4096u
#define BYTES ((uint64_t)PAGES * MEMTAP_PAGE_BYTES)

/* A file on a disk, as base, of which nothing is in memory. Return: -1 if it stays there. */
static int cold_file(void)
{
	static uint8_t data[MEMTAP_PAGE_BYTES];
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	for (uint64_t gfn = 0; fd >= 0 && gfn < PAGES; gfn++) {
		content_page(9 | CONTENT_FULL, gfn, data);
		if (write(fd, data, sizeof(data)) != sizeof(data))
			CU_FAIL_FATAL("write");
	}
	/* the kernel is to do nothing by itself */
	if (fd < 0 || fsync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) ||
	    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		return -1;
	return fd;
}

static unsigned in_memory(int fd, uint64_t first, uint64_t pages)
{
	void *at = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char state[PAGES];
	unsigned count = 0;

	if (at == MAP_FAILED || mincore(at, BYTES, state) < 0)
		CU_FAIL_FATAL("mincore");
	for (uint64_t i = first; i < first + pages; i++)
		count += state[i] & 1;
	munmap(at, BYTES);
	return count;
}

/* Reading on its own takes a moment. Return: true if they come in. */
static bool comes_in(int fd, uint64_t first, uint64_t pages)
{
	for (unsigned waited_ms = 0; waited_ms < 5000; waited_ms += 10) {
		if (in_memory(fd, first, pages) == pages)
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

static void test_ahead(void)
{
	_cleanup_fd_ int fd = cold_file();
	struct mem_layers_fds from = { .base = true, .fds = &fd };
	uint8_t page[MEMTAP_PAGE_BYTES], expected[MEMTAP_PAGE_BYTES];
	struct mem_layers *layers;

	if (fd < 0 || in_memory(fd, 0, PAGES)) {
		fprintf(stderr, "left out: files here are always in memory\n");
		return;
	}
	CU_ASSERT_EQUAL_FATAL(mem_layers_create(PAGES, &from, &layers), 0);
	CU_ASSERT_EQUAL(mem_layers_read(layers, 1000, page), PAGE_PRESENT);
	CU_ASSERT(comes_in(fd, 1000, 32));
	CU_ASSERT_EQUAL(in_memory(fd, 1032, 500), 0);
	/* who reads on is read ahead of, further each time, to the end and not beyond */
	for (uint64_t gfn = 1001; gfn < PAGES; gfn++) {
		CU_ASSERT_EQUAL(mem_layers_read(layers, gfn, page), PAGE_PRESENT);
		if (gfn == 1200)
			CU_ASSERT(comes_in(fd, 1201, 64));
	}
	content_page(9 | CONTENT_FULL, PAGES - 1, expected);
	CU_ASSERT(!memcmp(page, expected, sizeof(page)));
	CU_ASSERT_EQUAL(in_memory(fd, 0, 1000), 0);
	mem_layers_destroy(layers);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "read ahead", test_ahead },
	};

	return run_tests("layers", tests, ARRAY_SIZE(tests), argc, argv);
}
