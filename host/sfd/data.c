/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data folder: files without a name on a real disk, which end with the daemon. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfd/image.h"

#define DATA_SPARE_BYTES (64ull << 20) /* for what VMs write: below that none is begun */

/* For file systems without O_TMPFILE: a name for a moment. */
static int named_file(const char *dir)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/.sf-disk.XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

int data_file(const struct daemon *d, uint64_t bytes)
{
	const char *dir = d->config.data_dir;
	_cleanup_fd_ int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		fd = named_file(dir);
	else if (fd < 0)
		fd = -errno;
	if (fd < 0)
		return steal_fd(&fd);
	if (ftruncate(fd, (off_t)bytes))
		return -errno;
	return steal_fd(&fd);
}

int data_reopen(int fd)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

int data_room(const struct daemon *d, uint64_t bytes, char why[WHY_BYTES])
{
	struct statvfs fs;
	uint64_t room;

	if (statvfs(d->config.data_dir, &fs)) {
		snprintf(why, WHY_BYTES, "the data folder %.100s of host %s cannot be used: %s",
			 d->config.data_dir, d->self->name, strerror(errno));
		return -errno;
	}
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room >= bytes && room - bytes >= DATA_SPARE_BYTES)
		return 0;
	snprintf(why, WHY_BYTES,
		 "host %s has %llu MB left in %.60s, %llu MB are needed: make room there, or "
		 "choose another --data",
		 d->self->name, (unsigned long long)room >> 20, d->config.data_dir,
		 (unsigned long long)(bytes + DATA_SPARE_BYTES) >> 20);
	return -ENOSPC;
}
