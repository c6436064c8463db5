/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is to happen in simulated time: a heap of events, in the order of their times. */
#ifndef TESTS_MCDIST_QUEUE_H
#define TESTS_MCDIST_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed but for `fire` and `arg` before it is set first; the caller's, where it lies. */
struct sim_event {
	void (*fire)(void *arg);
	void *arg;
	uint64_t at_ns;
	size_t place;		/* in the heap, from 1; 0: it is not set */
};

/* What is compared lies side by side. */
struct sim_entry {
	uint64_t at_ns;
	uint64_t turn;		/* of two at the same time, the one that was set first */
	struct sim_event *event;
};

struct sim_queue {
	struct sim_entry *heap;	/* from 1 */
	size_t count, room;
	uint64_t turns;
};

void sim_queue_fini(struct sim_queue *q);

/* When an event happens, once; it may be set already. Return: 0 or -ENOMEM. */
int sim_queue_set(struct sim_queue *q, struct sim_event *event, uint64_t at_ns);
void sim_queue_unset(struct sim_queue *q, struct sim_event *event);

/* Takes the next one out. Return: NULL if there is none. */
struct sim_event *sim_queue_next(struct sim_queue *q);

#endif
