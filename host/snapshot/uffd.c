/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ioctls of userfaultfd; see linux/Documentation/admin-guide/mm/userfaultfd.rst. */
#include "host/snapshot/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define READ_MAX 64	/* events in one read(2) */

static const struct {
	uint64_t features, register_mode, ioctls;
} modes[] = {
	[SNAP_UFFD_MISSING] = { 0, UFFDIO_REGISTER_MODE_MISSING, 1ull << _UFFDIO_WAKE },
	[SNAP_UFFD_PROTECT] = { UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
				UFFDIO_REGISTER_MODE_WP, 1ull << _UFFDIO_WRITEPROTECT },
};

static uint64_t address(const struct snap_uffd *u, uint64_t gfn)
{
	return u->base + (gfn << SNAP_PAGE_SHIFT);
}

static struct uffdio_range range(const struct snap_uffd *u, uint64_t gfn, uint64_t pages)
{
	return (struct uffdio_range){ .start = address(u, gfn), .len = pages << SNAP_PAGE_SHIFT };
}

int snap_uffd_open(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	return fd < 0 ? -errno : fd;
}

int snap_uffd_start(const struct snap_uffd *u, enum snap_uffd_mode mode)
{
	struct uffdio_api api = { .api = UFFD_API, .features = modes[mode].features };
	struct uffdio_register reg = { .range = range(u, 0, u->pages),
				       .mode = modes[mode].register_mode };
	int error = io_set_nonblock(u->fd, true);
	bool refused;

	if (error)
		return error;
	/*
	 * EINVAL: the kernel lacks a feature, or this was done before; in the latter case
	 * registering works, and again does no harm.
	 */
	refused = ioctl(u->fd, UFFDIO_API, &api) < 0;
	if (refused && errno != EINVAL)
		return -errno;
	if (ioctl(u->fd, UFFDIO_REGISTER, &reg) < 0)
		return refused && errno == EINVAL ? -EOPNOTSUPP : -errno;
	if (!(reg.ioctls & modes[mode].ioctls))
		return -EOPNOTSUPP;
	/* events that another process read and did not answer: the kernel tells them again */
	snap_uffd_wake(u, 0, u->pages);
	return 0;
}

int snap_uffd_read(const struct snap_uffd *u, struct snap_fault *faults, unsigned max)
{
	struct uffd_msg events[READ_MAX];
	size_t room = max < READ_MAX ? max : READ_MAX;
	ssize_t got;
	int count = 0;

	do {
		got = read(u->fd, events, room * sizeof(events[0]));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
		uint64_t gfn = (events[i].arg.pagefault.address - u->base) >> SNAP_PAGE_SHIFT;

		if (events[i].event == UFFD_EVENT_PAGEFAULT && gfn < u->pages)
			faults[count++] = (struct snap_fault){
				gfn, events[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE
			};
	}
	return count;
}

void snap_uffd_wake(const struct snap_uffd *u, uint64_t gfn, uint64_t pages)
{
	struct uffdio_range wake = range(u, gfn, pages);

	ioctl(u->fd, UFFDIO_WAKE, &wake);
}

int snap_uffd_copy(const struct snap_uffd *u, uint64_t gfn, const uint8_t *page)
{
	struct uffdio_copy copy = { .dst = address(u, gfn),
				    .src = (uintptr_t)page,
				    .len = SNAP_PAGE_BYTES,
				    .mode = UFFDIO_COPY_MODE_DONTWAKE };

	return ioctl(u->fd, UFFDIO_COPY, &copy) < 0 ? -errno : 0;
}

int64_t snap_uffd_zero(const struct snap_uffd *u, uint64_t gfn, uint64_t pages)
{
	struct uffdio_zeropage zero = { .range = range(u, gfn, pages) };

	if (ioctl(u->fd, UFFDIO_ZEROPAGE, &zero) == 0 || zero.zeropage >= SNAP_PAGE_BYTES)
		return zero.zeropage >> SNAP_PAGE_SHIFT;
	return -errno;
}

int64_t snap_uffd_fill(const struct snap_uffd *u, uint64_t gfn, uint64_t pages)
{
	static uint8_t zeros[SNAP_FILL_PAGES * SNAP_PAGE_BYTES];	/* never written */
	struct uffdio_copy copy = { .dst = address(u, gfn),
				    .src = (uintptr_t)zeros,
				    .len = pages << SNAP_PAGE_SHIFT };

	if (ioctl(u->fd, UFFDIO_COPY, &copy) == 0 || copy.copy >= SNAP_PAGE_BYTES)
		return copy.copy >> SNAP_PAGE_SHIFT;
	return -errno;
}

int snap_uffd_protect(const struct snap_uffd *u, uint64_t gfn, uint64_t pages, bool on)
{
	struct uffdio_writeprotect protect = { .range = range(u, gfn, pages),
					       .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

	return ioctl(u->fd, UFFDIO_WRITEPROTECT, &protect) < 0 ? -errno : 0;
}
