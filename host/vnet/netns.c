/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Named network namespaces: a file each, with the namespace mounted on it. */
#define _GNU_SOURCE
#include "host/vnet/netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"

#define OWN_NAMESPACE "/proc/thread-self/ns/net"

static int path_of(const char *name, char path[PATH_MAX])
{
	int len = snprintf(path, PATH_MAX, NETNS_FOLDER "/%s", name);

	return len < 0 || len >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int netns_create(const char *name, int *fd)
{
	_cleanup_fd_ int file = -1;
	char path[PATH_MAX];
	int error = path_of(name, path);

	if (error)
		return error;
	if (mkdir(NETNS_FOLDER, 0755) < 0 && errno != EEXIST)
		return -errno;
	file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (file < 0)
		return -errno;
	if (unshare(CLONE_NEWNET) < 0 || mount(OWN_NAMESPACE, path, "none", MS_BIND, NULL) < 0)
		error = -errno;
	if (!error)
		error = netns_current(fd);
	if (error)
		netns_delete(name);
	return error;
}

int netns_delete(const char *name)
{
	char path[PATH_MAX];
	int error = path_of(name, path);

	if (error)
		return error;
	/* Unlinking takes the mounts away that other mount namespaces have copies of. */
	umount2(path, MNT_DETACH);
	return unlink(path) < 0 ? -errno : 0;
}

int netns_enter(const char *name)
{
	_cleanup_fd_ int fd = -1;
	char path[PATH_MAX];
	int error = path_of(name, path);

	if (error)
		return error;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	return 0;
}

int netns_current(int *fd)
{
	*fd = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

void netns_return(int *fd)
{
	if (*fd < 0)
		return;
	if (setns(*fd, CLONE_NEWNET) < 0)
		log_err("netns: no way back to the caller's namespace: %s", strerror(errno));
	close(*fd);
	*fd = -1;
}

int netns_list(void (*each)(const char *name, void *arg), void *arg)
{
	DIR *folder = opendir(NETNS_FOLDER);
	struct dirent *entry;

	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] != '.')
			each(entry->d_name, arg);
	}
	closedir(folder);
	return 0;
}
