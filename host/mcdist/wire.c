/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies of requests and pages, little-endian, field by field. */
#include "host/mcdist/wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define WAITED (UINT32_MAX << MC_WAITED_SHIFT)

static bool span_is_valid(uint64_t gfn, uint32_t pages, uint64_t ram_pages)
{
	return pages >= 1 && pages <= MC_MAX_PAGES && gfn < ram_pages && pages <= ram_pages - gfn;
}

size_t mc_write_request(uint8_t *body, const struct mc_span *spans, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct mc_run run = { .gfn = htole64(spans[i].gfn),
				      .pages = htole32(spans[i].pages),
				      .flags = htole32(spans[i].flags) };

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
		spans[i] = (struct mc_span){ le64toh(run.gfn), le32toh(run.pages),
					     le32toh(run.flags) };
		if (spans[i].flags & ~MC_RUN_FLAGS ||
		    !span_is_valid(spans[i].gfn, spans[i].pages, ram_pages))
			return -EBADMSG;
	}
	return (int)count;
}

size_t mc_write_join(uint8_t *body, const struct mc_join *join)
{
	struct mc_join out = { .node = htole32(join->node), .flags = htole32(join->flags) };

	memcpy(body, &out, sizeof(out));
	return sizeof(out);
}

int mc_read_join(const uint8_t *body, size_t len, struct mc_join *join)
{
	if (len != sizeof(*join))
		return -EBADMSG;
	memcpy(join, body, sizeof(*join));
	join->node = le32toh(join->node);
	join->flags = le32toh(join->flags);
	return join->node < MC_MAX_MEMBERS && !join->flags ? 0 : -EBADMSG;
}

size_t mc_write_report(uint8_t *body, const struct mc_report *report)
{
	struct mc_report out = { .node = htole32(report->node),
				 .sender = htole32(report->sender),
				 .received = htole32(report->received),
				 .missed = htole32(report->missed),
				 .takes_pages_per_s = htole32(report->takes_pages_per_s),
				 .lacks = htole32(report->lacks) };

	memcpy(body, &out, sizeof(out));
	return sizeof(out);
}

int mc_read_report(const uint8_t *body, size_t len, struct mc_report *report)
{
	if (len != sizeof(*report))
		return -EBADMSG;
	memcpy(report, body, sizeof(*report));
	report->node = le32toh(report->node);
	report->sender = le32toh(report->sender);
	report->received = le32toh(report->received);
	report->missed = le32toh(report->missed);
	report->takes_pages_per_s = le32toh(report->takes_pages_per_s);
	report->lacks = le32toh(report->lacks);
	return report->node < MC_MAX_MEMBERS ? 0 : -EBADMSG;
}

/* The table's size is known at the end: until then room is left for all pages of the span. */
static size_t data_at(uint32_t pages)
{
	return sizeof(struct mc_pages) + pages * sizeof(struct mc_page);
}

static uint32_t coded_count(uint32_t pages, uint32_t zero)
{
	return pages - (uint32_t)__builtin_popcount(zero);
}

void mc_pages_begin(struct mc_pages_writer *w, uint8_t *body, const struct mc_span *span)
{
	*w = (struct mc_pages_writer){ .body = body, .len = data_at(span->pages), .span = *span };
}

uint8_t *mc_pages_room(struct mc_pages_writer *w)
{
	return w->body + w->len;
}

void mc_pages_add(struct mc_pages_writer *w, enum mc_coding coding, uint16_t bytes)
{
	w->table[coded_count(w->count, w->zero)] =
		(struct mc_page){ htole16((uint16_t)coding), htole16(bytes) };
	w->len += bytes;
	w->count++;
}

void mc_pages_add_zero(struct mc_pages_writer *w)
{
	w->zero |= 1u << w->count;
	w->count++;
}

size_t mc_pages_end(struct mc_pages_writer *w)
{
	struct mc_pages head = { .gfn = htole64(w->span.gfn),
				 .pages = htole32(w->span.pages),
				 .zero = htole32(w->zero | (w->span.flags & WAITED)) };
	uint32_t coded = coded_count(w->span.pages, w->zero);
	size_t left = data_at(w->span.pages), at = data_at(coded);

	if (at != left)
		memmove(w->body + at, w->body + left, w->len - left);
	memcpy(w->body, &head, sizeof(head));
	memcpy(w->body + sizeof(head), w->table, coded * sizeof(w->table[0]));
	return w->len - left + at;
}

/* Return: false if no page is coded like this. */
static bool page_is_valid(const struct mc_page *page)
{
	switch (page->coding) {
	case MC_PLAIN:
		return page->bytes == MC_PAGE_BYTES;
	case MC_LZ4:
		return page->bytes > 0 && page->bytes < MC_PAGE_BYTES;
	case MC_SAME:
		return page->bytes == sizeof(uint64_t);
	default:
		return false;
	}
}

int mc_read_pages(const uint8_t *body, size_t len, uint64_t ram_pages, struct mc_pages_reader *r)
{
	struct mc_pages head;
	uint32_t coded;
	size_t expected;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, body, sizeof(head));
	*r = (struct mc_pages_reader){ .span = { .gfn = le64toh(head.gfn),
						 .pages = le32toh(head.pages),
						 .flags = le32toh(head.zero) & WAITED },
				       .zero = le32toh(head.zero) & ~WAITED };
	if (!span_is_valid(r->span.gfn, r->span.pages, ram_pages) || r->zero >> r->span.pages)
		return -EBADMSG;
	coded = coded_count(r->span.pages, r->zero);
	expected = data_at(coded);
	if (len < expected)
		return -EBADMSG;
	memcpy(r->table, body + sizeof(head), coded * sizeof(r->table[0]));
	for (uint32_t i = 0; i < coded; i++) {
		r->table[i].coding = le16toh(r->table[i].coding);
		r->table[i].bytes = le16toh(r->table[i].bytes);
		if (!page_is_valid(&r->table[i]))
			return -EBADMSG;
		expected += r->table[i].bytes;
	}
	r->data = body + data_at(coded);
	return len == expected ? 0 : -EBADMSG;
}

size_t mc_write_told(uint8_t *end, const struct mc_span told[MC_TOLD])
{
	struct mc_told out[MC_TOLD];

	for (unsigned i = 0; i < MC_TOLD; i++) {
		uint64_t span = told[i].gfn * MC_MAX_PAGES + told[i].pages - 1;

		out[i].span = told[i].pages ? htole64(span) : UINT64_MAX;
	}
	memcpy(end, out, sizeof(out));
	return sizeof(out);
}

int mc_read_told(const uint8_t *body, size_t *len, uint64_t ram_pages, struct mc_span told[MC_TOLD])
{
	struct mc_told in[MC_TOLD];

	if (*len < sizeof(in))
		return -EBADMSG;
	*len -= sizeof(in);
	memcpy(in, body + *len, sizeof(in));
	for (unsigned i = 0; i < MC_TOLD; i++) {
		uint64_t span = le64toh(in[i].span);

		told[i] = (struct mc_span){ 0 };
		if (span == UINT64_MAX)
			continue;
		told[i].gfn = span / MC_MAX_PAGES;
		told[i].pages = span % MC_MAX_PAGES + 1;
		if (!span_is_valid(told[i].gfn, told[i].pages, ram_pages))
			return -EBADMSG;
	}
	return 0;
}

struct mc_coded mc_next_page(struct mc_pages_reader *r, uint32_t i)
{
	struct mc_coded page = { 0 };
	const struct mc_page *entry = &r->table[r->at];

	if (r->zero >> i & 1)
		return page;
	page = (struct mc_coded){ (enum mc_coding)entry->coding, entry->bytes, r->data };
	r->data += entry->bytes;
	r->at++;
	return page;
}
