/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ownership by attribute: a local that owns something frees it when it goes out of scope. */
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* A descriptor that is closed at the end of its scope; start it at -1. */
#define _cleanup_fd_ __attribute__((cleanup(cleanup_close)))
/* A heap pointer that is freed at the end of its scope; start it at NULL. */
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))

/* Takes the descriptor out of *fd, so that the caller owns it from now on. Return: the descriptor. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Takes the pointer out of *p, so that the caller owns it from now on. Return: the pointer. */
#define steal_ptr(p)                        \
	({                                  \
		__auto_type taken_ = *(p);  \
		*(p) = NULL;                \
		taken_;                     \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
