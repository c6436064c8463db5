/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Functions that a member's program must not call: they change what is neither compared nor seen by
 * the filter of system calls. Outside of members, and for the shim itself, they are the C library's.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "omp-shim/guard.h"
#include "omp-shim/libraries.h"
#include "omp-shim/real.h"
#include "omp-shim/team.h"

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

static void only_outside(const void *caller, enum omp_reason reason, const char *name)
{
	if (guard_is_on() && !library_is_own(caller))
		member_fail(reason, "it called %s(), whose effect cannot be sent home", name);
}

EXPORT void *mmap(void *start, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	only_outside(CALLER, OMP_SYSCALL, "mmap");
	return REAL(mmap)(start, bytes, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *start, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	only_outside(CALLER, OMP_SYSCALL, "mmap");
	return REAL(mmap64)(start, bytes, protection, flags, fd, offset);
}

EXPORT int munmap(void *start, size_t bytes)
{
	only_outside(CALLER, OMP_SYSCALL, "munmap");
	return REAL(munmap)(start, bytes);
}

EXPORT void *mremap(void *start, size_t old_bytes, size_t bytes, int flags, ...)
{
	va_list args;
	void *to;

	va_start(args, flags);
	to = flags & MREMAP_FIXED ? va_arg(args, void *) : NULL;
	va_end(args);
	only_outside(CALLER, OMP_SYSCALL, "mremap");
	return REAL(mremap)(start, old_bytes, bytes, flags, to);
}

EXPORT int brk(void *end)
{
	only_outside(CALLER, OMP_SYSCALL, "brk");
	return REAL(brk)(end);
}

EXPORT void *sbrk(intptr_t bytes)
{
	if (bytes)
		only_outside(CALLER, OMP_SYSCALL, "sbrk");
	return REAL(sbrk)(bytes);
}

/* -- a state in the C library ------------------------------------------------------------------ */

#define STATE(name) only_outside(CALLER, OMP_STATE, name)

EXPORT int rand(void)
{
	STATE("rand");
	return REAL(rand)();
}

EXPORT void srand(unsigned seed)
{
	STATE("srand");
	REAL(srand)(seed);
}

EXPORT long random(void)
{
	STATE("random");
	return REAL(random)();
}

EXPORT void srandom(unsigned seed)
{
	STATE("srandom");
	REAL(srandom)(seed);
}

EXPORT double drand48(void)
{
	STATE("drand48");
	return REAL(drand48)();
}

EXPORT long lrand48(void)
{
	STATE("lrand48");
	return REAL(lrand48)();
}

EXPORT long mrand48(void)
{
	STATE("mrand48");
	return REAL(mrand48)();
}

EXPORT char *strtok(char *text, const char *separators)
{
	STATE("strtok");
	return REAL(strtok)(text, separators);
}
