/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How fast the counter runs that guests under TCG see as their CPU's time stamp counter. */
#ifndef HOST_VMM_TSC_H
#define HOST_VMM_TSC_H

#include <stdint.h>

/*
 * The first call takes 20 ms. Not for several threads. Return: in kHz of CLOCK_MONOTONIC, within
 * some millionths; 0 if this machine has none.
 */
uint32_t tsc_khz(void);

#endif
