/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames of proto/mpi.h on a socket.
 *
 * What comes is taken as the words of a stranger: a head is checked as soon as it is there, before
 * any memory is taken for what it promises.
 */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structures of proto/mpi.h are sent as they lie"
#endif

#define READ_BYTES 65536u
#define READS	   8 /* of READ_BYTES in one wire_read(): the others have their turn then */

/* ---- putting payloads together ---- */

/* Makes room for `more` bytes behind `len`. Return: 0 or -ENOMEM. */
static int make_room(uint8_t **bytes, size_t *room, size_t len, size_t more)
{
	size_t want = *room ? *room : 256;
	uint8_t *grown;

	if (len + more <= *room)
		return 0;
	while (want < len + more)
		want *= 2;
	grown = realloc(*bytes, want);
	if (!grown)
		return -ENOMEM;
	*bytes = grown;
	*room = want;
	return 0;
}

void wire_add(struct wire_payload *payload, const void *bytes, size_t len)
{
	if (!payload->error && (len > MPI_MAX_FRAME || payload->len + len > MPI_MAX_FRAME))
		payload->error = -EMSGSIZE;
	if (!payload->error)
		payload->error = make_room(&payload->bytes, &payload->room, payload->len, len);
	if (payload->error || !len)
		return;
	memcpy(payload->bytes + payload->len, bytes, len);
	payload->len += len;
}

void wire_add_string(struct wire_payload *payload, const char *text)
{
	wire_add(payload, text, strlen(text) + 1);
}

void wire_free(struct wire_payload *payload)
{
	free(payload->bytes);
	*payload = (struct wire_payload){ 0 };
}

char **wire_strings(const uint8_t *bytes, size_t len, size_t *count)
{
	const char *at = (const char *)bytes, *end = at + len;
	char **strings;
	size_t n = 0;

	errno = EPROTO;
	if (len && end[-1])
		return NULL;
	for (const char *p = at; p < end; p += strlen(p) + 1)
		n++;
	if (n > MPI_MAX_STRINGS)
		return NULL;
	strings = calloc(n + 1, sizeof(*strings));
	if (!strings)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		strings[i] = (char *)at;
		at += strlen(at) + 1;
	}
	*count = n;
	return strings;
}

/* ---- frames ---- */

static bool frame_is_possible(const struct mpi_frame *frame)
{
	return frame->length <= MPI_MAX_FRAME && !frame->reserved && frame->type >= MPI_HELLO &&
	       frame->type < MPI_TYPES;
}

/* Makes the head for a payload (NULL: none). Return: 0, or the payload's error. */
static int make_head(struct mpi_frame *frame, enum mpi_type type, uint32_t number,
		     const struct wire_payload *payload)
{
	*frame = (struct mpi_frame){ .length = payload ? (uint32_t)payload->len : 0,
				     .type = (uint16_t)type,
				     .number = number };
	return payload ? payload->error : 0;
}

/* ---- blocking ---- */

/* Sends all of it; no SIGPIPE. Return: 0 or -errno. */
static int send_all(int sock, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len) {
		ssize_t sent = send(sock, at, len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		at += sent;
		len -= (size_t)sent;
	}
	return 0;
}

int wire_send(int sock, enum mpi_type type, uint32_t number, const struct wire_payload *payload)
{
	struct mpi_frame frame;
	int rc = make_head(&frame, type, number, payload);

	if (!rc)
		rc = send_all(sock, &frame, sizeof(frame));
	return rc || !frame.length ? rc : send_all(sock, payload->bytes, payload->len);
}

int wire_receive(int sock, struct mpi_frame *frame, uint8_t **payload)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	int rc = io_read_full(sock, frame, sizeof(*frame));

	if (rc)
		return rc == -ECONNRESET ? -EPIPE : rc;
	if (!frame_is_possible(frame))
		return -EPROTO;
	bytes = malloc((size_t)frame->length + 1);
	if (!bytes)
		return -ENOMEM;
	bytes[frame->length] = 0;
	rc = io_read_full(sock, bytes, frame->length);
	if (rc)
		return rc == -ECONNRESET ? -EPIPE : rc;
	*payload = steal_ptr(&bytes);
	return 0;
}

/* ---- not blocking ---- */

int wire_queue(struct wire *wire, enum mpi_type type, uint32_t number,
	       const struct wire_payload *payload)
{
	struct mpi_frame frame;
	int rc = make_head(&frame, type, number, payload);

	if (!rc)
		rc = make_room(&wire->out, &wire->out_room, wire->out_len,
			       sizeof(frame) + frame.length);
	if (rc)
		return rc;
	memcpy(wire->out + wire->out_len, &frame, sizeof(frame));
	wire->out_len += sizeof(frame);
	if (frame.length)
		memcpy(wire->out + wire->out_len, payload->bytes, frame.length);
	wire->out_len += frame.length;
	return wire_flush(wire);
}

int wire_flush(struct wire *wire)
{
	size_t done = 0;
	int rc = 0;

	while (done < wire->out_len) {
		ssize_t sent = send(wire->sock, wire->out + done, wire->out_len - done,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			rc = errno == EAGAIN ? 0 : -errno;
			break;
		}
		done += (size_t)sent;
	}
	if (done)
		memmove(wire->out, wire->out + done, wire->out_len - done);
	wire->out_len -= done;
	return rc == -ECONNRESET ? -EPIPE : rc;
}

/* Hands out the whole frames that have come. Return: 0, -EPROTO, what `handle` returned. */
static int hand_out(struct wire *wire,
		    int (*handle)(void *owner, const struct mpi_frame *frame,
				  const uint8_t *payload),
		    void *owner)
{
	size_t at = 0;
	int rc = 0;

	while (!rc && wire->in_len - at >= sizeof(struct mpi_frame)) {
		struct mpi_frame frame;

		memcpy(&frame, wire->in + at, sizeof(frame));
		if (!frame_is_possible(&frame)) {
			rc = -EPROTO;
			break;
		}
		if (wire->in_len - at - sizeof(frame) < frame.length)
			break;
		rc = handle(owner, &frame, wire->in + at + sizeof(frame));
		at += sizeof(frame) + frame.length;
	}
	memmove(wire->in, wire->in + at, wire->in_len - at);
	wire->in_len -= at;
	return rc;
}

int wire_read(struct wire *wire,
	      int (*handle)(void *owner, const struct mpi_frame *frame, const uint8_t *payload),
	      void *owner)
{
	for (unsigned i = 0; i < READS; i++) {
		ssize_t got;
		int rc = make_room(&wire->in, &wire->in_room, wire->in_len, READ_BYTES);

		if (rc)
			return rc;
		do {
			got = recv(wire->sock, wire->in + wire->in_len, READ_BYTES, MSG_DONTWAIT);
		} while (got < 0 && errno == EINTR);
		if (got < 0)
			return errno == EAGAIN ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
		if (!got)
			return -EPIPE;
		wire->in_len += (size_t)got;
		rc = hand_out(wire, handle, owner);
		if (rc)
			return rc;
		if ((size_t)got < READ_BYTES)
			return 0;
	}
	return 0;
}

void wire_fini(struct wire *wire)
{
	free(wire->in);
	free(wire->out);
	*wire = (struct wire){ .sock = wire->sock };
}
