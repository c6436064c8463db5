/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which regions go away: those that ran long enough in the parent. A region is the address of its
 * function. The first time it runs on libgomp, and is timed; it goes away from the next time on if
 * that took longer than what a region away costs, as measured in this process (until then
 * SF_OMP_MIN_MS). One that was given up three times stays. Environment: see libsfomp(7).
 */
#ifndef OMP_SHIM_POLICY_H
#define OMP_SHIM_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "omp-shim/team.h"

struct policy_options {
	bool off;	  /* SF_OMP=off */
	bool always;	  /* SF_OMP=always: each region goes away, however short */
	bool processes;	  /* SF_OMP=processes: members are processes of this machine */
	unsigned members; /* SF_OMP_CLONES, else OMP_NUM_THREADS, else 0: none */
	unsigned min_ms;  /* SF_OMP_MIN_MS [500] */
	bool report;	  /* SF_OMP_REPORT=1 */
};

/* Reads the environment, once; says on standard error what it cannot understand. */
const struct policy_options *policy_options(void);

/* Return: OMP_NO_REASON: it shall go away; else why not. */
enum omp_reason policy_ask(region_function *function);

/* It ran here, or away, and took so long; or it was given up. */
void policy_ran_here(region_function *function, uint64_t ns);
void policy_was_away(region_function *function, const struct costs *costs);
void policy_gave_up(region_function *function, enum omp_reason reason);

/* A line of SF_OMP_REPORT for the region that just ended. */
void report_region(region_function *function, unsigned members, enum omp_reason reason,
		   const char *why, const struct costs *costs, uint64_t here_ns);

#endif
