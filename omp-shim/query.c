/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * omp_…(): who a member is, and locks. The names with an underscore are Fortran's (and of arguments
 * by reference, GCC 12: libgomp/fortran.c).
 */
#include "omp-shim/entry.h"

#include <omp.h>

#include "omp-shim/member.h"

/* -- who am I ---------------------------------------------------------------------------------- */

/* A function without arguments, and its Fortran name. */
#define QUERY(name, in_member)                             \
	ENTRY int name(void)                               \
	{                                                  \
		return omp_here ? (in_member) : REAL(name)(); \
	}                                                  \
	int name##_(void);                                 \
	ENTRY int name##_(void)                            \
	{                                                  \
		return name();                             \
	}

QUERY(omp_get_thread_num, (int)omp_here->number)
QUERY(omp_get_num_threads, (int)omp_here->size)
QUERY(omp_in_parallel, 1)

/* Of levels a member's nested regions are one deeper than libgomp knows. */
#define LEVEL(name)                                                        \
	ENTRY int name(void)                                               \
	{                                                                  \
		return omp_here ? 1 : REAL(name)() + (int)member_is_inner(); \
	}                                                                  \
	int name##_(void);                                                 \
	ENTRY int name##_(void)                                            \
	{                                                                  \
		return name();                                             \
	}

LEVEL(omp_get_level)
LEVEL(omp_get_active_level)

ENTRY int omp_get_ancestor_thread_num(int level)
{
	if (!omp_here && !member_is_inner())
		return REAL(omp_get_ancestor_thread_num)(level);
	if (level <= 1)
		return level < 0 ? -1 : level ? (int)member_self()->number : 0;
	return omp_here ? -1 : REAL(omp_get_ancestor_thread_num)(level - 1);
}

ENTRY int omp_get_team_size(int level)
{
	if (!omp_here && !member_is_inner())
		return REAL(omp_get_team_size)(level);
	if (level <= 1)
		return level < 0 ? -1 : level ? (int)member_self()->size : 1;
	return omp_here ? -1 : REAL(omp_get_team_size)(level - 1);
}

#define BY_LEVEL_FORTRAN(name)                       \
	int name##_(const int32_t *level);           \
	ENTRY int name##_(const int32_t *level)      \
	{                                            \
		return name(*level);                 \
	}                                            \
	int name##_8_(const int64_t *level);         \
	ENTRY int name##_8_(const int64_t *level)    \
	{                                            \
		return name((int)*level);            \
	}

BY_LEVEL_FORTRAN(omp_get_ancestor_thread_num)
BY_LEVEL_FORTRAN(omp_get_team_size)

/* -- locks -------------------------------------------------------------------------------------- */

/*
 * A lock is its address. What omp_init_lock() makes of the memory there is libgomp's, and no member
 * changes it.
 */
ENTRY void omp_set_lock(omp_lock_t *lock)
{
	if (!omp_here)
		return REAL(omp_set_lock)(lock);
	sync_lock((uintptr_t)lock);
}

ENTRY void omp_unset_lock(omp_lock_t *lock)
{
	if (!omp_here)
		return REAL(omp_unset_lock)(lock);
	sync_unlock((uintptr_t)lock);
}

ENTRY int omp_test_lock(omp_lock_t *lock)
{
	if (!omp_here)
		return REAL(omp_test_lock)(lock);
	return (int)sync_point(OMP_TRYLOCK, (uintptr_t)lock, 0);
}

/* Locks that this member has more than once: how often is nobody else's business. */
#define NESTED 64
static struct {
	const void *lock;
	int count;
} nested[NESTED];

/* Return: where a lock is noted, or may be. */
static unsigned nested_place(const void *lock)
{
	unsigned unused = NESTED;

	for (unsigned i = 0; i < NESTED; i++) {
		if (nested[i].count && nested[i].lock == lock)
			return i;
		if (!nested[i].count && unused == NESTED)
			unused = i;
	}
	if (unused == NESTED)
		not_taken_over("a nestable lock beside 64 others");
	return unused;
}

ENTRY void omp_set_nest_lock(omp_nest_lock_t *lock)
{
	unsigned at;

	if (!omp_here)
		return REAL(omp_set_nest_lock)(lock);
	at = nested_place(lock);
	if (!nested[at].count)
		sync_lock((uintptr_t)lock);
	nested[at].lock = lock;
	nested[at].count++;
}

ENTRY void omp_unset_nest_lock(omp_nest_lock_t *lock)
{
	unsigned at;

	if (!omp_here)
		return REAL(omp_unset_nest_lock)(lock);
	at = nested_place(lock);
	if (nested[at].count && !--nested[at].count)
		sync_unlock((uintptr_t)lock);
}

ENTRY int omp_test_nest_lock(omp_nest_lock_t *lock)
{
	unsigned at;

	if (!omp_here)
		return REAL(omp_test_nest_lock)(lock);
	at = nested_place(lock);
	if (!nested[at].count && !sync_point(OMP_TRYLOCK, (uintptr_t)lock, 0))
		return 0;
	nested[at].lock = lock;
	return ++nested[at].count;
}

/* Fortran's locks are pointers or small structures at the address it gives: the same key for all. */
#define LOCK_FORTRAN(type, name, in_member)          \
	type name##_(void *lock);                    \
	ENTRY type name##_(void *lock)               \
	{                                            \
		if (!omp_here)                       \
			return REAL(name##_)(lock);  \
		return in_member(lock);              \
	}

LOCK_FORTRAN(void, omp_set_lock, omp_set_lock)
LOCK_FORTRAN(void, omp_unset_lock, omp_unset_lock)
LOCK_FORTRAN(int32_t, omp_test_lock, omp_test_lock)
LOCK_FORTRAN(void, omp_set_nest_lock, omp_set_nest_lock)
LOCK_FORTRAN(void, omp_unset_nest_lock, omp_unset_nest_lock)
LOCK_FORTRAN(int32_t, omp_test_nest_lock, omp_test_nest_lock)
