/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of proto/mpi.h on a socket: put together, taken apart, waiting to be sent. */
#ifndef MPI_SHIM_WIRE_H
#define MPI_SHIM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/mpi.h"

/* A payload that is being put together. Zeroed at the start; wire_free() when done. */
struct wire_payload {
	uint8_t *bytes;
	size_t len, room;
	int error; /* 0 or -ENOMEM, -EMSGSIZE: the first that happened; what was added after is not in it */
};

void wire_add(struct wire_payload *payload, const void *bytes, size_t len);
void wire_add_string(struct wire_payload *payload, const char *text);
void wire_free(struct wire_payload *payload);

/*
 * Takes NUL-ended strings from the end of a payload: all `len` bytes must be strings. Return: an
 * array of `*count` pointers into `bytes` with NULL behind them, the caller's to free(); NULL with
 * errno EPROTO if it is no list of at most MPI_MAX_STRINGS strings, ENOMEM.
 */
char **wire_strings(const uint8_t *bytes, size_t len, size_t *count);

/*
 * Blocking, for those with one connection. Return: 0 or -errno; -EPIPE if the peer has gone,
 * -EPROTO for a frame that cannot be. *payload of wire_receive() is the caller's to free(), with one
 * NUL byte behind it that does not count.
 */
int wire_send(int sock, enum mpi_type type, uint32_t number, const struct wire_payload *payload);
int wire_receive(int sock, struct mpi_frame *frame, uint8_t **payload);

/* Not blocking, for the keeper and executor, which have many. */
struct wire {
	int sock;	/* non-blocking; the owner's */
	uint8_t *in, *out;
	size_t in_len, in_room, out_len, out_room;
};

/* Return: 0 or -errno. The payload is copied; it is sent as far as it goes. */
int wire_queue(struct wire *wire, enum mpi_type type, uint32_t number,
	       const struct wire_payload *payload);

/* Sends what waits, as far as it goes. Return: 0 or -errno. */
int wire_flush(struct wire *wire);

/*
 * Reads what has come and hands each whole frame to `handle`, which returns 0 or -errno to stop.
 * Return: 0; -EPIPE at the end; -EPROTO; what `handle` returned.
 */
int wire_read(struct wire *wire,
	      int (*handle)(void *owner, const struct mpi_frame *frame, const uint8_t *payload),
	      void *owner);

/* Frees what it holds; the socket stays the owner's. */
void wire_fini(struct wire *wire);

#endif
