/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stopping what runs in the VM, so that its copies in a clone do not run one instruction. */
#ifndef LIBSF_SILENCE_H
#define LIBSF_SILENCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct silenced; /* a thread */

/* Zeroed at first; belongs to one thread, which has SIGCHLD blocked. */
struct silence {
	struct silenced *threads;
	size_t count, room;
	uint64_t since_ns; /* CLOCK_MONOTONIC when the first was stopped */
	char why[192];	   /* a sentence after an error */
};

/*
 * Stops every thread of every process but those that a clone needs, or that have nothing to do with
 * programs that users run: see silence.c. `companion` is a process on whose behalf this is done, `spared`
 * one that is not stopped; 0: none. Return: 0; or -errno with a sentence in `why`, and nothing is stopped.
 */
int silence_begin(struct silence *silence, pid_t companion, pid_t spared);

/*
 * Lets all go on as if nothing had been. What was in a state in which it cannot be let go yet
 * (uninterruptible) has not noticed; it is let go by silence_late(). Return: microseconds from the
 * first one's stop to the last one's release.
 */
uint64_t silence_end(struct silence *silence);

/* To be called at each SIGCHLD while silence->count is not 0: lets go what can be by now. */
void silence_late(struct silence *silence);

/* In a clone: stopped until they or this process end, whichever comes first. At each SIGCHLD again. */
void silence_keep(struct silence *silence);

/* Frees memory; what is stopped stays so while its tracer, this thread, lives. */
void silence_fini(struct silence *silence);

#endif
