/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs inside the guest share. */
#ifndef TESTS_KMOD_GUEST_H
#define TESTS_KMOD_GUEST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/kmod.h"

static inline void __attribute__((noreturn)) fail(const char *what)
{
	printf("%s: %s (%d)\n", what, strerror(errno), errno);
	exit(1);
}

#endif
