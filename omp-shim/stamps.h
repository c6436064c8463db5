/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who wrote when. A *stamp* stands for one write: its member and that member's clock, and the
 * number of the write among all that came, by which it is known who was given it. Several members
 * that wrote the same value, or atomic operations of several, are one stamp with several marks.
 */
#ifndef OMP_SHIM_STAMPS_H
#define OMP_SHIM_STAMPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mark {
	uint32_t member, clock;
};

struct stamp {
	uint32_t sequence;
	bool atomic;
	uint32_t count;		/* marks */
	uint32_t room;		/* in `more`; 0: the one is in `one` */
	uint32_t holder;	/* atomic: whose value it is */
	struct mark one;
	struct mark *more;
	uint64_t cell;		/* atomic: the bytes that have this stamp, and no others */
	uint32_t cell_bytes;
};

/* Stamps by number. */
#define STAMP_NONE 0u	/* not written */
#define STAMP_OLD 1u	/* all have seen it, and were given it */

struct stamps {
	unsigned members;
	uint32_t *seen;		/* [member][of member]: the clocks; [m][m] is the member's own time */
	uint32_t *given;	/* [member]: up to which number */
	uint32_t sequence;	/* the last number */
	struct stamp *all;
	uint32_t count;
	size_t room;		/* bytes */
	struct joint {
		uint32_t stamp, with, is;
	} joints[64];		/* those that were asked for last */
	uint32_t *all_seen;	/* [member]: what all have seen of it */
	uint32_t all_given;
	uint32_t looked;	/* when that was found out: a number */
};

/* Return: 0 or -ENOMEM. */
int stamps_init(struct stamps *stamps, unsigned members);
void stamps_fini(struct stamps *stamps);

/* A write that comes now. Return: its stamp, or STAMP_NONE: no memory. */
uint32_t stamps_new(struct stamps *stamps, unsigned member);

/* True if the member has seen all writes of the stamp, or they are its own. */
bool stamps_seen(const struct stamps *stamps, unsigned member, uint32_t stamp);

/* True if the member has yet to be given what has this stamp. */
bool stamps_due(const struct stamps *stamps, unsigned member, uint32_t stamp);

/* The same value by `with` as by `stamp`. Return: the stamp of both, or STAMP_NONE: no memory. */
uint32_t stamps_join(struct stamps *stamps, uint32_t stamp, uint32_t with);

/*
 * An atomic operation of the member's, now, on a cell that has that stamp, which it may not have
 * seen. Return: the stamp of the cell from now on, or STAMP_NONE: no memory.
 */
uint32_t stamps_atomic(struct stamps *stamps, unsigned member, uint32_t stamp, uint64_t cell,
		       uint32_t cell_bytes);

/* Finds out what all know, which only grows; then: true if nobody can ever care about this stamp. */
void stamps_look(struct stamps *stamps);
bool stamps_old(const struct stamps *stamps, uint32_t stamp);

#endif
