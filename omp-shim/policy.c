/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which regions go away. */
#include "omp-shim/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define REGIONS	     1024 /* that are remembered; more share places, the last one stays */
#define GIVEN_UP     3
#define MIN_MS	     500
#define NS_PER_MS    1000000ull

static struct known {
	region_function *function;
	uint64_t here_ns; /* what it took last, on libgomp; 0: not known */
	unsigned given_up;
} regions[REGIONS];

static uint64_t away_ns; /* what a region away costs beside its work, last; 0: not known */

/* Return: the place of a region, for this one from now on. */
static struct known *place_of(region_function *function)
{
	size_t first = (size_t)((uintptr_t)function >> 4) % REGIONS, at = first;

	while (regions[at].function && regions[at].function != function) {
		at = (at + 1) % REGIONS;
		if (at == first) {
			regions[at] = (struct known){ 0 };
			break;
		}
	}
	regions[at].function = function;
	return &regions[at];
}

/* Return: a number from the environment, or `otherwise` if it is not there or is none. */
static unsigned number(const char *name, unsigned otherwise, unsigned most)
{
	const char *text = getenv(name);
	unsigned long value;
	char *end;

	if (!text || !*text)
		return otherwise;
	errno = 0;
	value = strtoul(text, &end, 10);
	/* a list, as OMP_NUM_THREADS may be: the outermost level counts */
	if (end == text || (*end && *end != ',') || errno || value > most) {
		fprintf(stderr, "libsfomp: %s is a number up to %u, not \"%s\"\n", name, most, text);
		return otherwise;
	}
	return (unsigned)value;
}

static void read_environment(struct policy_options *o)
{
	static const struct {
		const char *word;
		size_t flag;
	} words[] = {
		{ "off", offsetof(struct policy_options, off) },
		{ "always", offsetof(struct policy_options, always) },
		{ "processes", offsetof(struct policy_options, processes) },
	};
	const char *mode = getenv("SF_OMP"), *report = getenv("SF_OMP_REPORT");

	o->members = number("SF_OMP_CLONES", number("OMP_NUM_THREADS", 0, OMP_MAX_MEMBERS),
			    OMP_MAX_MEMBERS);
	o->min_ms = number("SF_OMP_MIN_MS", MIN_MS, 3600000);
	o->report = report && *report && strcmp(report, "0") != 0;
	for (const char *at = mode; at && *at; at += strcspn(at, ","), at += *at == ',') {
		size_t len = strcspn(at, ","), i = 0;

		while (i < ARRAY_SIZE(words) &&
		       (strlen(words[i].word) != len || strncmp(words[i].word, at, len) != 0))
			i++;
		if (i < ARRAY_SIZE(words))
			*((bool *)o + words[i].flag) = true;
		else
			fprintf(stderr, "libsfomp: SF_OMP knows off, always and processes, not \"%.*s\"\n",
				(int)len, at);
	}
	if (o->processes)
		omp_team.ways = &team_by_processes;
}

const struct policy_options *policy_options(void)
{
	static struct policy_options options;
	static bool read;

	if (!read)
		read_environment(&options);
	read = true;
	return &options;
}

enum omp_reason policy_ask(region_function *function)
{
	const struct policy_options *o = policy_options();
	const struct known *known = place_of(function);
	uint64_t least = away_ns ? away_ns : o->min_ms * NS_PER_MS;

	if (known->given_up >= GIVEN_UP)
		return OMP_GIVEN_UP;
	if (o->always)
		return OMP_NO_REASON;
	return known->here_ns > least ? OMP_NO_REASON : OMP_SHORT;
}

void policy_ran_here(region_function *function, uint64_t ns)
{
	place_of(function)->here_ns = ns;
}

void policy_was_away(region_function *function, const struct costs *costs)
{
	uint64_t all = costs->ticket_ns + costs->clone_ns + costs->run_ns + costs->merge_ns +
		       costs->join_ns;

	(void)function;
	/* what the work itself would take is in it as often as there are members, at most */
	away_ns = all > costs->member_cpu_ns ? all - costs->member_cpu_ns / omp_team.members : all / 2;
}

void policy_gave_up(region_function *function, enum omp_reason reason)
{
	/* another time there may be room */
	if (reason != OMP_NO_ROOM && reason != OMP_LOST)
		place_of(function)->given_up++;
}
