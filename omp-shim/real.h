/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Functions behind ours: the ones the program would have called without the shim. */
#ifndef OMP_SHIM_REAL_H
#define OMP_SHIM_REAL_H

#include <pthread.h>

/* Return: the next definition of a function; does not return if there is none. */
void *real_function(const char *name);

/* Calls the function behind ours of that name. The look-up is made once. */
#define REAL(name)                                                          \
	({                                                                  \
		static __typeof__(&name) real_;                             \
		if (!__atomic_load_n(&real_, __ATOMIC_RELAXED))             \
			__atomic_store_n(&real_, (__typeof__(&name))real_function(#name), \
					 __ATOMIC_RELAXED);                 \
		real_;                                                      \
	})

int real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			void *arg);

#endif
