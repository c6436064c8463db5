/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fault points: places where a test may ask for trouble by name.
 *
 * SF_FAULT is a comma-separated list of `name` (every time) or `name:N` (the first N times). A
 * name is a few words that say what goes wrong, as in "mcdist-drop-reply"; each one that exists is
 * used by a test. With SF_FAULT unset a fault point costs one load.
 */
#ifndef COMMON_FAULT_H
#define COMMON_FAULT_H

#include <stdbool.h>

/* True if trouble was asked for here. Not for use by several threads at once. */
bool fault_hit(const char *name);

#endif
