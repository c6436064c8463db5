/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies in the file system: RUN/CLUSTER/ with the key and the hosts file of an embedded
 * cluster, RUN/CLUSTER/HOST/ for each daemon with its socket, log and process id, and a link to the
 * guest image it boots.
 */
#ifndef HOST_SFCTL_FOLDER_H
#define HOST_SFCTL_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HOST_NAME_BYTES 64
#define GUEST_LINK "guest" /* in a daemon's folder: to that of its guest image */

/* A daemon's folder on this machine. */
struct host_folder {
	char name[HOST_NAME_BYTES];
	char dir[PATH_MAX];
	pid_t pid;	      /* 0: no process id was written */
	uint64_t start_ticks; /* of that process, so that a later one is not mistaken for it */
	bool alive;
};

/* CONTROL_RUN_DIR, or $SF_RUN_DIR. */
const char *run_dir(void);

/* 1..EMBED_MAX_NAME of [a-z0-9-], not beginning with a minus. */
bool cluster_name_valid(const char *name);

/* RUN/CLUSTER, or RUN/CLUSTER/FILE. */
void cluster_path(const char *cluster, const char *file, char path[PATH_MAX]);

/* The names of all clusters that have a folder. Return: 0 or -errno; free with names_free(). */
int cluster_names(char ***names, unsigned *count);
void names_free(char **names, unsigned count);

/* The daemons' folders of a cluster, h2 before h10. Return: 0 or -errno; *folders is the caller's.
 */
int cluster_folders(const char *cluster, struct host_folder **folders, unsigned *count);

/*
 * Locks a cluster's folder, so that nobody starts, stops or cleans it meanwhile. Return: 0 and a
 * descriptor that holds the lock (the caller's), -EBUSY, or -errno.
 */
int cluster_lock(const char *cluster, int *fd);

/* Writes sfd.pid, "pid start", to a daemon's folder. Return: 0 or -errno. */
int pidfile_write(const char *dir, pid_t pid);

/* Writes a file whole or not at all. Return: 0 or -errno. */
int file_write(const char *path, const void *data, size_t len, mode_t mode);

/* Removes a folder and all in it; one that is not there is fine. Return: 0 or -errno. */
int folder_remove(const char *path);

#endif
