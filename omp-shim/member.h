/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A member's own: who it is, and which of its memory counts. */
#ifndef OMP_SHIM_MEMBER_H
#define OMP_SHIM_MEMBER_H

#include "omp-shim/team.h"

/* The member that this process is, for whichever of its threads asks. */
struct member *member_self(void);

/* What is compared now: the heap's parts grow. */
struct ranges *member_ranges(struct member *member);

/* What it wrote since it last said so; good until the next call. Fails the region if it cannot. */
const struct pieces *sync_written(struct member *member);

/* Waits until the parent has all of DONE. */
void sync_await_goodbye(struct member *member);

#endif
