/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of proto/omp.h on a TCP connection. */
#ifndef OMP_SHIM_WIRE_H
#define OMP_SHIM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/omp.h"

/*
 * Sends one frame of a head and a tail (each may be empty); more than OMP_MAX_FRAME bytes of tail,
 * which then are pieces, go in several. Blocks. Return: 0 or -errno.
 */
int omp_send(int sock, enum omp_type type, const void *head, size_t head_bytes, const void *tail,
	     size_t tail_bytes);

/* What has come on one connection. Zeroed at the start; inbox_fini() when done. */
struct inbox {
	uint8_t *bytes;
	size_t len, room;
	size_t used; /* of the frame that was handed out last */
};

/*
 * The next whole frame. Return: 1 and *frame, *payload (good until the next call); 0: not all of it
 * is there; -EPROTO: it cannot be.
 */
int inbox_next(struct inbox *inbox, struct omp_frame *frame, const uint8_t **payload);

/*
 * Reads what is there, or waits for something. Return: 0; -EPIPE at the end; -errno. -EAGAIN if the
 * socket does not block and nothing is there.
 */
int inbox_fill(struct inbox *inbox, int sock);
void inbox_fini(struct inbox *inbox);

#endif
