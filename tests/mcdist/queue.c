/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A binary heap whose events know their place, so that timers can be moved. */
#include "tests/mcdist/queue.h"

#include <errno.h>
#include <stdlib.h>

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->turn < b->turn;
}

static void put(struct sim_queue *q, size_t place, struct sim_event *event)
{
	q->heap[place] = event;
	event->place = place;
}

static void up(struct sim_queue *q, struct sim_event *event, size_t place)
{
	for (; place > 1 && before(event, q->heap[place / 2]); place /= 2)
		put(q, place, q->heap[place / 2]);
	put(q, place, event);
}

static void down(struct sim_queue *q, struct sim_event *event, size_t place)
{
	size_t child;

	while ((child = 2 * place) <= q->count) {
		if (child < q->count && before(q->heap[child + 1], q->heap[child]))
			child++;
		if (!before(q->heap[child], event))
			break;
		put(q, place, q->heap[child]);
		place = child;
	}
	put(q, place, event);
}

void sim_queue_fini(struct sim_queue *q)
{
	for (size_t i = 1; i <= q->count; i++)
		q->heap[i]->place = 0;
	free(q->heap);
	*q = (struct sim_queue){ 0 };
}

static int make_room(struct sim_queue *q)
{
	size_t room = q->room ? 2 * q->room : 1024;
	struct sim_event **heap;

	if (q->count + 1 < q->room)
		return 0;
	heap = realloc(q->heap, room * sizeof(struct sim_event *));
	if (!heap)
		return -ENOMEM;
	q->heap = heap;
	q->room = room;
	return 0;
}

void sim_queue_unset(struct sim_queue *q, struct sim_event *event)
{
	size_t place = event->place;
	struct sim_event *last;

	if (!place)
		return;
	event->place = 0;
	last = q->heap[q->count--];
	if (last == event)
		return;
	if (place > 1 && before(last, q->heap[place / 2]))
		up(q, last, place);
	else
		down(q, last, place);
}

int sim_queue_set(struct sim_queue *q, struct sim_event *event, uint64_t at_ns)
{
	int error = make_room(q);

	if (error)
		return error;
	sim_queue_unset(q, event);
	event->at_ns = at_ns;
	event->turn = q->turns++;
	up(q, event, ++q->count);
	return 0;
}

struct sim_event *sim_queue_next(struct sim_queue *q)
{
	struct sim_event *event = q->count ? q->heap[1] : NULL;

	if (event)
		sim_queue_unset(q, event);
	return event;
}
