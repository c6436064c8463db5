/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sentence that goes with an error number, for callers who gave room for one. */
#ifndef HOST_VNET_WHY_H
#define HOST_VNET_WHY_H

#include <stddef.h>

/* Where a sentence goes; `text` may be NULL with `bytes` 0. */
struct why {
	char *text;
	size_t bytes;
};

/*
 * Writes "<sentence>: <what the error number means>" (the sentence alone for error 0).
 * `error`: an errno, either sign. Return: -|error|.
 */
int why_set(const struct why *why, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
