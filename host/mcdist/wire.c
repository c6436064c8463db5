/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies of requests and pages, little-endian, field by field. */
#include "host/mcdist/wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static bool span_is_valid(uint64_t gfn, uint32_t pages, uint64_t ram_pages)
{
	return pages >= 1 && pages <= MC_MAX_PAGES && gfn < ram_pages && pages <= ram_pages - gfn;
}

size_t mc_write_request(uint8_t *body, const struct mc_span *spans, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct mc_run run = { .gfn = htole64(spans[i].gfn),
				      .pages = htole32(spans[i].pages) };

		memcpy(body + i * sizeof(run), &run, sizeof(run));
	}
	return count * sizeof(struct mc_run);
}

int mc_read_request(const uint8_t *body, size_t len, uint64_t ram_pages,
		    struct mc_span spans[MC_MAX_RUNS])
{
	size_t count = len / sizeof(struct mc_run);

	if (!count || count > MC_MAX_RUNS || len % sizeof(struct mc_run))
		return -EBADMSG;
	for (size_t i = 0; i < count; i++) {
		struct mc_run run;

		memcpy(&run, body + i * sizeof(run), sizeof(run));
		spans[i] = (struct mc_span){ le64toh(run.gfn), le32toh(run.pages) };
		if (run.reserved || !span_is_valid(spans[i].gfn, spans[i].pages, ram_pages))
			return -EBADMSG;
	}
	return (int)count;
}

void mc_pages_begin(struct mc_pages_writer *w, uint8_t *body, const struct mc_span *span)
{
	*w = (struct mc_pages_writer){ .body = body,
				       .len = sizeof(struct mc_pages),
				       .span = *span };
}

uint8_t *mc_pages_room(struct mc_pages_writer *w)
{
	return w->body + w->len;
}

void mc_pages_add(struct mc_pages_writer *w, bool zero)
{
	if (zero)
		w->zero |= 1u << w->count;
	else
		w->len += MC_PAGE_BYTES;
	w->count++;
}

size_t mc_pages_end(struct mc_pages_writer *w)
{
	struct mc_pages head = { .gfn = htole64(w->span.gfn),
				 .pages = htole32(w->span.pages),
				 .zero = htole32(w->zero) };

	memcpy(w->body, &head, sizeof(head));
	return w->len;
}

int mc_read_pages(const uint8_t *body, size_t len, uint64_t ram_pages, struct mc_pages_reader *r)
{
	struct mc_pages head;
	unsigned zeros;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, body, sizeof(head));
	r->span = (struct mc_span){ le64toh(head.gfn), le32toh(head.pages) };
	r->zero = le32toh(head.zero);
	r->data = body + sizeof(head);
	if (!span_is_valid(r->span.gfn, r->span.pages, ram_pages) || r->zero >> r->span.pages)
		return -EBADMSG;
	zeros = (unsigned)__builtin_popcount(r->zero);
	if (len != sizeof(head) + (size_t)(r->span.pages - zeros) * MC_PAGE_BYTES)
		return -EBADMSG;
	return 0;
}

const uint8_t *mc_next_page(struct mc_pages_reader *r, uint32_t i)
{
	const uint8_t *page = r->data;

	if (r->zero >> i & 1)
		return NULL;
	r->data += MC_PAGE_BYTES;
	return page;
}
