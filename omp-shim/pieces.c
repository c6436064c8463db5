/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pieces put together and taken apart. */
#include "omp-shim/pieces.h"

#include <emmintrin.h>
#include <errno.h>

#include "omp-shim/own.h"
#include "omp-shim/ranges.h"
#include "proto/omp.h"

#define WORDS 8u /* in a line */
#define EACH_WORD 0x0101010101010101ull
#define FEW_RUNS 3u /* from here on scattered bytes may be shorter */
#define MOST_SCATTERED (sizeof(struct omp_piece) + sizeof(struct omp_scattered) + \
			PAGE_LINES * (1 + WORDS) + PAGE_BYTES)

/* -- masks ------------------------------------------------------------------------------------ */

uint64_t line_mask(const uint8_t *a, const uint8_t *b)
{
	uint64_t same = 0;

	for (unsigned i = 0; i < LINE_BYTES / 16; i++) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + i * 16));
		__m128i y = _mm_loadu_si128((const __m128i *)(const void *)(b + i * 16));

		same |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y)) << i * 16;
	}
	return ~same;
}

/* How many bits are set. The compiler's own calls a function where the processor may lack it. */
static inline unsigned bits_in(uint64_t x)
{
	x -= x >> 1 & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (unsigned)(x * 0x0101010101010101ull >> 56);
}

void line_copy(uint8_t *to, const uint8_t *from, uint64_t mask)
{
	if (!~mask) {
		memcpy(to, from, LINE_BYTES);
		return;
	}
	for (; mask; mask >>= 8, to += 8, from += 8) {
		uint8_t one = (uint8_t)mask;

		if (one == 0xff) {
			memcpy(to, from, 8);
			continue;
		}
		for (; one; one &= (uint8_t)(one - 1))
			to[__builtin_ctz(one)] = from[__builtin_ctz(one)];
	}
}

static unsigned runs_of(const uint64_t mask[PAGE_LINES])
{
	uint64_t before = 0;
	unsigned runs = 0;

	for (unsigned i = 0; i < PAGE_LINES; i++) {
		runs += bits_in(mask[i] & ~(mask[i] << 1 | before));
		before = mask[i] >> 63;
	}
	return runs;
}

/* -- put together ----------------------------------------------------------------------------- */

static int make_room(struct pieces *pieces, size_t more)
{
	uint8_t *grown;

	if (pieces->room - pieces->len >= more)
		return 0;
	grown = own_grow(pieces->bytes, &pieces->room, pieces->len + more);
	if (!grown)
		return -ENOMEM;
	pieces->bytes = grown;
	return 0;
}

/* How many of these bytes can be the end of the piece that was appended last. */
static size_t go_on(const struct pieces *pieces, uint64_t address, size_t count)
{
	struct omp_piece last;

	if (!pieces->len)
		return 0;
	memcpy(&last, pieces->bytes + pieces->last, sizeof(last));
	if (last.form != OMP_RUN || last.address + last.bytes != address)
		return 0;
	return count < OMP_MAX_RUN - last.bytes ? count : OMP_MAX_RUN - last.bytes;
}

/* There is room. */
static void put_run(struct pieces *pieces, uint64_t address, const uint8_t *bytes, size_t count)
{
	size_t more = go_on(pieces, address, count);
	struct omp_piece piece;

	if (more) {
		memcpy(&piece, pieces->bytes + pieces->last, sizeof(piece));
		piece.bytes += (uint32_t)more;
		memcpy(pieces->bytes + pieces->last, &piece, sizeof(piece));
		memcpy(pieces->bytes + pieces->len, bytes, more);
		pieces->len += more;
	}
	for (size_t at = more; at < count; at += piece.bytes) {
		size_t part = count - at < OMP_MAX_RUN ? count - at : OMP_MAX_RUN;

		piece = (struct omp_piece){ .address = address + at, .bytes = (uint32_t)part };
		pieces->last = pieces->len;
		memcpy(pieces->bytes + pieces->len, &piece, sizeof(piece));
		memcpy(pieces->bytes + pieces->len + sizeof(piece), bytes + at, part);
		pieces->len += sizeof(piece) + part;
	}
}

int pieces_add(struct pieces *pieces, uint64_t address, const void *bytes, size_t count)
{
	if (make_room(pieces, count + (count / OMP_MAX_RUN + 2) * sizeof(struct omp_piece)))
		return -ENOMEM;
	put_run(pieces, address, bytes, count);
	return 0;
}

/* The mask that most words have, should more than half have one (Boyer and Moore's vote). */
static uint8_t find_pattern(const uint64_t mask[PAGE_LINES])
{
	uint8_t pattern = 0;
	unsigned votes = 0;

	for (unsigned line = 0; line < PAGE_LINES; line++) {
		if (votes && mask[line] == pattern * EACH_WORD) {
			votes += WORDS;
			continue;
		}
		for (uint64_t word = 0; mask[line] && word < WORDS; word++) {
			uint8_t one = (uint8_t)(mask[line] >> word * 8);

			if (!votes)
				pattern = one;
			votes = one == pattern ? votes + 1 : votes - 1;
		}
	}
	return pattern;
}

/* A mask whose bits are all beside one another: where they begin, and how many. */
static inline bool is_run(uint8_t one, unsigned *start, unsigned *count)
{
	unsigned run;

	*start = (unsigned)__builtin_ctz(one);
	run = (unsigned)one >> *start;
	*count = (unsigned)__builtin_ctz(~run);
	return !(run & (run + 1));
}

/* Writes a line's bytes without gaps; up to 7 more than that are touched. Return: how many. */
static size_t pack(uint8_t *to, const uint8_t *line, uint64_t mask)
{
	size_t len = 0;

	for (; mask; mask >>= 8, line += 8) {
		uint8_t one = (uint8_t)mask;
		unsigned start, count;
		uint64_t word;

		if (!one)
			continue;
		memcpy(&word, line, 8);
		if (is_run(one, &start, &count)) {
			word >>= start * 8;
			memcpy(to + len, &word, 8);
			len += count;
			continue;
		}
		for (unsigned b = 0; b < 8; b++, word >>= 8) {
			to[len] = (uint8_t)word;
			len += one >> b & 1;
		}
	}
	return len;
}

/* Writes the masks of a line's words that are not the pattern. Return: how many bytes; 0: plain. */
static size_t pack_mask(uint8_t *to, uint64_t mask, uint8_t pattern)
{
	uint8_t *others = to;
	size_t len = 1;

	if (mask == pattern * EACH_WORD)
		return 0;
	*others = 0;
	for (unsigned word = 0; word < WORDS; word++) {
		uint8_t one = (uint8_t)(mask >> word * 8);

		if (one != pattern) {
			*others |= (uint8_t)(1u << word);
			to[len++] = one;
		}
	}
	return len;
}

/* There is room for MOST_SCATTERED. Return: its length. */
static size_t put_scattered(uint8_t *to, uint64_t address, const uint8_t *page,
			    const uint64_t mask[PAGE_LINES])
{
	struct omp_piece piece = { .address = address, .form = OMP_SCATTERED,
				   .pattern = find_pattern(mask) };
	struct omp_scattered head = { 0 };
	size_t len = sizeof(piece) + sizeof(head);

	for (unsigned line = 0; line < PAGE_LINES; line++) {
		size_t more = mask[line] ? pack_mask(to + len, mask[line], piece.pattern) : 0;

		head.lines |= (uint64_t)!!mask[line] << line;
		head.plain |= (uint64_t)(mask[line] && !more) << line;
		len += more;
	}
	for (unsigned line = 0; line < PAGE_LINES; line++)
		len += pack(to + len, page + line * LINE_BYTES, mask[line]);
	piece.bytes = (uint32_t)(len - sizeof(piece));
	memcpy(to, &piece, sizeof(piece));
	memcpy(to + sizeof(piece), &head, sizeof(head));
	return len;
}

static void put_runs(struct pieces *pieces, uint64_t address, const uint8_t *page,
		     const uint64_t mask[PAGE_LINES])
{
	for (unsigned line = 0; line < PAGE_LINES; line++) {
		uint64_t left = mask[line];

		while (left) {
			unsigned at = (unsigned)__builtin_ctzll(left);
			uint64_t rest = ~(left >> at);
			unsigned count = rest ? (unsigned)__builtin_ctzll(rest) : 64;
			unsigned start = line * LINE_BYTES + at;

			put_run(pieces, address + start, page + start, count);
			left = at + count < 64 ? left & ~0ull << (at + count) : 0;
		}
	}
}

int pieces_add_page(struct pieces *pieces, uint64_t address, const uint8_t *page,
		    const uint64_t mask[PAGE_LINES])
{
	unsigned runs = runs_of(mask), count = 0;
	size_t len;

	if (make_room(pieces, MOST_SCATTERED + 8 + (runs < FEW_RUNS ? 0 : PAGE_BYTES * 16)))
		return -ENOMEM;
	if (runs < FEW_RUNS) {
		put_runs(pieces, address, page, mask);
		return 0;
	}
	for (unsigned line = 0; line < PAGE_LINES; line++)
		count += bits_in(mask[line]);
	len = put_scattered(pieces->bytes + pieces->len, address, page, mask);
	if (len > count + runs * sizeof(struct omp_piece)) {
		put_runs(pieces, address, page, mask);
		return 0;
	}
	pieces->last = pieces->len;
	pieces->len += len;
	return 0;
}

void pieces_fini(struct pieces *pieces)
{
	own_free(pieces->bytes);
	memset(pieces, 0, sizeof(*pieces));
}

/* -- taken apart ------------------------------------------------------------------------------ */

void pieces_read(struct pieces_reader *reader, const uint8_t *bytes, size_t len)
{
	reader->at = bytes;
	reader->end = bytes + len;
	reader->run_bytes = 0;
}

/* The part of a run that is in its first page. */
static void take_run(struct pieces_reader *reader, struct pieces_part *part)
{
	unsigned start = reader->run_address % PAGE_BYTES;
	unsigned count = PAGE_BYTES - start, end;

	if (count > reader->run_bytes)
		count = reader->run_bytes;
	end = start + count;
	part->address = reader->run_address - start;
	part->page = reader->at - start;
	part->first_line = start / LINE_BYTES;
	part->end_line = (end - 1) / LINE_BYTES + 1;
	memset(part->mask, 0, sizeof(part->mask));
	for (unsigned line = part->first_line; line < part->end_line; line++)
		part->mask[line] = ~0ull;
	part->mask[part->first_line] &= ~0ull << start % LINE_BYTES;
	if (end % LINE_BYTES)
		part->mask[part->end_line - 1] &= ~(~0ull << end % LINE_BYTES);
	reader->at += count;
	reader->run_address += count;
	reader->run_bytes -= count;
}

/* Reads a line's mask. Return: false if the piece ends before. */
static bool take_mask(const uint8_t **at, const uint8_t *end, uint8_t pattern, uint64_t *mask)
{
	uint8_t others;

	*mask = 0;
	if (*at == end)
		return false;
	others = *(*at)++;
	if (end - *at < (int)bits_in(others))
		return false;
	for (unsigned word = 0; word < WORDS; word++) {
		uint8_t one = others >> word & 1 ? *(*at)++ : pattern;

		*mask |= (uint64_t)one << word * 8;
	}
	return true;
}

/* The other way round. Return: how many bytes there were, all before `end`. */
static size_t unpack(uint8_t *line, const uint8_t *from, const uint8_t *end, uint64_t mask)
{
	const uint8_t *at = from;

	for (; mask; mask >>= 8, line += 8) {
		uint8_t one = (uint8_t)mask;
		unsigned start, count;
		uint64_t word;

		if (one && end - at >= 8 && is_run(one, &start, &count)) {
			memcpy(&word, at, 8);
			word <<= start * 8;
			memcpy(line, &word, 8);
			at += count;
			continue;
		}
		for (; one; one &= (uint8_t)(one - 1))
			line[__builtin_ctz(one)] = *at++;
	}
	return (size_t)(at - from);
}

/* Return: false if it is not as it should be. */
static bool take_scattered(struct pieces_reader *reader, const struct omp_piece *piece,
			   struct pieces_part *part)
{
	const uint8_t *at = reader->at, *end = at + piece->bytes;
	struct omp_scattered head;
	size_t count = 0;

	if (piece->bytes < sizeof(head) || piece->address % PAGE_BYTES)
		return false;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	if (!head.lines || head.plain & ~head.lines || (head.plain && !piece->pattern))
		return false;
	memset(part->mask, 0, sizeof(part->mask));
	for (uint64_t left = head.lines; left; left &= left - 1) {
		unsigned line = (unsigned)__builtin_ctzll(left);

		part->mask[line] = piece->pattern * EACH_WORD;
		if (!(head.plain >> line & 1) &&
		    !take_mask(&at, end, piece->pattern, &part->mask[line]))
			return false;
		count += bits_in(part->mask[line]);
	}
	if (!count || (size_t)(end - at) != count)
		return false;
	for (uint64_t left = head.lines; left; left &= left - 1) {
		unsigned line = (unsigned)__builtin_ctzll(left);

		at += unpack(reader->page + line * LINE_BYTES, at, end, part->mask[line]);
	}
	part->address = piece->address;
	part->page = reader->page;
	part->first_line = (unsigned)__builtin_ctzll(head.lines);
	part->end_line = 64 - (unsigned)__builtin_clzll(head.lines);
	reader->at = end;
	return true;
}

int pieces_next(struct pieces_reader *reader, struct pieces_part *part)
{
	struct omp_piece piece;

	if (!reader->run_bytes) {
		if (reader->at == reader->end)
			return 0;
		if ((size_t)(reader->end - reader->at) < sizeof(piece))
			return -EPROTO;
		memcpy(&piece, reader->at, sizeof(piece));
		reader->at += sizeof(piece);
		if (!piece.bytes || piece.bytes > OMP_MAX_RUN || piece.reserved ||
		    piece.bytes > (size_t)(reader->end - reader->at) || piece.form >= OMP_FORMS)
			return -EPROTO;
		if (piece.form == OMP_SCATTERED)
			return take_scattered(reader, &piece, part) ? 1 : -EPROTO;
		if (piece.pattern || piece.address > UINT64_MAX - piece.bytes)
			return -EPROTO;
		reader->run_address = piece.address;
		reader->run_bytes = piece.bytes;
	}
	take_run(reader, part);
	return 1;
}

/* True if each byte of the part is in the ranges. */
static bool hold_part(const struct ranges *ranges, const struct pieces_part *part)
{
	if (part->address < UINT64_MAX - PAGE_BYTES &&
	    ranges_hold(ranges, part->address + part->first_line * LINE_BYTES,
			part->address + part->end_line * LINE_BYTES))
		return true;
	for (unsigned line = part->first_line; line < part->end_line; line++) {
		for (uint64_t left = part->mask[line]; left; left &= left - 1) {
			uint64_t at = part->address + line * LINE_BYTES +
				      (unsigned)__builtin_ctzll(left);

			if (!ranges_hold(ranges, at, at + 1))
				return false;
		}
	}
	return true;
}

/* The first and the last byte's places, for the order. */
static void bounds(const struct pieces_part *part, uint64_t *first, uint64_t *last)
{
	unsigned low = part->first_line, high = part->end_line - 1;

	while (!part->mask[low])
		low++;
	while (!part->mask[high])
		high--;
	*first = part->address + low * LINE_BYTES + (unsigned)__builtin_ctzll(part->mask[low]);
	*last = part->address + high * LINE_BYTES + 63 - (unsigned)__builtin_clzll(part->mask[high]);
}

bool pieces_check(const uint8_t *bytes, size_t len, const struct ranges *ranges)
{
	struct pieces_reader reader;
	struct pieces_part part;
	uint64_t before = 0, first, last;
	int rc;

	pieces_read(&reader, bytes, len);
	while ((rc = pieces_next(&reader, &part)) > 0) {
		bounds(&part, &first, &last);
		if ((before && first <= before) || !hold_part(ranges, &part))
			return false;
		before = last;
	}
	return !rc;
}
