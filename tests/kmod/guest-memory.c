/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the guest: programs that use memory, and see that it stays what it was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t word_of(uint64_t seed, size_t page, size_t word)
{
	return (seed << 40 ^ page << 12 ^ word) * 0x9e3779b97f4a7c15ull;
}

static void fill(uint64_t *at, uint64_t seed, size_t pages)
{
	for (size_t page = 0; page < pages; page++) {
		for (size_t word = 0; word < WORDS; word += 16)
			at[page * WORDS + word] = word_of(seed, page, word);
	}
}

static bool is_filled(const uint64_t *at, uint64_t seed, size_t pages)
{
	for (size_t page = 0; page < pages; page++) {
		for (size_t word = 0; word < WORDS; word += 16) {
			if (at[page * WORDS + word] != word_of(seed, page, word))
				return false;
		}
	}
	return true;
}

static uint64_t *map(size_t pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

/* A file that comes, is read and goes: page cache, directory entries, inodes. */
static void use_file(unsigned round)
{
	static uint8_t buf[65536];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/load-%d-%u", getpid(), round % 8);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	memset(buf, (int)round, sizeof(buf));
	if (fd < 0 || write(fd, buf, 4096 + round * 4096 % 61440) < 0)
		fail(path);
	close(fd);
}

/* load PAGES: fills, checks and gives back memory until /tmp/stop is there. */
int run_load(int argc, char **argv)
{
	size_t most = argc > 1 ? strtoul(argv[1], NULL, 0) : 1024;
	uint64_t *kept = map(most), rounds = 0;

	fill(kept, 77, most);
	ready();
	while (access("/tmp/stop", F_OK)) {
		size_t pages = 1 + (size_t)random() % most;
		uint64_t *at = map(pages);

		fill(at, ++rounds, pages);
		use_file((unsigned)rounds);
		if (!is_filled(at, rounds, pages) || !is_filled(kept, 77, most)) {
			printf("memory is not what it was\n");
			return 1;
		}
		munmap(at, pages * PAGE);
	}
	printf("rounds=%llu\n", (unsigned long long)rounds);
	return 0;
}

static void print_frames(const void *at, size_t pages)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	for (size_t page = 0; page < pages; page++) {
		uint64_t entry;

		if (pread(fd, &entry, sizeof(entry),
			  (off_t)(((uintptr_t)at / PAGE + page) * sizeof(entry))) != sizeof(entry))
			fail("pagemap");
		printf("%llx\n", (unsigned long long)(entry & ((1ull << 55) - 1)));
	}
	close(fd);
}

/* hoard PAGES: says which page frames it has in /tmp/hoard, and keeps them. */
int run_hoard(int argc, char **argv)
{
	size_t pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 1024;
	uint64_t *at = map(pages);

	fill(at, 1, pages);
	if (!freopen("/tmp/hoard", "w", stdout))
		fail("/tmp/hoard");
	print_frames(at, pages);
	fflush(stdout);
	ready();
	while (access("/tmp/stop", F_OK))
		usleep(10000);
	return !is_filled(at, 1, pages);
}

/* churn PAGES: says which page frames it had. */
int run_churn(int argc, char **argv)
{
	size_t pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 1024;
	uint64_t *at = map(pages);

	fill(at, 2, pages);
	print_frames(at, pages);
	return 0;
}
