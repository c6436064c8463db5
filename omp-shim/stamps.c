/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who wrote when, with vector clocks. */
#include "omp-shim/stamps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "omp-shim/own.h"

static const struct mark *marks_of(const struct stamp *stamp)
{
	return stamp->room ? stamp->more : &stamp->one;
}

static uint32_t *seen_by(const struct stamps *stamps, unsigned member)
{
	return stamps->seen + (size_t)member * stamps->members;
}

/* Return: a stamp without marks, or STAMP_NONE. */
static uint32_t add_stamp(struct stamps *stamps)
{
	size_t need = (stamps->count + 1ull) * sizeof(struct stamp);
	struct stamp *grown = own_grow(stamps->all, &stamps->room, need);

	if (!grown || stamps->count == UINT32_MAX)
		return STAMP_NONE;
	stamps->all = grown;
	memset(&grown[stamps->count], 0, sizeof(*grown));
	return stamps->count++;
}

int stamps_init(struct stamps *stamps, unsigned members)
{
	const size_t square = (size_t)members * members;
	size_t room = 0;

	memset(stamps, 0, sizeof(*stamps));
	stamps->members = members;
	stamps->seen = own_grow(NULL, &room, (square + 2 * members) * sizeof(uint32_t));
	if (!stamps->seen)
		return -ENOMEM;
	stamps->given = stamps->seen + square;
	stamps->all_seen = stamps->given + members;
	for (unsigned m = 0; m < members; m++)
		seen_by(stamps, m)[m] = 1;
	add_stamp(stamps); /* STAMP_NONE and STAMP_OLD */
	add_stamp(stamps);
	return stamps->all ? 0 : -ENOMEM;
}

void stamps_fini(struct stamps *stamps)
{
	for (uint32_t i = 0; i < stamps->count; i++)
		free(stamps->all[i].more);
	own_free(stamps->all);
	own_free(stamps->seen);
	memset(stamps, 0, sizeof(*stamps));
}

uint32_t stamps_new(struct stamps *stamps, unsigned member)
{
	uint32_t number = add_stamp(stamps);
	struct stamp *stamp = &stamps->all[number];

	if (number == STAMP_NONE)
		return STAMP_NONE;
	stamp->sequence = ++stamps->sequence;
	stamp->count = 1;
	stamp->one = (struct mark){ member, seen_by(stamps, member)[member] };
	return number;
}

static bool mark_seen(const struct stamps *stamps, unsigned member, const struct mark *mark)
{
	return mark->member == member || mark->clock <= seen_by(stamps, member)[mark->member];
}

bool stamps_seen(const struct stamps *stamps, unsigned member, uint32_t number)
{
	const struct stamp *stamp = &stamps->all[number];
	const struct mark *marks = marks_of(stamp);

	for (uint32_t i = 0; i < stamp->count; i++) {
		if (!mark_seen(stamps, member, &marks[i]))
			return false;
	}
	return true;
}

bool stamps_due(const struct stamps *stamps, unsigned member, uint32_t number)
{
	const struct stamp *stamp = &stamps->all[number];
	const struct mark *marks = marks_of(stamp);

	if (stamp->sequence <= stamps->given[member])
		return false;
	if (stamp->atomic)
		return stamp->holder != member;
	for (uint32_t i = 0; i < stamp->count; i++) {
		if (marks[i].member == member)
			return false;
	}
	return true;
}

/* Adds a mark, which replaces one of the same member. Return: false: no memory. */
static bool add_mark(struct stamp *stamp, struct mark mark)
{
	struct mark *marks = stamp->room ? stamp->more : &stamp->one, *grown;
	uint32_t room = stamp->room ? 2 * stamp->room : 4;

	for (uint32_t i = 0; i < stamp->count; i++) {
		if (marks[i].member == mark.member) {
			marks[i] = mark;
			return true;
		}
	}
	if (stamp->count < (stamp->room ? stamp->room : 1)) {
		marks[stamp->count++] = mark;
		return true;
	}
	grown = reallocarray(stamp->more, room, sizeof(*grown));
	if (!grown)
		return false;
	if (!stamp->room)
		grown[0] = stamp->one;
	stamp->more = grown;
	stamp->room = room;
	grown[stamp->count++] = mark;
	return true;
}

static bool add_marks(struct stamps *stamps, uint32_t to, uint32_t from)
{
	for (uint32_t i = 0; i < stamps->all[from].count; i++) {
		if (!add_mark(&stamps->all[to], marks_of(&stamps->all[from])[i]))
			return false;
	}
	return true;
}

uint32_t stamps_join(struct stamps *stamps, uint32_t stamp, uint32_t with)
{
	struct joint *joint = &stamps->joints[(stamp * 31 + with) % ARRAY_SIZE(stamps->joints)];
	uint32_t both;

	if (joint->stamp == stamp && joint->with == with && joint->is)
		return joint->is;
	both = add_stamp(stamps);
	if (both == STAMP_NONE || !add_marks(stamps, both, stamp) || !add_marks(stamps, both, with))
		return STAMP_NONE;
	stamps->all[both].sequence = stamps->all[stamp].sequence; /* who has that value has it */
	*joint = (struct joint){ stamp, with, both };
	return both;
}

/* What the member has seen is behind its own operation. */
static void drop_seen(const struct stamps *stamps, struct stamp *stamp, unsigned member)
{
	struct mark *marks = stamp->room ? stamp->more : &stamp->one;
	uint32_t count = 0;

	for (uint32_t i = 0; i < stamp->count; i++) {
		if (!mark_seen(stamps, member, &marks[i]))
			marks[count++] = marks[i];
	}
	stamp->count = count;
}

uint32_t stamps_atomic(struct stamps *stamps, unsigned member, uint32_t number, uint64_t cell,
		       uint32_t cell_bytes)
{
	const struct mark mark = { member, seen_by(stamps, member)[member] };
	struct stamp *stamp = &stamps->all[number];
	uint32_t fresh = number;

	if (!stamp->atomic || stamp->cell != cell || stamp->cell_bytes != cell_bytes) {
		fresh = add_stamp(stamps);
		if (fresh == STAMP_NONE)
			return STAMP_NONE;
		if (stamps->all[number].atomic && !add_marks(stamps, fresh, number))
			return STAMP_NONE;
	}
	stamp = &stamps->all[fresh];
	stamp->atomic = true;
	stamp->cell = cell;
	stamp->cell_bytes = cell_bytes;
	stamp->holder = member;
	stamp->sequence = ++stamps->sequence;
	drop_seen(stamps, stamp, member);
	return add_mark(stamp, mark) ? fresh : STAMP_NONE;
}

void stamps_look(struct stamps *stamps)
{
	stamps->looked = stamps->sequence;
	stamps->all_given = stamps->given[0];
	memcpy(stamps->all_seen, stamps->seen, stamps->members * sizeof(uint32_t));
	for (unsigned m = 1; m < stamps->members; m++) {
		const uint32_t *seen = seen_by(stamps, m);

		if (stamps->given[m] < stamps->all_given)
			stamps->all_given = stamps->given[m];
		for (unsigned of = 0; of < stamps->members; of++) {
			if (seen[of] < stamps->all_seen[of])
				stamps->all_seen[of] = seen[of];
		}
	}
}

bool stamps_old(const struct stamps *stamps, uint32_t number)
{
	const struct stamp *stamp = &stamps->all[number];
	const struct mark *marks = marks_of(stamp);

	if (stamp->sequence > stamps->all_given)
		return false;
	for (uint32_t i = 0; i < stamp->count; i++) {
		if (marks[i].clock > stamps->all_seen[marks[i].member])
			return false;
	}
	return true;
}
