/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtio-serial ports. The kernel learns their names from the device some time after the driver
 * was loaded and tells nobody but udev, so they are looked for again after a short while.
 */
#define _GNU_SOURCE
#include "agent/vport.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define CLASS_DIR "/sys/class/virtio-ports"
#define LONGEST_WAIT_MS 50u

/* True if the port `entry` of CLASS_DIR is called `name`. */
static bool has_name(int class_fd, const char *entry, const char *name)
{
	char path[300], found[128];
	_cleanup_fd_ int fd = -1;
	ssize_t got;

	snprintf(path, sizeof(path), "%s/name", entry);
	fd = openat(class_fd, path, O_RDONLY | O_CLOEXEC);
	got = fd >= 0 ? read(fd, found, sizeof(found) - 1) : -1;
	if (got <= 0)
		return false;
	found[got] = 0;
	found[strcspn(found, "\n")] = 0;
	return !strcmp(found, name);
}

/* Opens the port if it is there. Return: the descriptor or -errno. */
static int try_open(const char *name)
{
	DIR *dir = opendir(CLASS_DIR);
	const struct dirent *entry;
	int fd = -ENODEV;

	if (!dir)
		return -errno;
	while (fd < 0 && (entry = readdir(dir))) {
		char path[300];

		if (entry->d_name[0] == '.' || !has_name(dirfd(dir), entry->d_name, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		break;
	}
	closedir(dir);
	return fd;
}

static bool host_is_there(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 0 || !(p.revents & POLLHUP);
}

int vport_open(const char *name, unsigned wait_ms)
{
	uint64_t until_ns = io_now_ns() + wait_ms * 1000000ull;
	_cleanup_fd_ int fd = -1;

	for (unsigned ms = 1;; ms = ms * 2 < LONGEST_WAIT_MS ? ms * 2 : LONGEST_WAIT_MS) {
		if (fd < 0)
			fd = try_open(name);
		if (fd >= 0 && host_is_there(fd))
			return steal_fd(&fd);
		if (io_now_ns() >= until_ns)
			return fd < 0 ? fd : -ENOTCONN;
		poll(NULL, 0, (int)ms);
	}
}
