/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The team of a region that is away, as all files of the shim see it.
 *
 * The program's thread that reaches a region is member 0, and in its clone goes on as what it is.
 * For member k ≥ 1 the process has a thread k of its own from the first region on, which waits in
 * the parent for ever: in clone k it runs the region. So each member has a TLS of its own, at an
 * address of its own, and what it leaves there (threadprivate) is there in the next region.
 *
 * Only one region of a process is away at a time, and only where the program has no other threads
 * than these and libgomp's.
 */
#ifndef OMP_SHIM_TEAM_H
#define OMP_SHIM_TEAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "omp-shim/ranges.h"
#include "omp-shim/twin.h"
#include "proto/omp.h"

typedef void region_function(void *data); /* what the compiler made of the region's body */

/* -- in a member ---------------------------------------------------------------------------- */

struct loop { /* the worksharing loop that the member is in */
	uint64_t key;
	int schedule;			/* enum omp_schedule */
	bool ordered, is_unsigned, up;
	uint64_t iterations, chunk;	/* counted from 0 */
	int64_t start, step;		/* number of iteration i: start + i * step, modulo 2^64 */
	uint64_t next;			/* static: the next iteration that is mine */
	uint64_t begin, end;		/* those that are mine now */
};

struct member {
	unsigned number, size;
	int sock;			/* to the parent */
	struct twin twin;
	struct ranges ranges;
	uint64_t constructs;		/* worksharing constructs that were begun: the last one's key */
	struct loop loop;
	unsigned inner;			/* levels of nested regions, on libgomp in this clone */
	uint64_t sections;		/* how many the present construct has */
};

/*
 * The member that the calling thread is; NULL in the parent, in a region that libgomp runs, and in
 * the threads of a nested one. Every entry of libgomp looks here first, and passes through if NULL.
 */
extern __thread struct member *omp_here __attribute__((tls_model("initial-exec")));

/*
 * Tells the parent that this cannot be done in a clone, and ends the clone; the region will be done
 * by the parent. `format` is a sentence without a full stop.
 */
void member_fail(enum omp_reason reason, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/* In clone `number` + 1, on the team's thread: all of a member's life. Ends the clone. */
void member_run(unsigned number, region_function *function, void *data) __attribute__((noreturn));

/*
 * A synchronisation (proto/omp.h): sends what was written, waits for the answer, puts in what others
 * wrote. Return: the answer's value. Does not return if the parent is gone.
 */
uint64_t sync_point(enum omp_sync_kind kind, uint64_t key, uint64_t value);

/* Return: false if no iteration is left. */
bool sync_chunk(const struct omp_chunk *chunk, struct omp_range *range);

/* `bytes` as they are in the store, kept for this member until sync_store(). */
void sync_fetch(uint64_t address, void *bytes, unsigned count);
void sync_store(uint64_t address, const void *bytes, unsigned count);

/* -- in the parent --------------------------------------------------------------------------- */

struct costs { /* of one region, in nanoseconds and bytes; 0: not measured */
	uint64_t ticket_ns, clone_ns, first_hello_ns, run_ns, merge_ns, join_ns;
	uint64_t changed_bytes, sent_bytes, pages, syncs;
	uint64_t member_cpu_ns; /* the sum */
};

/*
 * Runs a region in clones. `size`: at most so many members; *got is how many there were. Return:
 * OMP_NO_REASON if it is done; else why not, with the sentence in `why` of 256 bytes, and the
 * process as it was.
 */
enum omp_reason region_away(region_function *function, void *data, unsigned size, unsigned *got,
			    struct costs *costs, char *why);

/* Asks for a ticket of `size` clones without waiting for it, for the next region. */
void region_prepare(unsigned size);

/* Ends what was prepared; at the end of the process. */
void region_finish(void);

struct team_thread {
	pthread_t thread;
	uint64_t stack_start, stack_end; /* of its mapping */
	struct ranges tls;		 /* what of it is compared */
	uint32_t go;			 /* futex: 0 waits, 1 runs as member */
};

struct team {
	unsigned size;			/* threads there are, with the program's own */
	struct team_thread *threads;	/* [0] is the program's, filled in at each region */
	region_function *function;	/* the region under way */
	void *data;
	uint64_t region;
	uint16_t port;			/* where the parent listens */
	uint8_t token[OMP_TOKEN_BYTES];
	/*
	 * Makes the clones of a team: in the parent 0 or -errno; in clone k ≥ 1 the number k, on the
	 * thread that called it. The one by libsf is region_clone(); tests have one by fork(2).
	 */
	int (*clone)(struct team *team, unsigned size);
	/* The parent's address as members reach it; and the end of what `clone` made. */
	int (*address)(char *text, size_t len);
	void (*end)(struct team *team);
	_Noreturn void (*leave)(int status); /* a member ends: sf_exit() */
};
extern struct team omp_team;

#endif
