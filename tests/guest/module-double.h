/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the double of the kernel module in an agent and the test that plays the host exchange. */
#ifndef TESTS_GUEST_MODULE_DOUBLE_H
#define TESTS_GUEST_MODULE_DOUBLE_H

#include "proto/kmod.h"

/* To struct sfk_prepare, which is what SFK_HOLD sends. */
struct double_answer {
	int error;		/* errno of SFK_HOLD, or 0 */
	struct sfk_held held;
};

#endif
