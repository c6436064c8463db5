/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frozen layers become one, or an image. It takes long, and may wait for another host's pages. */
#ifndef HOST_VDISK_MERGE_H
#define HOST_VDISK_MERGE_H

#include "host/vdisk/layer.h"

/*
 * Writes the highest of each block that one of the layers has into `into`, which is empty. Blocks
 * of zeros become holes that it has. Return: 0 or -errno.
 */
int vdisk_merge(const struct layer *const layers[], unsigned count, struct layer *into);

/* Is called now and then: so many bytes of the disk are done. Return: false to end it. */
typedef bool vdisk_progress(void *arg, uint64_t done_bytes);

/*
 * Writes a disk of `bytes` as a raw image into an empty file; what is zeros becomes holes. It is
 * not synced: that is for who gives the image a name. Return: 0; -EINVAL if it is not an empty
 * file; -ECANCELED if `progress` ended it; -errno.
 */
int vdisk_copy(const struct layer *const layers[], unsigned count, uint64_t bytes, int file,
	       vdisk_progress *progress, void *arg);

#endif
