/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mutexes of POSIX threads in a member: locks among members, known by their address; their memory
 * stays as it was. Waiting for a condition is not taken over.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "omp-shim/entry.h"

ENTRY int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	int rc = omp_here ? 0 : REAL(pthread_mutex_lock)(mutex);

	if (!rc && (omp_here || member_is_inner()))
		sync_lock((uintptr_t)mutex);
	return rc;
}

ENTRY int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (!omp_here)
		return REAL(pthread_mutex_trylock)(mutex);
	return sync_point(OMP_TRYLOCK, (uintptr_t)mutex, 0) ? 0 : EBUSY;
}

ENTRY int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	if (omp_here || member_is_inner())
		sync_unlock((uintptr_t)mutex);
	return omp_here ? 0 : REAL(pthread_mutex_unlock)(mutex);
}

ENTRY int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	if (omp_here)
		not_taken_over("pthread_cond_wait()");
	return REAL(pthread_cond_wait)(cond, mutex);
}
