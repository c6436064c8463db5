/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libgomp's entries for loops: one for each schedule, type of the counter, and part of the loop. */
#include "omp-shim/loops.h"

#define LONG_START long start, long end, long step
#define LONG_FIRST long *first, long *behind
#define ULL_START bool up, ull start, ull end, ull step
#define ULL_FIRST ull *first, ull *behind

static bool next_long(LONG_FIRST)
{
	uint64_t a, b;

	if (!loop_next(omp_here, &a, &b))
		return false;
	*first = (long)a;
	*behind = (long)b;
	return true;
}

static bool next_ull(ULL_FIRST)
{
	uint64_t a, b;

	if (!loop_next(omp_here, &a, &b))
		return false;
	*first = a;
	*behind = b;
	return true;
}

static bool start_long(int schedule, bool ordered, LONG_START, long chunk, LONG_FIRST)
{
	struct loop_call call = { .schedule = schedule, .ordered = ordered,
				  .chunk = chunk > 0 ? (uint64_t)chunk : 0 };

	loop_call_signed(&call, start, end, step);
	loop_begin(omp_here, &call);
	return next_long(first, behind);
}

static bool start_ull(int schedule, bool ordered, ULL_START, ull chunk, ULL_FIRST)
{
	struct loop_call call = { .schedule = schedule, .ordered = ordered, .chunk = chunk };

	loop_call_unsigned(&call, up, start, end, step);
	loop_begin(omp_here, &call);
	return next_ull(first, behind);
}

/* Beginning and first chunk; then the next chunk. For both types. */
#define START(name, schedule, ordered)                                                         \
	bool GOMP_loop_##name##_start(LONG_START, long chunk, LONG_FIRST);                     \
	ENTRY bool GOMP_loop_##name##_start(LONG_START, long chunk, LONG_FIRST)                \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_##name##_start)(start, end, step, chunk, first,  \
							      behind);                         \
		return start_long(schedule, ordered, start, end, step, chunk, first, behind);  \
	}                                                                                      \
	bool GOMP_loop_ull_##name##_start(ULL_START, ull chunk, ULL_FIRST);                    \
	ENTRY bool GOMP_loop_ull_##name##_start(ULL_START, ull chunk, ULL_FIRST)               \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_ull_##name##_start)(up, start, end, step, chunk, \
								  first, behind);              \
		return start_ull(schedule, ordered, up, start, end, step, chunk, first,        \
				 behind);                                                      \
	}

#define START_RUNTIME(name, ordered)                                                           \
	bool GOMP_loop_##name##_start(LONG_START, LONG_FIRST);                                 \
	ENTRY bool GOMP_loop_##name##_start(LONG_START, LONG_FIRST)                            \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_##name##_start)(start, end, step, first, behind); \
		return start_long(0, ordered, start, end, step, 0, first, behind);             \
	}                                                                                      \
	bool GOMP_loop_ull_##name##_start(ULL_START, ULL_FIRST);                               \
	ENTRY bool GOMP_loop_ull_##name##_start(ULL_START, ULL_FIRST)                          \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_ull_##name##_start)(up, start, end, step, first, \
								  behind);                     \
		return start_ull(0, ordered, up, start, end, step, 0, first, behind);          \
	}

#define NEXT(name)                                                                             \
	bool GOMP_loop_##name##_next(LONG_FIRST);                                              \
	ENTRY bool GOMP_loop_##name##_next(LONG_FIRST)                                         \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_##name##_next)(first, behind);                   \
		return next_long(first, behind);                                               \
	}                                                                                      \
	bool GOMP_loop_ull_##name##_next(ULL_FIRST);                                           \
	ENTRY bool GOMP_loop_ull_##name##_next(ULL_FIRST)                                      \
	{                                                                                      \
		if (!omp_here)                                                                 \
			return REAL(GOMP_loop_ull_##name##_next)(first, behind);               \
		return next_ull(first, behind);                                                \
	}

START(static, OMP_STATIC, false)
START(dynamic, OMP_DYNAMIC, false)
START(guided, OMP_GUIDED, false)
START(nonmonotonic_dynamic, OMP_DYNAMIC, false)
START(nonmonotonic_guided, OMP_GUIDED, false)
START(ordered_static, OMP_STATIC, true)
START(ordered_dynamic, OMP_DYNAMIC, true)
START(ordered_guided, OMP_GUIDED, true)
START_RUNTIME(runtime, false)
START_RUNTIME(nonmonotonic_runtime, false)
START_RUNTIME(maybe_nonmonotonic_runtime, false)
START_RUNTIME(ordered_runtime, true)
NEXT(static)
NEXT(dynamic)
NEXT(guided)
NEXT(runtime)
NEXT(nonmonotonic_dynamic)
NEXT(nonmonotonic_guided)
NEXT(nonmonotonic_runtime)
NEXT(maybe_nonmonotonic_runtime)
NEXT(ordered_static)
NEXT(ordered_dynamic)
NEXT(ordered_guided)
NEXT(ordered_runtime)

/* -- loops of OpenMP 5: one entry for all schedules --------------------------------------------- */

#define SCHEDULES 5 /* libgomp: runtime, static, dynamic, guided, auto */

/* Return: enum omp_schedule, 0 for runtime. */
static int schedule_of(long number)
{
	static const int schedules[SCHEDULES] = { 0, OMP_STATIC, OMP_DYNAMIC, OMP_GUIDED,
						  OMP_STATIC };
	unsigned long kind = (unsigned long)number & 0x7fffffff;

	if (kind >= SCHEDULES)
		not_taken_over("a loop's schedule");
	return schedules[kind];
}

#define START_ANY(name, in_order)                                                                \
	bool GOMP_loop_##name(LONG_START, long schedule, long chunk, LONG_FIRST,                \
			      uintptr_t *reductions, void **memory);                            \
	ENTRY bool GOMP_loop_##name(LONG_START, long schedule, long chunk, LONG_FIRST,          \
				    uintptr_t *reductions, void **memory)                       \
	{                                                                                       \
		struct loop_call call = { .schedule = 0, .ordered = in_order };                  \
		if (!omp_here)                                                                  \
			return REAL(GOMP_loop_##name)(start, end, step, schedule, chunk, first, \
						      behind, reductions, memory);              \
		if (reductions || memory)                                                       \
			not_taken_over("a reduction over tasks");                               \
		call.schedule = schedule_of(schedule);                                          \
		call.chunk = chunk > 0 ? (uint64_t)chunk : 0;                                   \
		loop_call_signed(&call, start, end, step);                                      \
		loop_begin(omp_here, &call);                                                    \
		return first ? next_long(first, behind) : true;                                 \
	}                                                                                       \
	bool GOMP_loop_ull_##name(ULL_START, long schedule, ull chunk, ULL_FIRST,               \
				  uintptr_t *reductions, void **memory);                        \
	ENTRY bool GOMP_loop_ull_##name(ULL_START, long schedule, ull chunk, ULL_FIRST,         \
					uintptr_t *reductions, void **memory)                   \
	{                                                                                       \
		struct loop_call call = { .schedule = 0, .ordered = in_order };                  \
		if (!omp_here)                                                                  \
			return REAL(GOMP_loop_ull_##name)(up, start, end, step, schedule,       \
							  chunk, first, behind, reductions,     \
							  memory);                              \
		if (reductions || memory)                                                       \
			not_taken_over("a reduction over tasks");                               \
		call.schedule = schedule_of(schedule);                                          \
		call.chunk = chunk;                                                             \
		loop_call_unsigned(&call, up, start, end, step);                                \
		loop_begin(omp_here, &call);                                                    \
		return first ? next_ull(first, behind) : true;                                  \
	}

START_ANY(start, false)
START_ANY(ordered_start, true)

/* -- the end ------------------------------------------------------------------------------------ */

void GOMP_loop_end(void);
bool GOMP_loop_end_cancel(void);
void GOMP_loop_end_nowait(void);

ENTRY void GOMP_loop_end(void)
{
	if (!omp_here)
		return REAL(GOMP_loop_end)();
	loop_end(omp_here);
	sync_point(OMP_BARRIER, 0, 0);
}

ENTRY bool GOMP_loop_end_cancel(void)
{
	if (!omp_here)
		return REAL(GOMP_loop_end_cancel)();
	GOMP_loop_end();
	return false;
}

ENTRY void GOMP_loop_end_nowait(void)
{
	if (!omp_here)
		return REAL(GOMP_loop_end_nowait)();
	loop_end(omp_here);
}
