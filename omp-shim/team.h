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
#include <sys/types.h>

#include "omp-shim/ranges.h"
#include "omp-shim/twin.h"
#include "proto/omp.h"

typedef void region_function(void *data); /* what the compiler made of the region's body */

/* -- in a member ---------------------------------------------------------------------------- */

struct loop { /* the worksharing loop that the member is in */
	uint64_t key;
	int schedule;			/* enum omp_schedule */
	bool ordered;
	uint64_t iterations, chunk;	/* counted from 0 */
	int64_t start, step;		/* number of iteration i: start + i * step, modulo 2^64 */
	uint64_t next;			/* static: the next iteration that is mine */
	uint64_t begin, end;		/* those that are mine now */
	bool has_turn;			/* ordered: all chunks before mine are done */
};

struct member {
	unsigned number, size;
	int sock;			/* to the parent */
	struct twin twin;
	struct ranges ranges;
	uint64_t constructs;		/* worksharing constructs that were begun: the last one's key */
	struct loop loop;
	unsigned inner;			/* levels of nested regions, on libgomp in this clone */
	uint64_t page_count, syncs;
	uint64_t entry;			/* where on its stack the region begins */
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

/* OMP_LOCK and OMP_UNLOCK; a thread of a nested region keeps the others of the clone out meanwhile. */
void sync_lock(uint64_t key);
void sync_unlock(uint64_t key);

/*
 * copyprivate. The one who did the single gives `data` and all of its stack from here to the region's
 * beginning; the others get that, at the same addresses, where the copy of its thread sleeps for ever.
 */
void sync_copy_set(uint64_t key, void *data);
void *sync_copy_get(uint64_t key);

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
	uint64_t stack_start, stack_end; /* of its mapping; [0]: below the region's entry */
	struct ranges tls;		 /* what of it is compared */
	uint32_t go;			 /* futex: TEAM_WAIT, or what it shall do */
	pid_t child;			 /* that it forked, or -1 */
};

enum { TEAM_WAIT, TEAM_RUN, TEAM_FORK };

/* How a team comes about. */
struct team_ways {
	/* Makes room for *size members; *size becomes how many there is room for. Return: 0 or -errno. */
	int (*ready)(unsigned *size);
	/*
	 * The instant. Return: in the parent 0 or -errno; as the copy for member k, on the program's
	 * thread, k + 1. (One that makes the team's threads members itself returns in the parent
	 * alone.)
	 */
	int (*clone)(unsigned size);
	/* The parent's address, for members. Return: 0 or -errno. */
	int (*address)(char *text, size_t len);
	/* True if the copy with member k has ended, or never was; `why` of `len` bytes says how. */
	bool (*ended)(unsigned number, char *why, size_t len);
	/* Ends all that is left of the copies. */
	void (*end)(void);
	/* In a copy: it is over. */
	void (*leave)(int status) __attribute__((noreturn));
};
extern const struct team_ways team_by_clones;	 /* clones of the VM */
extern const struct team_ways team_by_processes; /* processes of this machine: SF_OMP=processes */

struct team {
	const struct team_ways *ways;
	unsigned size;			/* threads there are, with the program's own: 1 at first */
	struct team_thread *threads;	/* [0] is the program's */

	/* In a new thread, and in a member first of all: what libgomp keeps for each thread becomes as the
	   region's own thread has it. */
	void (*inherit)(void);

	/* the region under way */
	region_function *function;
	void *data;
	uint64_t region;		/* its number, from 1 */
	unsigned members;
	struct ranges ranges;		/* what is compared */
	char address[64];		/* where the parent listens */
	uint16_t port;
	uint8_t token[OMP_TOKEN_BYTES];
};
extern struct team omp_team;

/* Where the calling thread's stack is, with what the C library keeps on top of it. Return: 0 or -errno. */
int team_own_stack(uint64_t *start, uint64_t *end);

/* Makes threads for members up to `size` - 1. Return: 0 or -errno. */
int team_grow(unsigned size);

/*
 * threadprivate in a region that libgomp runs: its thread `number` takes what the team's thread has, and
 * gives it back behind the region, so that the next region finds it wherever it runs.
 */
bool team_has_tls(void); /* of the program's own; libstdc++'s does not count */
void team_tls_take(unsigned number);
void team_tls_give(unsigned number);

/* Tells the team's thread `number` what to do. */
void team_tell(unsigned number, uint32_t what);

/* Waits until a thread that was told TEAM_FORK has. Return: its child, or -1. */
pid_t team_child(unsigned number);

/* fork(2) without the C library's part in it: the child is the calling thread alone. */
pid_t raw_fork(void);

/* True if this is all of one of the team's stacks, and not of the calling thread's. */
bool team_has_stack(uint64_t address, size_t bytes);

/* In a copy: lets the team's thread `number` (0: this one) be its member. */
void team_become(unsigned number) __attribute__((noreturn));

/* A thread that is neither the team's nor libgomp's was started or ended (+1, -1). */
void team_count_foreign(int change);
bool team_has_foreign(void);

/* The stack of a thread that is not the program's business begins or ends to be there. */
void team_stack_apart(uint64_t start, uint64_t end, bool there);

/* Takes these stacks out of `ranges`. Return: 0 or -ENOMEM. */
int team_leave_out_stacks(struct ranges *ranges);

#endif
