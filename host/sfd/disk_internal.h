/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disk.c (the process), disk_stack.c (its layers) share. */
#ifndef HOST_SFD_DISK_INTERNAL_H
#define HOST_SFD_DISK_INTERNAL_H

#include "host/sfd/disk.h"
#include "host/sfd/image.h"

/* An empty layer. Return: 0 and *layer with one reference, or -errno. */
int layer_new(const struct daemon *d, uint64_t bytes, struct disk_layer **layer);
/* NULL is fine. */
void layer_put(struct disk_layer *layer);

/* The lowest `count` layers and the image, referenced once more. */
void disk_stack_copy(struct disk_stack *to, const struct disk_stack *from, unsigned count);

#endif
