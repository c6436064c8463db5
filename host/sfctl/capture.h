/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a program for what it prints. */
#ifndef HOST_SFCTL_CAPTURE_H
#define HOST_SFCTL_CAPTURE_H

#include <stddef.h>

/*
 * Runs argv[0] (looked up in PATH) with an empty standard input and keeps up to `limit` bytes
 * of what it prints; standard error is dropped. Return: its exit status and *text, the
 * caller's, or -errno; -ENOENT if there is no such program.
 */
int capture(const char *const argv[], size_t limit, char **text);

#endif
