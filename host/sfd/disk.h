/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One disk of one VM on this host: its nbdkit with sf-vdisk (proto/vdisk.h), and the keeping of
 * the layers it is made of. Beneath everything stands its ground: an image, or for a clone on
 * another host than its parent's a page file that memtap fills.
 */
#ifndef HOST_SFD_DISK_H
#define HOST_SFD_DISK_H

#include <stdint.h>
#include <sys/types.h>

#include "host/sfd/daemon.h"
#include "proto/vdisk.h"

#define DISK_MAX_FROZEN 4 /* layers above the ground; more are merged when there is time */

struct disk;
struct image;

/* A layer that somebody counts on. */
struct disk_layer {
	unsigned refs;
	int file, map;
};

/* A disk as it was at some instant: layers from the bottom up, each a reference. Zeroed: nothing. */
struct disk_stack {
	struct image *image; /* NULL: inherited */
	struct disk_layer *layers[VDISK_MAX_LAYERS];
	unsigned count;
};

void disk_stack_fini(struct disk_stack *stack);
/* Of these layers, what is allocated in the data folder. */
uint64_t disk_stack_bytes(const struct disk_stack *stack);

/* The answer to a request: 0 or -errno. None comes after disk_stop(). */
typedef void disk_done(void *arg, int error);

/*
 * Starts the process as user `uid`. *nbd gets the socket for QEMU, the caller's. `ended`: it is no
 * more, by no wish of ours; `why` is NULL if that is because QEMU is. Return: the disk, to disk_stop(), or NULL with a
 * sentence.
 */
struct disk *disk_start(struct daemon *d, const char *vm, unsigned number, uint64_t bytes,
			uid_t uid, int *nbd, void (*ended)(void *arg, const char *why), void *arg,
			char why[WHY_BYTES]);
/* NULL is fine. */
void disk_stop(struct disk *disk);

/* ---- what it is made of, from the bottom up ---- */

/* The image, and above it frozen layers, all of `stack`. Return: 0 or -errno. */
int disk_stand_on(struct disk *disk, const struct disk_stack *stack);

/* The page file, borrowed. `done` with the mapping and its userfaultfd (the receiver's), or -1. */
typedef void disk_inherited(void *arg, int error, int uffd, uint64_t base);
int disk_inherit(struct disk *disk, int page_file, disk_inherited *done, void *arg);

/* Makes the next layer, so that it is there when it is wanted. Return: 0 or -errno. */
int disk_prepare(struct disk *disk);

/* A new layer on top: what was there is frozen when `done` is called. Return: 0 or -errno. */
int disk_freeze(struct disk *disk, disk_done *done, void *arg);

/* Requests are served from now on. Return: 0 or -errno. */
int disk_open(struct disk *disk, disk_done *done, void *arg);

/* All but the top: a reference to each. To disk_stack_fini(). */
void disk_frozen(const struct disk *disk, struct disk_stack *stack);

/* Merges layers if there are too many, and nothing else is under way. */
void disk_tidy(struct disk *disk);

/*
 * Writes the disk, as it is now, into `file` (borrowed; empty). `progress` now and then. Waits for
 * a merge that is under way. disk_forget() ends it. Return: 0 or -errno; -EBUSY: another export is
 * under way.
 */
int disk_export(struct disk *disk, int file, void (*progress)(void *arg, uint64_t bytes),
		disk_done *done, void *arg);

/* No callback with this argument any more. */
void disk_forget(struct disk *disk, void *arg);

uint64_t disk_bytes(const struct disk *disk);
/* Layers above the ground, the top one among them; bytes allocated for those it made itself. */
unsigned disk_layers(const struct disk *disk);
uint64_t disk_own_bytes(const struct disk *disk);
pid_t disk_pid(const struct disk *disk);

#endif
