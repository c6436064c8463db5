/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image file that a disk begins with: read, never written.
 *
 * A raw image is used as it is; a qcow2 image is unpacked once, into a file without a name in the
 * daemon's data folder, and kept for the next VM that begins with the same, unchanged one. While a
 * raw image is in use we hold the locks of a reader who lets nobody write, as QEMU understands them.
 */
#ifndef HOST_SFD_IMAGE_H
#define HOST_SFD_IMAGE_H

#include <stdint.h>

#include "host/sfd/daemon.h"

struct image;
struct image_opening;

struct image_events {
	/* A qcow2 image is being unpacked: how far it is. */
	void (*progress)(void *arg, unsigned percent);
	/* With the image, whose reference is the receiver's, or an error and a sentence. */
	void (*opened)(void *arg, int error, const char *why, struct image *image);
};

/*
 * Finds out what a file is, and opens it. The events come from the loop alone. Return: to cancel
 * it until `opened` is called, or NULL if there is no memory.
 */
struct image_opening *image_open(struct daemon *d, const char *path,
				 const struct image_events *events, void *arg);
void image_cancel(struct image_opening *opening);

struct image *image_get(struct image *image);
/* NULL is fine. */
void image_put(struct image *image);

/* Its content, open for reading; the image's. */
int image_fd(const struct image *image);
/* Its length, rounded up to whole blocks. */
uint64_t image_bytes(const struct image *image);
const char *image_path(const struct image *image);

/* The end of the daemon: no image is kept. */
void image_forget_all(void);

/* ---- the data folder ---- */

/*
 * A new file without a name in the data folder, `bytes` long and sparse. Return: a descriptor,
 * or -errno.
 */
int data_file(const struct daemon *d, uint64_t bytes);

/* Another description of the same file, for reading only. Return: a descriptor, or -errno. */
int data_reopen(int fd);

/*
 * Is there room for `bytes` more in the data folder, and for disks to be written? Return: 0, or
 * -ENOSPC with a sentence.
 */
int data_room(const struct daemon *d, uint64_t bytes, char why[WHY_BYTES]);

#endif
