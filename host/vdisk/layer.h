/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One layer of a disk: a sparse file and the map of what is in it (proto/vdisk.h). */
#ifndef HOST_VDISK_LAYER_H
#define HOST_VDISK_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/vdisk.h"

/* Descriptors and mapping are the layer's own. Zeroed, it is none. */
struct layer {
	int file;
	uint64_t bytes;		/* of the disk */
	uint64_t file_bytes;	/* a base's: what lies behind is zeros */
	_Atomic uint64_t *map;	/* NULL: a base, which has every block */
	int map_fd;
};

/* Opens a base from `file` (a duplicate is kept). Return: 0 or -errno. */
int layer_open_base(struct layer *layer, uint64_t bytes, int file);

/* Opens a layer with a map of exactly as many bits as the disk has blocks, rounded up to words. */
int layer_open(struct layer *layer, uint64_t bytes, int file, int map);
void layer_close(struct layer *layer);

/* The size of a map for a disk, in bytes. */
uint64_t layer_map_bytes(uint64_t disk_bytes);

bool layer_has(const struct layer *layer, uint64_t block);

/*
 * How many blocks from `block` on, up to `count`, the layer has (`has`: lacks) one after the other
 * like the first. Return: at least 1.
 */
uint64_t layer_run(const struct layer *layer, uint64_t block, uint64_t count, bool *has);

/* Whole blocks. Reading what it has only. Return: 0 or -errno; of a write nothing shows then. */
int layer_read(const struct layer *layer, uint64_t block, uint64_t count, void *to);
int layer_write(struct layer *layer, uint64_t block, uint64_t count, const void *from);
int layer_zero(struct layer *layer, uint64_t block, uint64_t count);

/*
 * Reads from a stack, the highest first, whole blocks; zeros where none has them. Return: 0 or -errno.
 */
int layers_read(const struct layer *layers, unsigned count, uint64_t block, uint64_t blocks, void *to);

#endif
