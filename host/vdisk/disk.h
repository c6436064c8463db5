/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one disk of this process: its stack, its counters, and whether it is open.
 *
 *   plugin.c     QEMU's requests, on nbdkit's threads
 *   control.c    sfd's requests, on a thread of its own
 *   stack.c      what the disk is made of, under both
 *   merge.c, copy.c   what takes long, on one more thread
 */
#ifndef HOST_VDISK_DISK_H
#define HOST_VDISK_DISK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/vdisk/stack.h"

struct disk {
	struct stack *stack;
	int control;			/* sfd's socket */
	_Atomic bool open;		/* requests are served */
	pthread_mutex_t lock;		/* of the next, and of what control.c says with it */
	pthread_cond_t opened;
	_Atomic uint64_t read_bytes, written_bytes;
};

/* Return: 0 or -ENOMEM. `control` stays the caller's. */
int disk_init(struct disk *disk, uint64_t bytes, int control);

/* Waits until sfd has said what the disk is made of. */
void disk_wait_open(struct disk *disk);

/*
 * Listens to sfd, on a new thread that ends this process at once when the socket closes: threads
 * may wait for pages that nobody will bring any more. Return: 0 or -errno.
 */
int control_start(struct disk *disk);

#endif
