/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers and strings in a saved state: little-endian, nothing between them. */
#include "host/sfd/xs_codec.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static void put(struct xs_writer *w, const void *bytes, size_t len)
{
	if (w->room - w->len < len) {
		size_t room = (w->room + len) * 2;
		uint8_t *grown = w->failed ? NULL : realloc(w->bytes, room);

		if (!grown) {
			w->failed = true;
			return;
		}
		w->bytes = grown;
		w->room = room;
	}
	if (len)
		memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
}

void xs_put_u8(struct xs_writer *w, uint8_t value)
{
	put(w, &value, sizeof(value));
}

void xs_put_u16(struct xs_writer *w, uint16_t value)
{
	value = htole16(value);
	put(w, &value, sizeof(value));
}

void xs_put_u32(struct xs_writer *w, uint32_t value)
{
	value = htole32(value);
	put(w, &value, sizeof(value));
}

void xs_put_u64(struct xs_writer *w, uint64_t value)
{
	value = htole64(value);
	put(w, &value, sizeof(value));
}

void xs_put_bytes(struct xs_writer *w, const void *bytes, size_t len)
{
	if (len > UINT16_MAX)
		w->failed = true;
	xs_put_u16(w, (uint16_t)len);
	put(w, bytes, len);
}

void xs_put_string(struct xs_writer *w, const char *text)
{
	xs_put_bytes(w, text, strlen(text));
}

static void get(struct xs_reader *r, void *out, size_t len)
{
	if (r->failed || r->left < len) {
		r->failed = true;
		memset(out, 0, len);
		return;
	}
	memcpy(out, r->at, len);
	r->at += len;
	r->left -= len;
}

uint8_t xs_get_u8(struct xs_reader *r)
{
	uint8_t value;

	get(r, &value, sizeof(value));
	return value;
}

uint16_t xs_get_u16(struct xs_reader *r)
{
	uint16_t value;

	get(r, &value, sizeof(value));
	return le16toh(value);
}

uint32_t xs_get_u32(struct xs_reader *r)
{
	uint32_t value;

	get(r, &value, sizeof(value));
	return le32toh(value);
}

uint64_t xs_get_u64(struct xs_reader *r)
{
	uint64_t value;

	get(r, &value, sizeof(value));
	return le64toh(value);
}

const void *xs_get_bytes(struct xs_reader *r, size_t max, size_t *len)
{
	const void *bytes;

	*len = xs_get_u16(r);
	if (r->failed || *len > max || *len > r->left) {
		r->failed = true;
		*len = 0;
		return NULL;
	}
	bytes = r->at;
	r->at += *len;
	r->left -= *len;
	return bytes;
}

void xs_get_string(struct xs_reader *r, char *out, size_t size)
{
	size_t len;
	const void *bytes = xs_get_bytes(r, size - 1, &len);

	if (len && memchr(bytes, '\0', len)) {
		r->failed = true;
		len = 0;
	}
	if (len)
		memcpy(out, bytes, len);
	out[len] = '\0';
}

uint32_t xs_get_count(struct xs_reader *r, uint32_t max, size_t least_bytes)
{
	uint32_t count = xs_get_u32(r);

	if (count > max || count > r->left / least_bytes) {
		r->failed = true;
		return 0;
	}
	return count;
}
