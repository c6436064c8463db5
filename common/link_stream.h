/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The byte stream under a link: a connected socket, plain or with TLS 1.3 and a pre-shared key.
 *
 * Everything here is non-blocking. A call that cannot go on returns -EAGAIN; then `want_write` says
 * that writability is what it waits for, whatever the caller wanted. No call raises SIGPIPE.
 */
#ifndef COMMON_LINK_STREAM_H
#define COMMON_LINK_STREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/link.h"

enum stream_role { STREAM_CLIENT, STREAM_SERVER };

struct link_stream {
	int fd;
	SSL *ssl; /* NULL: plain */
	bool want_write;
	uint8_t key[LINK_KEY_BYTES]; /* wiped after the handshake */
	char why[160];		     /* a sentence after an error */
};

/* Begins TLS on a stream whose `fd` is set. Return: 0 or -ENOMEM. */
int stream_start_tls(struct link_stream *stream, enum stream_role role,
		     const uint8_t key[LINK_KEY_BYTES]);

/* Goes on with the handshake. Return: 0 when done, -EAGAIN, -EACCES (not the same key) or -errno.
 */
int stream_handshake(struct link_stream *stream);

/* Return: bytes read (0: the other side closed it), -EAGAIN or -errno. */
ssize_t stream_read(struct link_stream *stream, void *buf, size_t len);

/* True if stream_read() has bytes that the socket no longer shows as readable. */
bool stream_has_pending(const struct link_stream *stream);

/* Return: bytes taken, -EAGAIN or -errno. After -EAGAIN the next call begins with the same bytes.
 */
ssize_t stream_write(struct link_stream *stream, const void *buf, size_t len);

/* Says that nothing more will be written. */
void stream_shutdown(struct link_stream *stream);

/* Closes the socket and wipes what is secret. */
void stream_close(struct link_stream *stream);

#endif
