/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers of a disk (proto/vdisk.h): a base, an inherited one, or a sparse file and the map of what
 * is in it; and reading from a stack of them.
 *
 * Any number of threads and processes may read a layer while one process writes it, with any number
 * of threads: a block's data is in the file before its bit is in the map, and a bit is never taken
 * back. Requests for the same block at the same time have no order, as on any disk.
 */
#ifndef HOST_VDISK_LAYER_H
#define HOST_VDISK_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/vdisk.h"

/* Descriptors and mappings are the layer's own. Closed, or from LAYER_NONE, it is none. */
struct layer {
	int file;
	uint64_t bytes;		/* of the disk */
	uint64_t file_bytes;	/* a base's: what lies behind is zeros */
	_Atomic uint64_t *map;	/* NULL: it has every block */
	bool writable;
	const uint8_t *mapping;	/* an inherited one's; NULL: none */
	int uffd;		/* which the mapping is registered with */
};

#define LAYER_NONE { .file = -1, .uffd = -1 }

/* Is this the size of a disk? */
bool layer_is_disk(uint64_t bytes);

/* Opens a base, a regular file or a block device no longer than the disk. Return: 0 or -errno. */
int layer_open_base(struct layer *layer, uint64_t bytes, int file);

/*
 * Opens a layer with a map of exactly as many bits as the disk has blocks, rounded up to words. It
 * is writable if both descriptors are. Return: 0 or -errno.
 */
int layer_open(struct layer *layer, uint64_t bytes, int file, int map);

/*
 * Maps a page file, as long as the disk, with a userfaultfd of this process, made by `device`
 * (/dev/userfaultfd): who reads a page that is missing waits from then on for who serves it.
 * Return: 0 or -errno.
 */
int layer_open_inherited(struct layer *layer, uint64_t bytes, int page_file, int device);

/* Descriptors that were given stay the caller's: the layer has duplicates. */
void layer_close(struct layer *layer);

/* The size of a map for a disk, in bytes. */
uint64_t layer_map_bytes(uint64_t disk_bytes);

bool layer_has(const struct layer *layer, uint64_t block);

/*
 * How many blocks from `block` on, up to `count` (at least 1, inside the disk), the layer has, or
 * lacks, one after the other like the first; *has says which. Return: at least 1.
 */
uint64_t layer_run(const struct layer *layer, uint64_t block, uint64_t count, bool *has);

/*
 * The same of blocks that it has: does the file have data for them, or a hole, which is zeros? An
 * inherited layer's may always be data. Return: at least 1.
 */
uint64_t layer_data_run(const struct layer *layer, uint64_t block, uint64_t count, bool *data);

/*
 * Whole blocks. Reading what it has only. Return: 0 or -errno (-EROFS: it is not writable). Of a
 * write that failed nothing shows where the layer had no block before; elsewhere some of it may.
 */
int layer_read(const struct layer *layer, uint64_t block, uint64_t count, void *to);
int layer_write(struct layer *layer, uint64_t block, uint64_t count, const void *from);
/* From then on it has the blocks: zeros, by a hole if the file system can. */
int layer_zero(struct layer *layer, uint64_t block, uint64_t count);

/* How many blocks in a row are all zeros, or (*zero: false) are not. Return: at least 1. */
uint64_t layer_zero_run(const void *data, uint64_t count, bool *zero);

/* What the file takes on its file system, in bytes. */
uint64_t layer_taken_bytes(const struct layer *layer);

/*
 * Stacks: `layers` from the bottom up.
 *
 * How many blocks from `block` on, up to `count`, are read from the same layer; *which is its
 * place, or -1: none has them. Return: at least 1.
 */
uint64_t layers_run(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		    uint64_t count, int *which);

/*
 * The same, and whether it is data or zeros for sure. Return: at least 1.
 */
uint64_t layers_data_run(const struct layer *const layers[], unsigned layer_count, uint64_t block,
			 uint64_t count, int *which, bool *data);

/* Reads whole blocks, each from the highest that has it, else zeros. Return: 0 or -errno. */
int layers_read(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		uint64_t count, void *to);

/* They will be read soon: whatever is on a disk may be brought into memory already. */
void layers_expect(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		   uint64_t count);

/* Writes all of it to a file. Return: 0 or -errno; at the limit of a file's size -ENOSPC as well. */
int layer_pwrite(int fd, const uint8_t *from, uint64_t bytes, uint64_t offset);

#endif
