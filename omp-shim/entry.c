/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parallel regions: where they begin, and whether they go away. */
#define _GNU_SOURCE
#include "omp-shim/entry.h"

#include <errno.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "omp-shim/member.h"
#include "omp-shim/policy.h"

/* libgomp's regions are under way in this process (the program's, or a member's nested one). */
static unsigned regions_here;

bool member_is_inner(void)
{
	return !omp_here && member_self()->size && member_self()->inner;
}

/* The program's first thread, outside of any region. */
static bool is_outermost(void)
{
	return !omp_here && !member_self()->size && !__atomic_load_n(&regions_here, __ATOMIC_RELAXED) &&
	       getpid() == (pid_t)syscall(SYS_gettid);
}

static unsigned team_size(unsigned threads)
{
	unsigned members = policy_options()->members;

	return threads && threads < members ? threads : members;
}

/* What the program has set, which every thread of the team has as well (OpenMP 5.1, 2.4.4). */
static struct {
	omp_sched_t schedule;
	int chunk, threads, levels, dynamic;
} settings;

static void note_settings(void)
{
	REAL(omp_get_schedule)(&settings.schedule, &settings.chunk);
	settings.threads = REAL(omp_get_max_threads)();
	settings.levels = REAL(omp_get_max_active_levels)();
	settings.dynamic = REAL(omp_get_dynamic)();
}

static void inherit_settings(void)
{
	REAL(omp_set_schedule)(settings.schedule, settings.chunk);
	REAL(omp_set_num_threads)(settings.threads);
	REAL(omp_set_max_active_levels)(settings.levels);
	REAL(omp_set_dynamic)(settings.dynamic);
}

bool attempt_away(struct attempt *a, region_function *function, region_function *body, void *data,
		  unsigned threads)
{
	unsigned size;

	a->function = function;
	a->members = 0;
	a->reason = OMP_ASKED;
	a->why[0] = 0;
	if (threads == 1 || policy_options()->off || !is_outermost())
		return false;
	size = team_size(threads);
	a->reason = size < 2 ? OMP_ASKED : team_has_foreign() ? OMP_THREADS : policy_ask(function);
	if (a->reason) {
		if (a->reason == OMP_SHORT)
			region_prepare(size);
		return false;
	}
	note_settings();
	inherit_settings(); /* nothing changes, but libgomp has the memory for it now */
	omp_team.inherit = inherit_settings;
	a->reason = region_away(body, data, size, &a->members, &a->costs, a->why);
	if (a->reason) {
		policy_gave_up(function, a->reason);
		return false;
	}
	policy_was_away(function, &a->costs);
	report_region(function, a->members, OMP_NO_REASON, "", &a->costs, 0);
	region_prepare(size);
	return true;
}

static void run_here(void *opaque)
{
	const struct here *here = opaque;
	unsigned number = (unsigned)REAL(omp_get_thread_num)();

	team_tls_take(number);
	here->function(here->data);
	team_tls_give(number);
}

/* Only where a region may go away at all, and where there is something to keep. */
static bool keeps_tls(unsigned threads)
{
	static int needed = -1;

	if (policy_options()->off || policy_options()->members < 2 || !is_outermost())
		return false;
	if (needed < 0)
		needed = team_has_tls();
	return needed && !team_grow(threads ? threads : (unsigned)REAL(omp_get_max_threads)());
}

void attempt_begin_here(struct attempt *a, region_function **function, void **data,
			unsigned threads)
{
	struct member *m = omp_here;

	if (threads != 1 && keeps_tls(threads)) {
		a->here = (struct here){ *function, *data };
		*function = run_here;
		*data = &a->here;
	}

	__atomic_add_fetch(&regions_here, 1, __ATOMIC_RELAXED);
	if (m) { /* a nested region: its threads, this one as well, are libgomp's */
		m->inner++;
		omp_here = NULL;
	}
	a->begin_ns = io_now_ns();
}

void attempt_end_here(struct attempt *a)
{
	struct member *m = member_self();
	uint64_t ns = io_now_ns() - a->begin_ns;

	__atomic_sub_fetch(&regions_here, 1, __ATOMIC_RELAXED);
	if (m->size) {
		m->inner--;
		if (!m->inner)
			omp_here = m;
		return;
	}
	if (!is_outermost() || policy_options()->off)
		return;
	policy_ran_here(a->function, ns);
	report_region(a->function, a->members, a->reason, a->why, &a->costs, ns);
}

/* How many threads libgomp shall take. A member that is a process has none of its waiting threads. */
static unsigned threads_here(unsigned threads)
{
	return member_self()->size && policy_options()->processes ? 1 : threads;
}

/* -- libgomp's entries ------------------------------------------------------------------------ */

void GOMP_parallel(region_function *function, void *data, unsigned threads, unsigned flags);
void GOMP_parallel_sections(region_function *function, void *data, unsigned threads, unsigned count,
			    unsigned flags);
unsigned GOMP_parallel_reductions(region_function *function, void *data, unsigned threads,
				  unsigned flags);

ENTRY void GOMP_parallel(region_function *function, void *data, unsigned threads, unsigned flags)
{
	struct attempt a;

	if (attempt_away(&a, function, function, data, threads))
		return;
	attempt_begin_here(&a, &function, &data, threads);
	REAL(GOMP_parallel)(function, data, threads_here(threads), flags);
	attempt_end_here(&a);
}

ENTRY void GOMP_parallel_sections(region_function *function, void *data, unsigned threads,
				  unsigned count, unsigned flags)
{
	struct sections_of_region all = { function, data, count };
	struct attempt a;

	if (attempt_away(&a, function, sections_of_region, &all, threads))
		return;
	attempt_begin_here(&a, &function, &data, threads);
	REAL(GOMP_parallel_sections)(function, data, threads_here(threads), count, flags);
	attempt_end_here(&a);
}

/* Reductions between tasks: libgomp's alone. */
ENTRY unsigned GOMP_parallel_reductions(region_function *function, void *data, unsigned threads,
					unsigned flags)
{
	struct attempt a = { .function = function, .reason = OMP_CONSTRUCT };
	unsigned got;

	attempt_begin_here(&a, &function, &data, threads);
	got = REAL(GOMP_parallel_reductions)(function, data, threads_here(threads), flags);
	attempt_end_here(&a);
	return got;
}

/* Combined regions: the loop begins with the region. The last two have no chunk. */
#define PARALLEL_LOOP(name, schedule_)                                                           \
	void name(region_function *function, void *data, unsigned threads, long start, long end, \
		  long step, long chunk, unsigned flags);                                        \
	ENTRY void name(region_function *function, void *data, unsigned threads, long start,     \
			long end, long step, long chunk, unsigned flags)                         \
	{                                                                                        \
		struct loop_of_region loop = { function, data, schedule_, start,                 \
					       end,	 step, chunk };                          \
		struct attempt a;                                                                \
		if (attempt_away(&a, function, loop_of_region, &loop, threads))                  \
			return;                                                                  \
		attempt_begin_here(&a, &function, &data, threads);                               \
		REAL(name)(function, data, threads_here(threads), start, end, step, chunk,       \
			   flags);                                                               \
		attempt_end_here(&a);                                                            \
	}

#define PARALLEL_LOOP_RUNTIME(name)                                                              \
	void name(region_function *function, void *data, unsigned threads, long start, long end, \
		  long step, unsigned flags);                                                    \
	ENTRY void name(region_function *function, void *data, unsigned threads, long start,     \
			long end, long step, unsigned flags)                                     \
	{                                                                                        \
		struct loop_of_region loop = { function, data, 0, start, end, step, 0 };         \
		struct attempt a;                                                                \
		if (attempt_away(&a, function, loop_of_region, &loop, threads))                  \
			return;                                                                  \
		attempt_begin_here(&a, &function, &data, threads);                               \
		REAL(name)(function, data, threads_here(threads), start, end, step, flags);      \
		attempt_end_here(&a);                                                            \
	}

PARALLEL_LOOP(GOMP_parallel_loop_static, OMP_STATIC)
PARALLEL_LOOP(GOMP_parallel_loop_dynamic, OMP_DYNAMIC)
PARALLEL_LOOP(GOMP_parallel_loop_guided, OMP_GUIDED)
PARALLEL_LOOP(GOMP_parallel_loop_nonmonotonic_dynamic, OMP_DYNAMIC)
PARALLEL_LOOP(GOMP_parallel_loop_nonmonotonic_guided, OMP_GUIDED)
PARALLEL_LOOP_RUNTIME(GOMP_parallel_loop_runtime)
PARALLEL_LOOP_RUNTIME(GOMP_parallel_loop_nonmonotonic_runtime)
PARALLEL_LOOP_RUNTIME(GOMP_parallel_loop_maybe_nonmonotonic_runtime)

/* The address space ends with the process, tickets do not. */
static void __attribute__((destructor)) at_the_end(void)
{
	if (!member_self()->size)
		region_finish();
}
