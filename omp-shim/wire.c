/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of proto/omp.h on a TCP connection. */
#include "omp-shim/wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "omp-shim/own.h"

#define READ_BYTES 65536u

/* -- out ------------------------------------------------------------------------------------- */

/* Sends all of it, however often the socket takes a part. */
static int send_all(int sock, struct iovec *parts, int count)
{
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = (size_t)count };

	while (message.msg_iovlen) {
		ssize_t sent = sendmsg(sock, &message, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		while (message.msg_iovlen && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen) {
			message.msg_iov->iov_base = (uint8_t *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

/* How much of the pieces goes into a frame with so much room: whole ones. */
static size_t whole_pieces(const uint8_t *pieces, size_t len, size_t room)
{
	size_t at = 0;

	if (len <= room)
		return len;
	for (;;) {
		struct omp_piece piece;
		size_t next;

		memcpy(&piece, pieces + at, sizeof(piece));
		next = at + sizeof(piece) + piece.bytes;
		if (next > room)
			return at;
		at = next;
	}
}

int omp_send(int sock, enum omp_type type, const void *head, size_t head_bytes, const void *tail,
	     size_t tail_bytes)
{
	const uint8_t *rest = tail;
	int rc;

	do {
		size_t part = whole_pieces(rest, tail_bytes, OMP_MAX_FRAME - head_bytes);
		struct omp_frame frame = {
			.length = htole32((uint32_t)(head_bytes + part)),
			.type = htole16((uint16_t)type),
			.flags = htole16(part < tail_bytes ? OMP_MORE : 0),
		};
		struct iovec parts[] = { { &frame, sizeof(frame) },
					 { (void *)(uintptr_t)head, head_bytes },
					 { (void *)(uintptr_t)rest, part } };

		if (!part && tail_bytes)
			return -EMSGSIZE;
		rc = send_all(sock, parts, 3);
		rest += part;
		tail_bytes -= part;
	} while (!rc && tail_bytes);
	return rc;
}

/* -- in -------------------------------------------------------------------------------------- */

int inbox_next(struct inbox *inbox, struct omp_frame *frame, const uint8_t **payload)
{
	struct omp_frame raw;

	if (inbox->used) {
		memmove(inbox->bytes, inbox->bytes + inbox->used, inbox->len - inbox->used);
		inbox->len -= inbox->used;
		inbox->used = 0;
	}
	if (inbox->len < sizeof(raw))
		return 0;
	memcpy(&raw, inbox->bytes, sizeof(raw));
	frame->length = le32toh(raw.length);
	frame->type = le16toh(raw.type);
	frame->flags = le16toh(raw.flags);
	if (frame->length > OMP_MAX_FRAME || !frame->type || frame->type >= OMP_TYPES)
		return -EPROTO;
	if (inbox->len - sizeof(raw) < frame->length)
		return 0;
	*payload = inbox->bytes + sizeof(raw);
	inbox->used = sizeof(raw) + frame->length;
	return 1;
}

int inbox_fill(struct inbox *inbox, int sock)
{
	ssize_t got;

	if (inbox->room - inbox->len < READ_BYTES) {
		uint8_t *grown = own_grow(inbox->bytes, &inbox->room,
					  2 * inbox->room + 2 * READ_BYTES);

		if (!grown)
			return -ENOMEM;
		inbox->bytes = grown;
	}
	do
		got = recv(sock, inbox->bytes + inbox->len, inbox->room - inbox->len, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (!got)
		return -EPIPE;
	inbox->len += (size_t)got;
	return 0;
}

void inbox_fini(struct inbox *inbox)
{
	own_free(inbox->bytes);
	memset(inbox, 0, sizeof(*inbox));
}
