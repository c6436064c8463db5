/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page files: a memfd of pages and a memfd that says which are there.
 *
 * How a page gets in. write(2), or a store through a mapping, makes the page visible to clones
 * before its content is there, and a clone that looks in between has a page of zeros for good. So
 * this process maps the file shared, registers the mapping with a userfaultfd of its own and uses
 * UFFDIO_COPY, which fills a page first and then adds it to the file, or says EEXIST. Nothing ever
 * touches that mapping: a load from an absent page would add a page of zeros, too. Pages are read
 * with pread(2), which leaves holes alone.
 *
 * The map's byte is set after the page is in. Between the two this process may be killed; then the
 * page is in the file and called absent, its successor puts the same page in once more, and EEXIST
 * is as good as success: the pages of one instant are the same wherever they are taken from.
 */
#include "host/snapshot/pagefile.h"

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"

struct snap_file {
	int page_fd;
	uint8_t *pages_map;	/* never to be touched */
	_Atomic uint8_t *map;
	struct snap_uffd uffd;	/* of pages_map */
};

static bool has_size(int fd, uint64_t bytes)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes;
}

static void *map_shared(int fd, uint64_t bytes, int flags)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

static int file_map(struct snap_file *file, int page_fd, int map_fd)
{
	/* all of the map, which is small, here and now, not while a parent stands still */
	file->map = map_shared(map_fd, file->uffd.pages, MAP_POPULATE);
	if (!file->map)
		return -errno;
	file->pages_map =
		map_shared(page_fd, file->uffd.pages << SNAP_PAGE_SHIFT, MAP_NORESERVE);
	if (!file->pages_map)
		return -errno;
	file->uffd.base = (uintptr_t)file->pages_map;
	file->uffd.fd = snap_uffd_open();
	if (file->uffd.fd < 0)
		return file->uffd.fd;
	return snap_uffd_start(&file->uffd, SNAP_UFFD_MISSING);
}

int snap_file_create(int page_fd, int map_fd, uint64_t pages, struct snap_file **file)
{
	struct snap_file *f;
	int error;

	if (!has_size(page_fd, pages << SNAP_PAGE_SHIFT) || !has_size(map_fd, pages))
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->page_fd = f->uffd.fd = -1;
	f->uffd.pages = pages;
	error = file_map(f, page_fd, map_fd);
	if (error) {
		snap_file_destroy(f);
		return error;
	}
	f->page_fd = page_fd;
	close(map_fd);	/* the mapping is enough */
	*file = f;
	return 0;
}

void snap_file_destroy(struct snap_file *file)
{
	if (!file)
		return;
	if (file->pages_map)
		munmap(file->pages_map, file->uffd.pages << SNAP_PAGE_SHIFT);
	if (file->map)
		munmap((void *)file->map, file->uffd.pages);
	cleanup_close(&file->uffd.fd);
	cleanup_close(&file->page_fd);
	free(file);
}

enum page_state snap_file_state(const struct snap_file *file, uint64_t gfn)
{
	return (enum page_state)atomic_load_explicit(&file->map[gfn], memory_order_acquire);
}

static void set_state(struct snap_file *file, uint64_t gfn, enum page_state state)
{
	atomic_store_explicit(&file->map[gfn], (uint8_t)state, memory_order_release);
}

uint64_t snap_file_run(const struct snap_file *file, uint64_t gfn, uint64_t max,
		       enum page_state state)
{
	uint64_t run = 0;

	while (run < max && gfn + run < file->uffd.pages &&
	       snap_file_state(file, gfn + run) == state)
		run++;
	return run;
}

int snap_file_put(struct snap_file *file, uint64_t gfn, const uint8_t page[SNAP_PAGE_BYTES])
{
	int error;

	if (snap_page_is_zero(page)) {
		snap_file_set_zero(file, gfn);
		return PAGE_ZERO;
	}
	if (fault_hit("snapshot-no-memory"))
		return -ENOMEM;
	error = snap_uffd_copy(&file->uffd, gfn, page);
	if (error && error != -EEXIST)
		return error;
	if (fault_hit("snapshot-die-after-insert"))
		raise(SIGKILL);
	set_state(file, gfn, PAGE_PRESENT);
	return PAGE_PRESENT;
}

void snap_file_set_zero(struct snap_file *file, uint64_t gfn)
{
	set_state(file, gfn, PAGE_ZERO);
}

/* Eight bits as the lowest bits of eight bytes. */
static uint64_t spread(uint8_t bits)
{
	uint64_t picked = bits * 0x0101010101010101ull & 0x8040201008040201ull;

	return (picked + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

/* Eight pages at once: nobody else writes into the map. */
static void set_eight_dead(void *map, uint8_t bits)
{
	uint64_t states, known;

	_Static_assert((PAGE_PRESENT | PAGE_ZERO | PAGE_DEAD) == 3 && !PAGE_ABSENT, "two bits");
	memcpy(&states, map, sizeof(states));
	known = states | states >> 1;
	states |= (spread(bits) & ~known) * PAGE_DEAD;
	memcpy(map, &states, sizeof(states));
}

void snap_file_set_dead(struct snap_file *file, const uint64_t *bits)
{
	uint64_t pages = file->uffd.pages;

	for (uint64_t gfn = 0; gfn < pages; gfn += 64) {
		uint64_t word = le64toh(bits[gfn / 64]);

		/* a mapping ends with a page: there is room behind the last of the map */
		for (uint64_t i = gfn; word; i += 8, word >>= 8)
			set_eight_dead((void *)&file->map[i], (uint8_t)word);
	}
}

int snap_file_read(const struct snap_file *file, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES])
{
	return snap_page_read(file->page_fd, gfn, page);
}

int snap_page_read(int memfd, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES])
{
	ssize_t got;

	do {
		got = pread(memfd, page, SNAP_PAGE_BYTES, (off_t)(gfn << SNAP_PAGE_SHIFT));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	return got == SNAP_PAGE_BYTES ? 0 : -EIO;
}

bool snap_page_is_zero(const uint8_t page[SNAP_PAGE_BYTES])
{
	/* every byte equals the next one, and the first is zero */
	return !page[0] && !memcmp(page, page + 1, SNAP_PAGE_BYTES - 1);
}
