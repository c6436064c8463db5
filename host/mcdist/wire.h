/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bodies of datagrams: written exactly, read with suspicion. */
#ifndef MCDIST_WIRE_H
#define MCDIST_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/mcdist/mcdist.h"

/* Writes a request for `count` (1..MC_MAX_RUNS) spans. Return: the body's length. */
size_t mc_write_request(uint8_t *body, const struct mc_span *spans, unsigned count);

/*
 * Reads a request about a VM of `ram_pages`. Return: how many spans there are, or -EBADMSG if any
 * of it is not as it must be.
 */
int mc_read_request(const uint8_t *body, size_t len, uint64_t ram_pages,
		    struct mc_span spans[MC_MAX_RUNS]);

size_t mc_write_join(uint8_t *body, const struct mc_join *join);
size_t mc_write_report(uint8_t *body, const struct mc_report *report);

/* Return: 0, or -EBADMSG if any of it is not as it must be. */
int mc_read_join(const uint8_t *body, size_t len, struct mc_join *join);
int mc_read_report(const uint8_t *body, size_t len, struct mc_report *report);

/*
 * In the flags of a span that is given, beside MC_RUN_…: the microseconds from being asked for it
 * to having it, as they travel in struct mc_pages.
 */
#define MC_WAITED_SHIFT MC_MAX_PAGES
#define MC_WAITED_MAX_US (UINT32_MAX >> MC_WAITED_SHIFT)

static inline uint32_t mc_waited_flags(uint64_t ns)
{
	uint64_t us = ns / 1000;

	return (uint32_t)(us < MC_WAITED_MAX_US ? us : MC_WAITED_MAX_US) << MC_WAITED_SHIFT;
}

static inline uint64_t mc_waited_ns(uint32_t flags)
{
	return (flags >> MC_WAITED_SHIFT) * 1000ull;
}

/* A body of pages while it is written. */
struct mc_pages_writer {
	uint8_t *body;
	size_t len;		/* of the body as it is now */
	uint32_t count;		/* pages written, zeros as well, */
	uint32_t zero;		/* and bits of those that are zeros */
	struct mc_page table[MC_MAX_PAGES];	/* of the others */
	struct mc_span span;
};

/* Starts with no page. `body` has room for MC_MAX_PAGES. */
void mc_pages_begin(struct mc_pages_writer *w, uint8_t *body, const struct mc_span *span);

/* Where to put the data of the next page, MC_PAGE_BYTES at most, before mc_pages_add(). */
uint8_t *mc_pages_room(struct mc_pages_writer *w);

/* The next page is what lies in the room, or is zeros. */
void mc_pages_add(struct mc_pages_writer *w, enum mc_coding coding, uint16_t bytes);
void mc_pages_add_zero(struct mc_pages_writer *w);

/* Finishes, with all pages of the span added. Return: the body's length. */
size_t mc_pages_end(struct mc_pages_writer *w);

/* Pages as they came. */
struct mc_pages_reader {
	struct mc_span span;
	uint32_t zero;
	uint32_t at;			/* of the table: the next one */
	struct mc_page table[MC_MAX_PAGES];	/* of those that are not zeros */
	const uint8_t *data;
};

/* Reads a body of pages. Return: 0, or -EBADMSG if any of it is not as it must be. */
int mc_read_pages(const uint8_t *body, size_t len, uint64_t ram_pages, struct mc_pages_reader *r);

/*
 * What was sent to a group before, at the end of a body of pages; no pages: none. write: Return:
 * the length of it. read: takes it off *len. Return: 0, or -EBADMSG if any of it is not as it must
 * be.
 */
size_t mc_write_told(uint8_t *end, const struct mc_span told[MC_TOLD]);
int mc_read_told(const uint8_t *body, size_t *len, uint64_t ram_pages,
		 struct mc_span told[MC_TOLD]);

/* A page as it travels. */
struct mc_coded {
	enum mc_coding coding;
	uint16_t bytes;
	const uint8_t *data;	/* borrowed; NULL: all zeros */
};

/* Page number `i` of the span; call with 0, 1, … in order. */
struct mc_coded mc_next_page(struct mc_pages_reader *r, uint32_t i);

#endif
