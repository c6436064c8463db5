/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small helpers around descriptors that the C library leaves to everyone. */
#ifndef COMMON_IO_H
#define COMMON_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define IO_MAX_FDS 136	/* most descriptors in one message of io_send_fds() */

/* Reads exactly `len` bytes, over interruptions. Return: 0, -errno, or -EPIPE at an early end. */
int io_read_full(int fd, void *buf, size_t len);

/* Writes exactly `len` bytes, over interruptions. Return: 0 or -errno. */
int io_write_full(int fd, const void *buf, size_t len);

/*
 * Sends one message of `len` bytes with `nfds` (<= IO_MAX_FDS) descriptors over a UNIX socket.
 * The descriptors stay the caller's. Return: 0 or -errno; -EMSGSIZE if it was cut short.
 */
int io_send_fds(int sock, const void *buf, size_t len, const int *fds, unsigned nfds);

/*
 * Receives one message and up to `max_fds` descriptors (close-on-exec); *nfds says how many came,
 * and they are the caller's. Return: the bytes received (0 at the end), or -errno; -EMSGSIZE if
 * the message or its descriptors did not fit, in which case none is kept.
 */
ssize_t io_recv_fds(int sock, void *buf, size_t len, int *fds, unsigned max_fds, unsigned *nfds);

/* Puts a descriptor in or out of non-blocking mode. Return: 0 or -errno. */
int io_set_nonblock(int fd, bool on);

/* Keeps a descriptor open over exec (on) or not. Return: 0 or -errno. */
int io_set_inherit(int fd, bool on);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t io_now_ns(void);

/*
 * Reads a whole file of at most `limit` bytes; one zero byte is added behind it. Return: 0 or
 * -errno (-EFBIG over the limit); *data is the caller's to free().
 */
int io_read_file(const char *path, size_t limit, char **data, size_t *len);

#endif
