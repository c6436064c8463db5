/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the parent: the members' questions, from the instant until all are done or one has failed. */
#ifndef OMP_SHIM_SERVE_H
#define OMP_SHIM_SERVE_H

#include "omp-shim/store.h"
#include "omp-shim/team.h"

#define SERVE_WHY 256

struct outcome {
	enum omp_reason reason;		/* OMP_NO_REASON: all are done */
	char why[SERVE_WHY];
	uint64_t first_hello_ns, last_done_ns;	/* CLOCK_MONOTONIC */
	uint64_t received_bytes, syncs, pages, member_cpu_ns;
	struct printed *printed;	/* by each member; serve_fini() frees */
	uint64_t *frees;		/* what members freed of the parent's */
	size_t free_count, free_room;
	unsigned members;
};

/* Serves the region that omp_team describes, on a socket that listens. */
void serve(int listener, struct store *store, struct outcome *outcome);

/* What members printed, in their order, comes out; what they freed is freed. */
void serve_release(struct outcome *outcome);
void serve_fini(struct outcome *outcome);

#endif
