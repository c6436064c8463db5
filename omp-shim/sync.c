/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In a member: what it says to the parent, and what the parent answers. */
#define _GNU_SOURCE
#include "omp-shim/team.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "omp-shim/heap.h"
#include "omp-shim/member.h"
#include "omp-shim/real.h"
#include "omp-shim/wire.h"

#define PIECES_LIMIT (1ull << 30) /* bytes that a member may have written since it last said so */

__thread struct member *omp_here;

static struct inbox inbox;
static struct pieces written;

/* Threads of a nested region come here one at a time; who has a lock keeps it until that is let go. */
static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void turn_begin(void)
{
	REAL(pthread_mutex_lock)(&turn);
}

static void turn_end(void)
{
	REAL(pthread_mutex_unlock)(&turn);
}

/* Without the parent nothing that is done here is of use to anybody. */
static void parent_gone(void)
{
	omp_team.ways->leave(1);
}

void member_fail(enum omp_reason reason, const char *format, ...)
{
	struct omp_fail fail = { .reason = htole32(reason) };
	char sentence[256];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	omp_send(member_self()->sock, OMP_FAIL, &fail, sizeof(fail), sentence,
		 strlen(sentence) + 1);
	omp_team.ways->leave(1);
}

/* Waits for the answer to what was asked, which must be of that type and size at least. */
static const uint8_t *answer(struct member *m, enum omp_type type, size_t least,
			     struct omp_frame *frame)
{
	const uint8_t *payload = NULL;
	int rc;

	while (!(rc = inbox_next(&inbox, frame, &payload))) {
		if (inbox_fill(&inbox, m->sock))
			parent_gone();
	}
	if (rc < 0 || frame->type != type || frame->length < least)
		parent_gone();
	return payload;
}

const struct pieces *sync_written(struct member *m)
{
	struct ranges *ranges = member_ranges(m);
	int rc;

	written.len = 0;
	rc = twin_diff(&m->twin, ranges, &written, PIECES_LIMIT);
	if (rc == -EFBIG)
		member_fail(OMP_TOO_MUCH, "it wrote more than %llu bytes between two synchronisations",
			    PIECES_LIMIT);
	if (rc)
		member_fail(OMP_TOO_MUCH, "what it wrote cannot be found: %s", strerror(-rc));
	m->page_count = m->twin.page_count;
	return &written;
}

/* Puts in what others wrote. */
static void apply(struct member *m, const uint8_t *pieces, size_t len)
{
	if (!len)
		return;
	/* of all that is compared: another's part of the heap has grown meanwhile */
	if (!pieces_check(pieces, len, &omp_team.ranges) || twin_apply(&m->twin, pieces, len))
		parent_gone();
}

/* copyprivate: onto the stack of a thread that sleeps here, or this one's below where it ever will be. */
static void put_stack(const uint8_t *pieces, size_t len)
{
	struct omp_piece piece;

	if (!len)
		return;
	memcpy(&piece, pieces, sizeof(piece));
	if (len != sizeof(piece) + piece.bytes || !team_has_stack(piece.address, piece.bytes))
		parent_gone();
	memcpy((void *)(uintptr_t)piece.address, pieces + sizeof(piece), piece.bytes);
}

/* Says what it is about and what was written, and takes what the answer brings. */
static uint64_t exchange(struct member *m, enum omp_sync_kind kind, uint64_t key, uint64_t value,
			 const struct pieces *pieces)
{
	struct omp_sync sync = { .kind = htole32(kind), .key = htole64(key), .value = htole64(value) };
	struct omp_update update;
	struct omp_frame frame;
	const uint8_t *payload;

	if (omp_send(m->sock, OMP_SYNC, &sync, sizeof(sync), pieces->bytes, pieces->len))
		parent_gone();
	m->syncs++;
	do {
		payload = answer(m, OMP_UPDATE, sizeof(update), &frame);
		memcpy(&update, payload, sizeof(update));
		if (kind == OMP_COPY)
			put_stack(payload + sizeof(update), frame.length - sizeof(update));
		else
			apply(m, payload + sizeof(update), frame.length - sizeof(update));
	} while (frame.flags & OMP_MORE);
	return le64toh(update.value);
}

static const struct pieces no_pieces;

uint64_t sync_point(enum omp_sync_kind kind, uint64_t key, uint64_t value)
{
	struct member *m = member_self();
	uint64_t got;

	turn_begin();
	got = exchange(m, kind, key, value, kind == OMP_SINGLE ? &no_pieces : sync_written(m));
	turn_end();
	return got;
}

void sync_lock(uint64_t key)
{
	turn_begin();
	sync_point(OMP_LOCK, key, 0);
	if (omp_here) /* nobody is kept out */
		turn_end();
}

void sync_unlock(uint64_t key)
{
	sync_point(OMP_UNLOCK, key, 0);
	if (!omp_here)
		turn_end();
}

void sync_copy_set(uint64_t key, void *data)
{
	struct member *m = member_self();
	uint64_t start = (uintptr_t)__builtin_frame_address(0);
	struct pieces stack = { 0 };

	if (m->entry <= start || m->entry - start > OMP_MAX_COPY - sizeof(struct omp_piece))
		member_fail(OMP_TOO_MUCH, "copyprivate with a stack of more than %u bytes", OMP_MAX_COPY);
	if (pieces_add(&stack, start, (const void *)(uintptr_t)start, m->entry - start))
		member_fail(OMP_TOO_MUCH, "no memory");
	turn_begin();
	exchange(m, OMP_COPY_SET, key, (uintptr_t)data, &stack);
	turn_end();
	pieces_fini(&stack);
}

void *sync_copy_get(uint64_t key)
{
	uint64_t data;

	turn_begin();
	data = exchange(member_self(), OMP_COPY, key, 0, &no_pieces);
	turn_end();
	return (void *)(uintptr_t)data;
}

bool sync_chunk(const struct omp_chunk *chunk, struct omp_range *range)
{
	struct member *m = member_self();
	struct omp_chunk ask = {
		.key = htole64(chunk->key),
		.iterations = htole64(chunk->iterations),
		.chunk = htole64(chunk->chunk),
		.schedule = htole32(chunk->schedule),
	};
	struct omp_range got;
	struct omp_frame frame;

	if (omp_send(m->sock, OMP_CHUNK, &ask, sizeof(ask), NULL, 0))
		parent_gone();
	memcpy(&got, answer(m, OMP_RANGE, sizeof(got), &frame), sizeof(got));
	range->begin = le64toh(got.begin);
	range->end = le64toh(got.end);
	return range->begin < range->end;
}

void sync_fetch(uint64_t address, void *bytes, unsigned count)
{
	struct member *m = member_self();
	struct omp_place place = { .address = htole64(address), .bytes = htole32(count) };
	struct omp_frame frame;

	turn_begin(); /* until sync_store() */
	if (twin_differs(&m->twin, address, count)) /* what was written before has to be there */
		sync_point(OMP_FLUSH, 0, 0);
	if (omp_send(m->sock, OMP_FETCH, &place, sizeof(place), NULL, 0))
		parent_gone();
	memcpy(bytes, answer(m, OMP_VALUE, count, &frame), count);
}

void sync_store(uint64_t address, const void *bytes, unsigned count)
{
	struct member *m = member_self();
	struct omp_place place = { .address = htole64(address), .bytes = htole32(count) };
	struct omp_frame frame;

	if (omp_send(m->sock, OMP_STORE, &place, sizeof(place), bytes, count))
		parent_gone();
	answer(m, OMP_UPDATE, sizeof(struct omp_update), &frame);
	twin_put(&m->twin, address, bytes, count);
	turn_end();
}

void sync_await_goodbye(struct member *m)
{
	struct omp_frame frame;

	answer(m, OMP_UPDATE, sizeof(struct omp_update), &frame);
}
