/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pieces (proto/omp.h) put together and taken apart, a page at a time. A page's *mask* has a bit
 * for each byte: bit b of mask[line] is byte line * 64 + b.
 */
#ifndef OMP_SHIM_PIECES_H
#define OMP_SHIM_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define PAGE_LINES 64u
#define LINE_BYTES 64u

struct ranges;

struct pieces {
	uint8_t *bytes;	   /* not of the program's heap */
	size_t len, room;  /* to use it again: len = 0 */
	size_t last;	   /* where the piece begins that was appended last */
};

/* Appends. Return: 0 or -ENOMEM. */
int pieces_add(struct pieces *pieces, uint64_t address, const void *bytes, size_t count);

/*
 * Appends the bytes of `page` (all of it readable) that the mask names, in the form that is shortest; with what came last if they go on there. Pages come by rising address. Return: 0 or
 * -ENOMEM.
 */
int pieces_add_page(struct pieces *pieces, uint64_t address, const uint8_t *page,
		    const uint64_t mask[PAGE_LINES]);
void pieces_fini(struct pieces *pieces);

/* True if they are pieces as proto/omp.h says, all within `ranges`. */
bool pieces_check(const uint8_t *bytes, size_t len, const struct ranges *ranges);

/* What is left of pieces that are read. */
struct pieces_reader {
	const uint8_t *at, *end;
	uint64_t run_address;	/* of a run that is under way */
	uint32_t run_bytes;
	uint8_t page[PAGE_BYTES];
};

/* A part of a page. */
struct pieces_part {
	uint64_t address;	/* of the page */
	const uint8_t *page;	/* to be read only where the mask is set */
	uint64_t mask[PAGE_LINES];
	unsigned first_line, end_line; /* the mask is 0 before and from there on */
};

void pieces_read(struct pieces_reader *reader, const uint8_t *bytes, size_t len);

/* Return: 1; 0 at the end; -EPROTO if there is no piece. */
int pieces_next(struct pieces_reader *reader, struct pieces_part *part);

/* The bytes in which two lines of 64 differ. */
uint64_t line_mask(const uint8_t *a, const uint8_t *b);

/* Copies the bytes that a line's mask names, place for place. */
void line_copy(uint8_t *to, const uint8_t *from, uint64_t mask);

#endif
