/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers and strings in a saved state: little-endian, nothing between them.
 *
 * Both ends remember a failure, so that a whole sequence is written or read and asked once. After
 * a failure everything read is 0 or empty.
 */
#ifndef HOST_SFD_XS_CODEC_H
#define HOST_SFD_XS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xs_writer {
	uint8_t *bytes;	/* the caller's to free() */
	size_t len;
	size_t room;
	bool failed;	/* no memory */
};

void xs_put_u8(struct xs_writer *w, uint8_t value);
void xs_put_u16(struct xs_writer *w, uint16_t value);
void xs_put_u32(struct xs_writer *w, uint32_t value);
void xs_put_u64(struct xs_writer *w, uint64_t value);
/* `len` bytes (up to 65535) with their length before them, 16 bits. */
void xs_put_bytes(struct xs_writer *w, const void *bytes, size_t len);
void xs_put_string(struct xs_writer *w, const char *text);

struct xs_reader {
	const uint8_t *at;
	size_t left;	/* bytes */
	bool failed;	/* too short, or a string that is none or does not fit */
};

uint8_t xs_get_u8(struct xs_reader *r);
uint16_t xs_get_u16(struct xs_reader *r);
uint32_t xs_get_u32(struct xs_reader *r);
uint64_t xs_get_u64(struct xs_reader *r);
/* Return: the bytes, borrowed from the input, up to `max`; NULL after a failure. */
const void *xs_get_bytes(struct xs_reader *r, size_t max, size_t *len);
/* Reads a string of up to size - 1 bytes without a zero among them into `out`. */
void xs_get_string(struct xs_reader *r, char *out, size_t size);
/*
 * Reads how many things follow, each of at least `least_bytes`; no more than there can be.
 * So a count can be trusted with an allocation.
 */
uint32_t xs_get_count(struct xs_reader *r, uint32_t max, size_t least_bytes);

#endif
