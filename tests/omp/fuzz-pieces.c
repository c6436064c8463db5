/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of pieces: bytes as they are, and pieces that are right or nearly, are refused or stay
 * within the ranges; and masks of all kinds come out as they went in.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "omp-shim/ranges.h"
#include "omp-shim/twin.h"
#include "tests/memtap/fuzz.h"

#define SPACE_START 0x100000u
#define SPACE_PAGES 8u

static struct ranges ranges;

static void start(void)
{
	if (ranges_add(&ranges, SPACE_START, SPACE_START + SPACE_PAGES * PAGE_BYTES) ||
	    ranges_remove(&ranges, SPACE_START + 5000, SPACE_START + 5100))
		abort();
}

/* What is accepted is within the ranges, by rising address. */
static void read_all(const uint8_t *bytes, size_t len)
{
	struct pieces_reader reader;
	struct pieces_part part;
	uint64_t before = 0;

	if (!pieces_check(bytes, len, &ranges))
		return;
	pieces_read(&reader, bytes, len);
	while (pieces_next(&reader, &part) > 0) {
		for (unsigned i = 0; i < PAGE_BYTES; i++) {
			volatile uint8_t byte;

			if (!(part.mask[i / LINE_BYTES] >> i % LINE_BYTES & 1))
				continue;
			byte = part.page[i];
			(void)byte;
			if (part.address + i <= before ||
			    !ranges_hold(&ranges, part.address + i, part.address + i + 1))
				abort();
			before = part.address + i;
		}
	}
}

/* Pieces that are right, or nearly. Return: their length. */
static size_t make_pieces(struct fuzz_input *in, uint8_t *bytes, size_t room)
{
	size_t len = 0;
	uint64_t page = SPACE_START;

	while (in->left && len + 1024 < room) {
		struct omp_piece piece = { .form = fuzz_byte(in) % 8 < 4 };
		struct omp_scattered head = { 0 };
		size_t least = piece.form == OMP_SCATTERED ? sizeof(head) : 0;

		page += fuzz_byte(in) % 3 * PAGE_BYTES;
		piece.address = page + (piece.form ? 0 : fuzz_number(in) % PAGE_BYTES);
		piece.pattern = piece.form ? fuzz_byte(in) : 0;
		piece.bytes = (uint32_t)(least + fuzz_number(in) % 200);
		for (unsigned i = fuzz_byte(in) % 4; i; i--) {
			head.lines |= 1ull << fuzz_byte(in) % 64;
			head.plain |= fuzz_byte(in) % 2 ? head.lines : 0;
		}
		memcpy(bytes + len, &piece, sizeof(piece));
		len += sizeof(piece);
		memcpy(bytes + len, &head, least);
		for (size_t i = least; i < piece.bytes; i++)
			bytes[len + i] = fuzz_byte(in);
		len += piece.bytes;
	}
	if (fuzz_byte(in) % 8 == 1 && len)
		bytes[fuzz_number(in) % len] ^= fuzz_byte(in);
	return len;
}

/* A mask with runs and patterns. */
static void make_mask(struct fuzz_input *in, uint64_t mask[PAGE_LINES])
{
	uint64_t pattern = fuzz_byte(in) * 0x0101010101010101ull;

	for (unsigned line = 0; line < PAGE_LINES; line++) {
		switch (fuzz_byte(in) % 8) {
		case 0:
			mask[line] = fuzz_number(in);
			break;
		case 1:
			mask[line] = ~0ull;
			break;
		case 2:
		case 3:
			mask[line] = pattern;
			break;
		case 4:
			mask[line] = pattern ^ 1ull << fuzz_byte(in) % 64;
			break;
		default:
			mask[line] = 0;
		}
	}
}

/* Puts pages together, and looks whether they come out again. */
static void go_round(struct fuzz_input *in)
{
	static uint8_t page[PAGE_BYTES], expect[SPACE_PAGES * PAGE_BYTES], got[sizeof(expect)];
	static bool written[sizeof(expect)], came[sizeof(expect)];
	struct pieces pieces = { 0 };
	struct pieces_reader reader;
	struct pieces_part part;
	uint64_t mask[PAGE_LINES];
	struct ranges all = { 0 };

	memset(written, 0, sizeof(written));
	memset(came, 0, sizeof(came));
	for (unsigned at = 0; at < SPACE_PAGES; at++) {
		make_mask(in, mask);
		for (unsigned i = 0; i < PAGE_BYTES; i++)
			page[i] = (uint8_t)(i * 7 + at);
		if (pieces_add_page(&pieces, SPACE_START + at * PAGE_BYTES, page, mask))
			abort();
		for (unsigned i = 0; i < PAGE_BYTES; i++) {
			written[at * PAGE_BYTES + i] = mask[i / LINE_BYTES] >> i % LINE_BYTES & 1;
			expect[at * PAGE_BYTES + i] = page[i];
		}
	}
	if (ranges_add(&all, SPACE_START, SPACE_START + sizeof(expect)) ||
	    !pieces_check(pieces.bytes, pieces.len, &all))
		abort();
	pieces_read(&reader, pieces.bytes, pieces.len);
	while (pieces_next(&reader, &part) > 0) {
		for (unsigned i = 0; i < PAGE_BYTES; i++) {
			size_t at = part.address - SPACE_START + i;

			if (part.mask[i / LINE_BYTES] >> i % LINE_BYTES & 1)
				came[at] = true, got[at] = part.page[i];
		}
	}
	for (size_t i = 0; i < sizeof(expect); i++) {
		if (came[i] != written[i] || (came[i] && got[i] != expect[i]))
			abort();
	}
	ranges_fini(&all);
	pieces_fini(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t bytes[16384], *copy;
	size_t len;

	if (!ranges.count)
		start();
	copy = malloc(size ? size : 1); /* of its size, for who watches borders */
	if (!copy)
		abort();
	memcpy(copy, data, size);
	read_all(copy, size);
	free(copy);
	len = make_pieces(&in, bytes, sizeof(bytes));
	copy = malloc(len ? len : 1);
	if (!copy)
		abort();
	memcpy(copy, bytes, len);
	read_all(copy, len);
	free(copy);
	in = (struct fuzz_input){ data, size };
	if (size > 64)
		go_round(&in);
	return 0;
}
