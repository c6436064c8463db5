/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast this machine's time stamp counter runs.
 *
 * Under TCG a guest sees this counter, and its kernel finds out by the timer of 1981 how fast it
 * is. A machine that is busy just then makes it believe what is not so, up to several times: it
 * takes the end of the 10 ms for their beginning. So it is told.
 */
#define _GNU_SOURCE
#include "host/vmm/tsc.h"

#include <time.h>

#include "common/io.h"

#define SPAN_NS 20000000u
#define TRIES	16

#ifdef __x86_64__
#include <x86intrin.h>

struct pair {
	uint64_t tsc, ns;
};

/* Both clocks at the same moment: the closest of some tries, since we may be interrupted. */
static struct pair read_pair(void)
{
	struct pair best = { 0 };
	uint64_t closest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = __rdtsc(), ns = io_now_ns(), after = __rdtsc();

		if (after - before < closest) {
			closest = after - before;
			best = (struct pair){ .tsc = before + closest / 2, .ns = ns };
		}
	}
	return best;
}

uint32_t tsc_khz(void)
{
	static uint32_t khz;
	const struct timespec span = { .tv_nsec = SPAN_NS };
	struct pair from, to;

	if (khz)
		return khz;
	from = read_pair();
	nanosleep(&span, NULL);
	to = read_pair();
	if (to.ns > from.ns && to.tsc > from.tsc)
		khz = (uint32_t)((to.tsc - from.tsc) * 1000000 / (to.ns - from.ns));
	return khz;
}
#else
uint32_t tsc_khz(void)
{
	return 0;
}
#endif
