/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A member's shared loop. */
#ifndef OMP_SHIM_LOOPS_H
#define OMP_SHIM_LOOPS_H

#include "omp-shim/entry.h"

struct loop_call { /* as the program begins it */
	int schedule;	/* enum omp_schedule; 0: schedule(runtime) */
	bool ordered;
	uint64_t iterations, chunk; /* chunk 0: none was given */
	int64_t start, step;
};

/* Iterations from `start` to before `end` (after, if it counts down). */
void loop_call_signed(struct loop_call *call, long start, long end, long step);
void loop_call_unsigned(struct loop_call *call, bool up, ull start, ull end, ull step);

void loop_begin(struct member *member, const struct loop_call *call);

/* Return: false if no iteration is left for this member; else *first, and *behind its last. */
bool loop_next(struct member *member, uint64_t *first, uint64_t *behind);

/* Without the barrier that may follow. */
void loop_end(struct member *member);

/* Waits for the turn of the chunk that the member is in. */
void loop_ordered(struct loop *loop);

#endif
