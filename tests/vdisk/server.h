/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real nbdkit with sf-vdisk, its control socket, and a client of NBD that has many requests
 * under way. Whatever goes wrong on the way ends the test program.
 */
#ifndef TESTS_VDISK_SERVER_H
#define TESTS_VDISK_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/vdisk.h"

#define BLOCK VDISK_BLOCK_BYTES

/* ── layers ── */

struct test_layer {
	int file, map;
};

/* Two memfds: an empty layer. */
struct test_layer test_layer_create(uint64_t disk_bytes);
void test_layer_destroy(struct test_layer *layer);

/* What follows from a value; 0: zeros. */
void fill_block(uint8_t block[BLOCK], uint32_t value);

/* ── nbdkit ── */

struct server {
	pid_t pid;
	int control;
	int nbd;	/* the client's end; -1: somebody else's */
	uint64_t bytes;
};

/* Ends the program with 77 and a sentence if nbdkit is not there. */
void need_nbdkit(void);

/* Starts one, and says hello as a client of NBD. */
struct server server_start(uint64_t bytes);
/* The same for a client that has the other end of `nbd` (closed). */
struct server server_start_for(uint64_t bytes, int nbd);

/* Closes what is open still and waits for its end. Return: the wait status. */
int server_stop(struct server *s);

/* Waits until it has ended by itself. Return: the wait status. */
int server_wait(struct server *s);

/* Sends any message. */
void server_send(const struct server *s, const void *message, size_t len, const int *fds,
		 unsigned nfds);
/* Return: the next reply; *fd, if not NULL, is the descriptor that came with it, or -1. */
struct vdisk_reply server_reply(const struct server *s, int *fd);
/* Says something and waits for the answer, whatever is told about progress. */
struct vdisk_reply server_say(const struct server *s, const struct vdisk_request *r,
			      const int *fds, unsigned nfds);
int server_layer(const struct server *s, const struct test_layer *layer);
int server_open(const struct server *s);

/* ── NBD ── */

enum nbd_type { NBD_READ = 0, NBD_WRITE = 1, NBD_FLUSH = 3, NBD_TRIM = 4, NBD_ZERO = 6 };

void nbd_send(const struct server *s, enum nbd_type type, uint64_t cookie, uint64_t offset,
	      uint32_t bytes, const void *data);
/* The next answer. Return: its error on the wire, 0 if none; *cookie is whose. */
uint32_t nbd_answer(const struct server *s, uint64_t *cookie);
/* What follows the answer to a read. */
void nbd_data(const struct server *s, void *data, uint32_t bytes);
/* One request and its answer. Return: its error. */
uint32_t nbd_do(const struct server *s, enum nbd_type type, uint64_t offset, uint32_t bytes,
		void *data);

#endif
