/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libgomp's entries that this library takes over (GCC 12: libgomp/libgomp_g.h and omp.h tell what
 * they are for). Each looks at omp_here: in a member it is carried out here, else by libgomp.
 */
#ifndef OMP_SHIM_ENTRY_H
#define OMP_SHIM_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "omp-shim/real.h"
#include "omp-shim/team.h"

#define ENTRY __attribute__((visibility("default")))

typedef unsigned long long ull;

/* -- parallel regions (entry.c) ---------------------------------------------------------------- */

struct attempt { /* a region that is beginning */
	region_function *function;
	uint64_t begin_ns;
	unsigned members;
	enum omp_reason reason;
	char why[256];
	struct costs costs;
	struct here {
		region_function *function;
		void *data;
	} here; /* what libgomp's threads run, with their TLS as it was left */
};

/*
 * Tries to run a region away. `function` is the compiler's, by which the region is known;
 * `body(data)` is what a member calls. Return: true if it is done; else libgomp has to do it,
 * between attempt_begin_here(), which may put another function and data in place of the caller's,
 * and attempt_end_here().
 */
bool attempt_away(struct attempt *attempt, region_function *function, region_function *body,
		  void *data, unsigned threads);
void attempt_begin_here(struct attempt *attempt, region_function **function, void **data,
			unsigned threads);
void attempt_end_here(struct attempt *attempt);

/* True in a thread of a nested region, or in its first thread while that lasts. */
bool member_is_inner(void);

/* -- worksharing (loops.c, worksharing.c) -------------------------------------------------------- */

/* The next worksharing construct of the region. Return: its key. */
uint64_t construct_begin(struct member *member);

/* What a combined region (parallel for) begins with. */
struct loop_of_region {
	region_function *function;
	void *data;
	int schedule; /* enum omp_schedule, 0: as omp_get_schedule() says */
	long start, end, step, chunk;
};
void loop_of_region(void *loop); /* a region's body: struct loop_of_region */

struct sections_of_region {
	region_function *function;
	void *data;
	unsigned count;
};
void sections_of_region(void *sections);

/* A construct that is not taken over: the region is given up. */
void not_taken_over(const char *name) __attribute__((noreturn));

#endif
