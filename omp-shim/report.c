/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SF_OMP_REPORT: a line for each region that ended, on standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "omp-shim/policy.h"

static const char *const words[OMP_REASONS] = {
	[OMP_SHORT] = "it is short",
	[OMP_NO_ROOM] = "no clones",
	[OMP_CONFLICT] = "conflict",
	[OMP_LOST] = "a clone was lost",
	[OMP_SYSCALL] = "system call",
	[OMP_CONSTRUCT] = "construct",
	[OMP_THREADS] = "the program has threads of its own",
	[OMP_SHARED] = "shared memory",
	[OMP_STATE] = "a state in the C library",
	[OMP_CRASH] = "a member crashed",
	[OMP_TOO_MUCH] = "too much",
	[OMP_ASKED] = "as asked for",
	[OMP_GIVEN_UP] = "given up before",
};

/* The region's name: of the function it was made of, if its symbols are there. */
static void name_of(region_function *function, char *text, size_t len)
{
	Dl_info info;

	if (!dladdr((void *)(uintptr_t)function, &info) || !info.dli_fname)
		snprintf(text, len, "%p", (void *)(uintptr_t)function);
	else if (info.dli_sname)
		snprintf(text, len, "%s", info.dli_sname);
	else
		snprintf(text, len, "%s+%#tx", info.dli_fname,
			 (char *)(uintptr_t)function - (char *)info.dli_fbase);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

void report_region(region_function *function, unsigned members, enum omp_reason reason,
		   const char *why, const struct costs *c, uint64_t here_ns)
{
	char name[256];

	if (!policy_options()->report)
		return;
	name_of(function, name, sizeof(name));
	if (reason)
		fprintf(stderr, "libsfomp: %s: here, %.1f ms: %s%s%s\n", name, ms(here_ns),
			words[reason], *why ? ": " : "", why);
	else
		fprintf(stderr,
			"libsfomp: %s: in %u clones, %.1f ms: ticket %.1f, clone %.1f, first word %.1f, "
			"run %.1f, merge %.1f, end %.1f; %llu bytes changed, %llu came, %llu pages "
			"compared, %llu synchronisations\n",
			name, members,
			ms(c->ticket_ns + c->clone_ns + c->run_ns + c->merge_ns + c->join_ns),
			ms(c->ticket_ns), ms(c->clone_ns), ms(c->first_hello_ns), ms(c->run_ns),
			ms(c->merge_ns), ms(c->join_ns), (unsigned long long)c->changed_bytes,
			(unsigned long long)c->sent_bytes, (unsigned long long)c->pages,
			(unsigned long long)c->syncs);
}
