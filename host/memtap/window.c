/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Windows of clones: mapped, read without trust, their first page given. */
#include "host/memtap/window.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "proto/kmod.h"

_Static_assert(SFK_PAGE_BYTES == SNAP_PAGE_BYTES, "pages are pages");
_Static_assert(sizeof(struct sfk_window) <= SNAP_PAGE_BYTES, "one page");

int mem_window_open(struct mem_window *window, int fd, uint64_t first, uint64_t pages,
		    uint64_t ram_pages)
{
	struct stat st;
	void *at;

	if (!pages || pages > SFK_MAX_WINDOW_PAGES || pages > ram_pages ||
	    first > ram_pages - pages)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != (pages + 1) * SNAP_PAGE_BYTES)
		return -EINVAL;
	at = mmap(NULL, pages * SNAP_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, SNAP_PAGE_BYTES);
	if (at == MAP_FAILED)
		return -errno;
	*window = (struct mem_window){ .first = first, .pages = pages, .rest = at };
	return 0;
}

void mem_window_close(struct mem_window *window)
{
	if (window->pages)
		munmap(window->rest, window->pages * SNAP_PAGE_BYTES);
	*window = (struct mem_window){ 0 };
}

bool mem_window_is_dead(const struct mem_window *window, uint64_t gfn)
{
	const _Atomic uint64_t *words = (const void *)window->rest;
	uint64_t bit = sfk_gfn(gfn), word;

	if (!window->pages || bit / 8 >= (window->pages - 1) * SNAP_PAGE_BYTES)
		return false;
	word = le64toh(atomic_load_explicit(&words[bit / 64], memory_order_acquire));
	return word >> bit % 64 & 1;
}

/* Who the clone is, and what time it is. */
static void write_letter(const struct mem_window *window, uint8_t page[SNAP_PAGE_BYTES])
{
	const size_t at = offsetof(struct sfk_window, letter.realtime_ns);
	struct timespec now;
	uint64_t ns;

	memcpy(page, window->rest + (window->pages - 1) * SNAP_PAGE_BYTES, SNAP_PAGE_BYTES);
	clock_gettime(CLOCK_REALTIME, &now);
	ns = htole64((uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec);
	memcpy(page + at, &ns, sizeof(ns));
}

int mem_window_answer(const struct mem_window *window, const struct snap_uffd *uffd, uint64_t gfn)
{
	uint8_t page[SNAP_PAGE_BYTES] = { 0 };
	int error;

	/* the others are in the memfd; one that is not is a piece of the bitmap without bits */
	if (gfn == window->first)
		write_letter(window, page);
	error = snap_uffd_copy(uffd, gfn, page);
	if (error == -ENOMEM)
		return error;
	/* it is there by now (EEXIST), or the fault is to be told again, or nobody is left */
	snap_uffd_wake(uffd, gfn, 1);
	return 0;
}
