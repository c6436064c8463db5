/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Functions behind ours. */
#define _GNU_SOURCE
#include "omp-shim/real.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

void *real_function(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found) {
		fprintf(stderr, "libsfomp: there is no %s() behind this library: is libgomp there?\n",
			name);
		abort();
	}
	return found;
}

int real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			void *arg)
{
	return REAL(pthread_create)(thread, attr, start, arg);
}
