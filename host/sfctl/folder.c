/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folders of clusters and their daemons. */
#include "host/sfctl/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfctl/proc.h"
#include "host/vnet/embed.h"
#include "proto/control.h"

#define PIDFILE "sfd.pid"

const char *run_dir(void)
{
	const char *dir = getenv("SF_RUN_DIR");

	return dir && *dir ? dir : CONTROL_RUN_DIR;
}

bool cluster_name_valid(const char *name)
{
	size_t len = strlen(name);

	return len && len <= EMBED_MAX_NAME && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

void cluster_path(const char *cluster, const char *file, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s%s%s", run_dir(), cluster, file ? "/" : "",
		 file ? file : "");
}

static int is_folder(const char *dir, const struct dirent *entry)
{
	char path[PATH_MAX];
	struct stat st;

	if (*entry->d_name == '.')
		return 0;
	snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
	return !lstat(path, &st) && S_ISDIR(st.st_mode);
}

/* Names of the folders in `dir`, sorted as a person would. Return: 0 or -errno. */
static int folder_names(const char *dir, char ***names, unsigned *count)
{
	struct dirent **entries;
	int found = scandir(dir, &entries, NULL, versionsort);

	*names = NULL;
	*count = 0;
	if (found < 0)
		return errno == ENOENT ? 0 : -errno;
	*names = calloc((size_t)found + 1, sizeof(**names));
	for (int i = 0; i < found; i++) {
		if (*names && is_folder(dir, entries[i])) {
			(*names)[*count] = strdup(entries[i]->d_name);
			*count += (*names)[*count] != NULL;
		}
		free(entries[i]);
	}
	free(entries);
	return *names ? 0 : -ENOMEM;
}

int cluster_names(char ***names, unsigned *count)
{
	return folder_names(run_dir(), names, count);
}

void names_free(char **names, unsigned count)
{
	while (count)
		free(names[--count]);
	free(names);
}

static void pidfile_read(struct host_folder *folder)
{
	char path[PATH_MAX + sizeof(PIDFILE)];
	_cleanup_free_ char *text = NULL;
	unsigned long long start;
	size_t len;
	int pid;

	snprintf(path, sizeof(path), "%s/" PIDFILE, folder->dir);
	if (io_read_file(path, 256, &text, &len) || sscanf(text, "%d %llu", &pid, &start) != 2 ||
	    pid <= 1)
		return;
	folder->pid = pid;
	folder->start_ticks = start;
	folder->alive = proc_is(pid, start);
}

int cluster_folders(const char *cluster, struct host_folder **folders, unsigned *count)
{
	char dir[PATH_MAX];
	char **names;
	int error;

	cluster_path(cluster, NULL, dir);
	error = folder_names(dir, &names, count);
	if (error)
		return error;
	*folders = calloc(*count + 1, sizeof(**folders));
	for (unsigned i = 0; *folders && i < *count; i++) {
		struct host_folder *folder = &(*folders)[i];

		snprintf(folder->name, sizeof(folder->name), "%s", names[i]);
		cluster_path(cluster, names[i], folder->dir);
		pidfile_read(folder);
	}
	names_free(names, *count);
	return *folders ? 0 : -ENOMEM;
}

int cluster_lock(const char *cluster, int *fd)
{
	char dir[PATH_MAX];
	_cleanup_fd_ int folder = -1;

	cluster_path(cluster, NULL, dir);
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	if (flock(folder, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*fd = steal_fd(&folder);
	return 0;
}

int pidfile_write(const char *dir, pid_t pid)
{
	char path[PATH_MAX + sizeof(PIDFILE)], text[64];
	int len = snprintf(text, sizeof(text), "%d %llu\n", (int)pid,
			   (unsigned long long)proc_start_ticks(pid));

	snprintf(path, sizeof(path), "%s/" PIDFILE, dir);
	return file_write(path, text, (size_t)len, 0600);
}

int file_write(const char *path, const void *data, size_t len, mode_t mode)
{
	char temporary[PATH_MAX + 16];
	_cleanup_fd_ int fd = -1;
	int error;

	snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	fd = mkstemp(temporary);
	if (fd < 0)
		return -errno;
	error = io_write_full(fd, data, len);
	if (!error && fchmod(fd, mode))
		error = -errno;
	if (!error && rename(temporary, path))
		error = -errno;
	if (error)
		unlink(temporary);
	return error;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int folder_remove(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) && errno != ENOENT)
		return -errno;
	return 0;
}
