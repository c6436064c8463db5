/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that the process starts. What one of the program's own writes would be in no member, so regions
 * stay here while there is one. libgomp's do nothing outside of its regions, and those of the
 * libraries behind libsf nothing that is the program's: their stacks are not compared.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "omp-shim/entry.h"
#include "omp-shim/libraries.h"

struct started {
	void *(*start)(void *);
	void *arg;
	bool foreign; /* the program's own */
};

static bool called_by_libgomp(const void *address)
{
	Dl_info info;

	return dladdr(address, &info) && info.dli_fname && strstr(info.dli_fname, "libgomp.so");
}

static void has_ended(void *opaque)
{
	const struct started *own = opaque;
	uint64_t start, end;

	if (own->foreign)
		team_count_foreign(-1);
	else if (!team_own_stack(&start, &end))
		team_stack_apart(start, end, false);
}

static void *thread_begin(void *opaque)
{
	struct started own = *(struct started *)opaque;
	uint64_t start, end;
	void *result;

	free(opaque);
	if (!own.foreign && !team_own_stack(&start, &end))
		team_stack_apart(start, end, true);
	pthread_cleanup_push(has_ended, &own);
	result = own.start(own.arg);
	pthread_cleanup_pop(1);
	return result;
}

ENTRY int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr,
			 void *(*start)(void *), void *restrict arg)
{
	const void *caller = __builtin_return_address(0);
	struct started *started;
	int rc;

	if (member_is_inner() || omp_here) /* a nested region's: the clone's alone */
		return real_pthread_create(thread, attr, start, arg);
	started = malloc(sizeof(*started));
	if (!started)
		return EAGAIN;
	library_find_own();
	*started = (struct started){ start, arg,
				     !called_by_libgomp(caller) && !library_is_helper(caller) };
	team_count_foreign(started->foreign);
	rc = real_pthread_create(thread, attr, thread_begin, started);
	if (rc) {
		team_count_foreign(-(int)started->foreign);
		free(started);
	}
	return rc;
}
