/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: written into a file without a name, beside where the image is to be, which gets its name
 * when all of it is there. Whatever ends it earlier leaves nothing.
 */
#define _GNU_SOURCE
#include "host/sfd/export.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/control.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"

struct export {
	struct control *owner; /* NULL: gone */
	json_t *request;
	struct disk *disk;
	int file;
	char path[PATH_MAX];
	LIST_ENTRY(export) entry;
};

static LIST_HEAD(, export) exports = LIST_HEAD_INITIALIZER(exports);

static void export_free(struct export *e)
{
	LIST_REMOVE(e, entry);
	disk_forget(e->disk, e);
	cleanup_close(&e->file);
	json_decref(e->request);
	free(e);
}

static void export_progress(void *arg, uint64_t bytes)
{
	struct export *e = arg;

	control_event(e->owner,
		      json_pack("{ss ss sI sI}", "ev", "export", "id",
				field_text(e->request, "id", ""), "bytes", (json_int_t)bytes, "of",
				(json_int_t)disk_bytes(e->disk)));
}

/* Gives the file its name. Return: 0 or -errno; -EEXIST: there is another of that name. */
static int publish(const struct export *e)
{
	char open_file[32];

	snprintf(open_file, sizeof(open_file), "/proc/self/fd/%d", e->file);
	return linkat(AT_FDCWD, open_file, AT_FDCWD, e->path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static void export_done(void *arg, int error)
{
	struct export *e = arg;
	int rc = error ? error : publish(e);

	if (rc)
		control_refuse(e->owner, e->request, rc, "%.150s could not be written: %s", e->path,
			       strerror(-rc));
	else
		control_reply(e->owner, e->request,
			      json_pack("{sI}", "bytes", (json_int_t)disk_bytes(e->disk)));
	export_free(e);
}

/* The VM or clone of this host that is meant, or NULL. */
static struct vm *find_vm(struct daemon *d, const char *id)
{
	struct guest *g = guest_find(d, id);

	return g ? &g->vm : clones_find(d, id);
}

static int make_file(const char *path)
{
	char copy[PATH_MAX];
	int fd;

	if (!access(path, F_OK))
		return -EEXIST;
	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static void export_begin(struct control *owner, json_t *request, struct disk *disk,
			 const char *path)
{
	struct export *e = calloc(1, sizeof(*e));
	int rc = -ENOMEM;

	if (e) {
		*e = (struct export){ .owner = owner, .request = json_incref(request), .disk = disk,
				      .file = make_file(path) };
		snprintf(e->path, sizeof(e->path), "%s", path);
		LIST_INSERT_HEAD(&exports, e, entry);
		rc = e->file < 0 ? e->file
				 : disk_export(disk, e->file, export_progress, export_done, e);
	}
	if (!rc)
		return;
	if (rc == -EEXIST)
		control_refuse(owner, request, rc, "%.150s is there already", path);
	else if (rc == -EBUSY)
		control_refuse(owner, request, rc, "the disk is being exported already");
	else
		control_refuse(owner, request, rc, "%.150s cannot be written: %s", path,
			       rc == -EOPNOTSUPP ? "its file system has no files without a name"
						 : strerror(-rc));
	if (e)
		export_free(e);
}

void export_serve(struct daemon *d, struct control *owner, json_t *request)
{
	const char *id = field_text(request, "id", ""), *path = field_text(request, "path", "");
	struct vm *vm = find_vm(d, id);
	unsigned number = 0;

	if (*path != '/' || strlen(path) >= PATH_MAX) {
		control_refuse(owner, request, -EINVAL, "an image is named by its absolute path");
	} else if (!vm) {
		control_refuse(owner, request, -ENOENT, "there is no VM or clone %.100s on host %s",
			       id, d->self->name);
	} else if (!field_unsigned(request, "disk", 0, VMM_MAX_DISKS - 1, &number) ||
		   !vm->disks[number]) {
		control_refuse(owner, request, -ENOENT, "VM %.100s has no disk %u", id, number);
	} else {
		export_begin(owner, request, vm->disks[number], path);
	}
}

void export_control_lost(const struct control *owner)
{
	struct export *e, *next;

	for (e = LIST_FIRST(&exports); e; e = next) {
		next = LIST_NEXT(e, entry);
		if (e->owner == owner)
			export_free(e);
	}
}

void export_disk_lost(const struct disk *disk)
{
	struct export *e, *next;

	for (e = LIST_FIRST(&exports); e; e = next) {
		next = LIST_NEXT(e, entry);
		if (e->disk != disk)
			continue;
		control_refuse(e->owner, e->request, -EIO, "the VM ended meanwhile");
		export_free(e);
	}
}
