/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * userfaultfd without its ioctl structs: what Snowflock asks of it, one call each.
 *
 * Addresses are those of the process that made the userfaultfd (QEMU for a VM, memtap for a page
 * file). Ranges are whole pages. A process that has ended gives -ESRCH everywhere.
 */
#ifndef SNAPSHOT_UFFD_H
#define SNAPSHOT_UFFD_H

#include <stdbool.h>
#include <stdint.h>

#define SNAP_PAGE_BYTES 4096u
#define SNAP_PAGE_SHIFT 12

/* What a userfaultfd is to tell: pages that are not there, or writes to protected pages. */
enum snap_uffd_mode { SNAP_UFFD_MISSING, SNAP_UFFD_PROTECT };

/* Memory of a VM (or of this process) and the userfaultfd that watches it. Owns nothing. */
struct snap_uffd {
	int fd;
	uint64_t base;		/* address of page 0 */
	uint64_t pages;
};

/* Makes a userfaultfd of this process; needs no privilege. Return: the caller's, or -errno. */
int snap_uffd_open(void);

/*
 * Begins to watch `u` (made non-blocking). If another process did, in the same mode, and died,
 * whoever waited for it is made to ask once more. Return: 0 or -errno; -EOPNOTSUPP if the kernel
 * cannot do it.
 */
int snap_uffd_start(const struct snap_uffd *u, enum snap_uffd_mode mode);

struct snap_fault {
	uint64_t gfn;
	bool write;
};

/*
 * Reads up to `max` page faults. Return: how many are in `faults` (repetitions are possible), 0 if
 * there are none, or -errno.
 */
int snap_uffd_read(const struct snap_uffd *u, struct snap_fault *faults, unsigned max);

/* Lets everyone go on who waits for one of these pages. */
void snap_uffd_wake(const struct snap_uffd *u, uint64_t gfn, uint64_t pages);

/* Puts a page in, atomically, waking nobody. Return: 0, -EEXIST if one is there, or -errno. */
int snap_uffd_copy(const struct snap_uffd *u, uint64_t gfn, const uint8_t *page);

/*
 * Makes missing pages read as zeros and wakes who waits for them, from the first page on until
 * one is there already. All of them must be in one mapping. Return: how many pages are zeros now,
 * -EEXIST if the first is there, or -errno.
 */
int64_t snap_uffd_zero(const struct snap_uffd *u, uint64_t gfn, uint64_t pages);

/*
 * The same with memory behind them, so that the kernel has nothing left to do when they are
 * written; at most SNAP_FILL_PAGES.
 */
#define SNAP_FILL_PAGES 128u
int64_t snap_uffd_fill(const struct snap_uffd *u, uint64_t gfn, uint64_t pages);

/* Protects pages from writes or, which wakes the writers, no longer. Return: 0 or -errno. */
int snap_uffd_protect(const struct snap_uffd *u, uint64_t gfn, uint64_t pages, bool on);

#endif
