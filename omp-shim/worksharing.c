/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Barriers, critical regions, single, sections, ordered: what members meet at through the parent. In
 * a nested region a critical region is taken among this clone's threads first, then among members.
 */
#include "omp-shim/entry.h"

#include "omp-shim/loops.h"
#include "omp-shim/member.h"

uint64_t construct_begin(struct member *m)
{
	return ++m->constructs;
}

void not_taken_over(const char *name)
{
	member_fail(OMP_CONSTRUCT, "%s is not taken over", name);
}

/* -- barriers -------------------------------------------------------------------------------- */

void GOMP_barrier(void);
bool GOMP_barrier_cancel(void);

ENTRY void GOMP_barrier(void)
{
	if (!omp_here)
		return REAL(GOMP_barrier)();
	sync_point(OMP_BARRIER, 0, 0);
}

ENTRY bool GOMP_barrier_cancel(void)
{
	if (!omp_here)
		return REAL(GOMP_barrier_cancel)();
	sync_point(OMP_BARRIER, 0, 0);
	return false;
}

/* -- critical regions ------------------------------------------------------------------------ */

/* Keys of locks are addresses; these two have no variable of their own in the program. */
static char critical_key, atomic_key;

static void lock(const void *key)
{
	if (omp_here || member_is_inner())
		sync_lock((uintptr_t)key);
}

static void unlock(const void *key)
{
	if (omp_here || member_is_inner())
		sync_unlock((uintptr_t)key);
}

void GOMP_critical_start(void);
void GOMP_critical_end(void);
void GOMP_critical_name_start(void **name);
void GOMP_critical_name_end(void **name);
void GOMP_atomic_start(void);
void GOMP_atomic_end(void);

ENTRY void GOMP_critical_start(void)
{
	if (!omp_here)
		REAL(GOMP_critical_start)();
	lock(&critical_key);
}

ENTRY void GOMP_critical_end(void)
{
	unlock(&critical_key);
	if (!omp_here)
		REAL(GOMP_critical_end)();
}

ENTRY void GOMP_critical_name_start(void **name)
{
	if (!omp_here)
		REAL(GOMP_critical_name_start)(name);
	lock(name);
}

ENTRY void GOMP_critical_name_end(void **name)
{
	unlock(name);
	if (!omp_here)
		REAL(GOMP_critical_name_end)(name);
}

ENTRY void GOMP_atomic_start(void)
{
	if (!omp_here)
		REAL(GOMP_atomic_start)();
	lock(&atomic_key);
}

ENTRY void GOMP_atomic_end(void)
{
	unlock(&atomic_key);
	if (!omp_here)
		REAL(GOMP_atomic_end)();
}

/* -- single ---------------------------------------------------------------------------------- */

bool GOMP_single_start(void);
void *GOMP_single_copy_start(void);
void GOMP_single_copy_end(void *data);

ENTRY bool GOMP_single_start(void)
{
	if (!omp_here)
		return REAL(GOMP_single_start)();
	return sync_point(OMP_SINGLE, construct_begin(omp_here), 0);
}

/* copyprivate: the others get what lies on the stack of the one who did it. */
ENTRY void *GOMP_single_copy_start(void)
{
	uint64_t key;

	if (!omp_here)
		return REAL(GOMP_single_copy_start)();
	key = construct_begin(omp_here);
	if (sync_point(OMP_SINGLE, key, 0))
		return NULL;
	return sync_copy_get(key);
}

ENTRY void GOMP_single_copy_end(void *data)
{
	if (!omp_here)
		return REAL(GOMP_single_copy_end)(data);
	sync_copy_set(omp_here->constructs, data);
	sync_point(OMP_BARRIER, 0, 0);
}

/* -- sections -------------------------------------------------------------------------------- */

static unsigned next_section(void)
{
	const struct omp_chunk ask = {
		.key = omp_here->loop.key,
		.iterations = omp_here->sections,
		.chunk = 1,
		.schedule = OMP_DYNAMIC,
	};
	struct omp_range range;

	return sync_chunk(&ask, &range) ? (unsigned)range.begin + 1 : 0;
}

static void begin_sections(unsigned count)
{
	omp_here->loop = (struct loop){ .key = construct_begin(omp_here) };
	omp_here->sections = count;
}

void sections_of_region(void *opaque)
{
	const struct sections_of_region *all = opaque;

	begin_sections(all->count);
	all->function(all->data);
}

unsigned GOMP_sections_start(unsigned count);
unsigned GOMP_sections2_start(unsigned count, uintptr_t *reductions, void **memory);
unsigned GOMP_sections_next(void);
void GOMP_sections_end(void);
bool GOMP_sections_end_cancel(void);
void GOMP_sections_end_nowait(void);

ENTRY unsigned GOMP_sections_start(unsigned count)
{
	if (!omp_here)
		return REAL(GOMP_sections_start)(count);
	begin_sections(count);
	return next_section();
}

ENTRY unsigned GOMP_sections2_start(unsigned count, uintptr_t *reductions, void **memory)
{
	if (!omp_here)
		return REAL(GOMP_sections2_start)(count, reductions, memory);
	if (reductions || memory)
		not_taken_over("a reduction over tasks");
	begin_sections(count);
	return next_section();
}

ENTRY unsigned GOMP_sections_next(void)
{
	return omp_here ? next_section() : REAL(GOMP_sections_next)();
}

ENTRY void GOMP_sections_end(void)
{
	if (!omp_here)
		return REAL(GOMP_sections_end)();
	sync_point(OMP_BARRIER, 0, 0);
}

ENTRY bool GOMP_sections_end_cancel(void)
{
	if (!omp_here)
		return REAL(GOMP_sections_end_cancel)();
	sync_point(OMP_BARRIER, 0, 0);
	return false;
}

ENTRY void GOMP_sections_end_nowait(void)
{
	if (!omp_here)
		REAL(GOMP_sections_end_nowait)();
}

/* -- ordered --------------------------------------------------------------------------------- */

void GOMP_ordered_start(void);
void GOMP_ordered_end(void);

ENTRY void GOMP_ordered_start(void)
{
	if (!omp_here)
		return REAL(GOMP_ordered_start)();
	loop_ordered(&omp_here->loop);
}

/* The turn is passed on at the end of the chunk (loops.c). */
ENTRY void GOMP_ordered_end(void)
{
	if (!omp_here)
		REAL(GOMP_ordered_end)();
}

/* -- what is not taken over ------------------------------------------------------------------ */

/* In a member: the region is given up. Arguments are passed through as they are. */
#define NOT_TAKEN_OVER(type, name, parameters, arguments)        \
	type name parameters;                                    \
	ENTRY type name parameters                               \
	{                                                        \
		if (omp_here)                                    \
			not_taken_over(#name "()");              \
		return REAL(name) arguments;                     \
	}

#define DOACROSS(name)                                                                            \
	NOT_TAKEN_OVER(bool, GOMP_loop_doacross_##name##_start,                                   \
		       (unsigned n, long *counts, long chunk, long *first, long *behind),         \
		       (n, counts, chunk, first, behind))                                         \
	NOT_TAKEN_OVER(bool, GOMP_loop_ull_doacross_##name##_start,                               \
		       (unsigned n, ull *counts, ull chunk, ull *first, ull *behind),             \
		       (n, counts, chunk, first, behind))

DOACROSS(static)
DOACROSS(dynamic)
DOACROSS(guided)
NOT_TAKEN_OVER(bool, GOMP_loop_doacross_runtime_start,
	       (unsigned n, long *counts, long *first, long *behind), (n, counts, first, behind))
NOT_TAKEN_OVER(bool, GOMP_loop_ull_doacross_runtime_start,
	       (unsigned n, ull *counts, ull *first, ull *behind), (n, counts, first, behind))
NOT_TAKEN_OVER(bool, GOMP_loop_doacross_start,
	       (unsigned n, long *counts, long schedule, long chunk, long *first, long *behind,
		uintptr_t *reductions, void **memory),
	       (n, counts, schedule, chunk, first, behind, reductions, memory))
NOT_TAKEN_OVER(bool, GOMP_loop_ull_doacross_start,
	       (unsigned n, ull *counts, long schedule, ull chunk, ull *first, ull *behind,
		uintptr_t *reductions, void **memory),
	       (n, counts, schedule, chunk, first, behind, reductions, memory))
NOT_TAKEN_OVER(void, GOMP_scope_start, (uintptr_t *reductions), (reductions))
NOT_TAKEN_OVER(void, GOMP_taskgroup_reduction_register, (uintptr_t *data), (data))
NOT_TAKEN_OVER(void, GOMP_workshare_task_reduction_unregister, (bool cancelled), (cancelled))
NOT_TAKEN_OVER(bool, GOMP_cancel, (int which, bool do_cancel), (which, do_cancel))
NOT_TAKEN_OVER(bool, GOMP_cancellation_point, (int which), (which))
