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

/* Tells the shell that began this program in the background that it may go on. */
static inline void ready(void)
{
	FILE *file = fopen("/tmp/ready", "ae");

	if (!file || fputs("ready\n", file) < 0 || fclose(file))
		fail("/tmp/ready");
}

/* guest-device.c */
int run_where(int argc, char **argv);
int run_hold(int argc, char **argv);
int run_prepare(int argc, char **argv);
int run_misuse(int argc, char **argv);
/* guest-memory.c */
int run_load(int argc, char **argv);
int run_hoard(int argc, char **argv);
int run_churn(int argc, char **argv);
/* guest-network.c */
int run_flood(int argc, char **argv);
int run_forge(int argc, char **argv);
int run_sockets(int argc, char **argv);
int run_stream(int argc, char **argv);

#endif
