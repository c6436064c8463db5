/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much memory there is. */
#ifndef HOST_SFCTL_MEMORY_H
#define HOST_SFCTL_MEMORY_H

#include <stdint.h>

/* What may still be used, in bytes, under the limit of our control group too; 0: unknown. */
uint64_t memory_available(void);

#endif
