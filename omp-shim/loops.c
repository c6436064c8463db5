/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loops whose iterations are shared among the team. They are counted from 0 here; what an iteration's
 * number is, is worked out at the end, modulo 2^64, so that signed and unsigned loops are one.
 *
 * Static: everybody works out what is theirs, as libgomp does. Dynamic and guided: the parent hands
 * out chunks. Ordered: a chunk's ordered regions wait until all chunks before it are done.
 */
#include "omp-shim/entry.h"

#include <omp.h>

#include "omp-shim/loops.h"

#define MONOTONIC 0x80000000u /* in omp_sched_t: a modifier, which is always kept here */

/* schedule(runtime), auto: as the program or its environment says. */
static int schedule_of_runtime(uint64_t *chunk)
{
	omp_sched_t kind;
	int size = 0;

	REAL(omp_get_schedule)(&kind, &size);
	*chunk = size > 0 ? (uint64_t)size : 0;
	switch ((unsigned)kind & ~MONOTONIC) {
	case omp_sched_dynamic:
		return OMP_DYNAMIC;
	case omp_sched_guided:
		return OMP_GUIDED;
	default:
		return OMP_STATIC;
	}
}

void loop_begin(struct member *m, const struct loop_call *call)
{
	struct loop *loop = &m->loop;

	*loop = (struct loop){
		.key = construct_begin(m),
		.schedule = call->schedule,
		.ordered = call->ordered,
		.iterations = call->iterations,
		.chunk = call->chunk,
		.start = call->start,
		.step = call->step,
	};
	if (!loop->schedule)
		loop->schedule = schedule_of_runtime(&loop->chunk);
	if (!loop->chunk && loop->schedule != OMP_STATIC)
		loop->chunk = 1;
	/* static with chunks: mine are every size-th, beginning with the number-th */
	loop->next = m->number * loop->chunk;
}

/* Static without a chunk: one block each, the first ones longer by one if it does not come out even. */
static bool next_block(const struct member *m, struct loop *loop)
{
	uint64_t share = loop->iterations / m->size, longer = loop->iterations % m->size;
	uint64_t number = m->number;

	if (loop->next)
		return false;
	loop->next = 1;
	loop->begin = number * share + (number < longer ? number : longer);
	loop->end = loop->begin + share + (number < longer);
	return loop->begin < loop->end;
}

static bool next_static(const struct member *m, struct loop *loop)
{
	if (!loop->chunk)
		return next_block(m, loop);
	if (loop->next >= loop->iterations)
		return false;
	loop->begin = loop->next;
	loop->end = loop->iterations - loop->next < loop->chunk ? loop->iterations
								 : loop->next + loop->chunk;
	if (__builtin_add_overflow(loop->next, loop->chunk * m->size, &loop->next))
		loop->next = loop->iterations;
	return true;
}

static bool next_from_parent(struct loop *loop)
{
	const struct omp_chunk ask = {
		.key = loop->key,
		.iterations = loop->iterations,
		.chunk = loop->chunk,
		.schedule = (uint32_t)loop->schedule,
	};
	struct omp_range range;

	if (!sync_chunk(&ask, &range))
		return false;
	loop->begin = range.begin;
	loop->end = range.end;
	return true;
}

/* A chunk is done: the next one's ordered regions may begin, when it was this one's turn. */
static void pass_turn(struct loop *loop)
{
	if (!loop->ordered || loop->begin >= loop->end)
		return;
	loop_ordered(loop);
	sync_point(OMP_ORDERED_END, loop->key, loop->end - 1);
	loop->has_turn = false;
}

void loop_ordered(struct loop *loop)
{
	if (loop->has_turn)
		return;
	sync_point(OMP_ORDERED, loop->key, loop->begin);
	loop->has_turn = true;
}

bool loop_next(struct member *m, uint64_t *first, uint64_t *behind)
{
	struct loop *loop = &m->loop;

	pass_turn(loop);
	loop->begin = loop->end = 0;
	if (loop->schedule == OMP_STATIC ? !next_static(m, loop) : !next_from_parent(loop))
		return false;
	*first = (uint64_t)loop->start + loop->begin * (uint64_t)loop->step;
	*behind = (uint64_t)loop->start + loop->end * (uint64_t)loop->step;
	return true;
}

void loop_end(struct member *m)
{
	pass_turn(&m->loop);
	m->loop = (struct loop){ 0 };
}

void loop_call_signed(struct loop_call *call, long start, long end, long step)
{
	call->start = start;
	call->step = step;
	if (step > 0)
		call->iterations = start < end ? ((uint64_t)end - (uint64_t)start - 1) /
							 (uint64_t)step + 1
					       : 0;
	else
		call->iterations = start > end ? ((uint64_t)start - (uint64_t)end - 1) /
							 -(uint64_t)step + 1
					       : 0;
}

void loop_call_unsigned(struct loop_call *call, bool up, ull start, ull end, ull step)
{
	call->start = (int64_t)start;
	call->step = (int64_t)step;
	if (up)
		call->iterations = start < end ? (end - start - 1) / step + 1 : 0;
	else
		call->iterations = start > end ? (start - end - 1) / -step + 1 : 0;
}

void loop_of_region(void *opaque)
{
	const struct loop_of_region *all = opaque;
	struct loop_call call = { .schedule = all->schedule, .chunk = (uint64_t)all->chunk };

	loop_call_signed(&call, all->start, all->end, all->step);
	loop_begin(omp_here, &call);
	all->function(all->data);
}
