/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A binary heap whose events know their place, so that timers can be moved. */
#include "tests/mcdist/queue.h"

#include <errno.h>
#include <stdlib.h>

#define WIDE 4u		/* children of each: they share a cache line or two */

static bool before(const struct sim_entry *a, const struct sim_entry *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->turn < b->turn;
}

static size_t parent_of(size_t place)
{
	return (place + WIDE - 2) / WIDE;
}

static void put(struct sim_queue *q, size_t place, const struct sim_entry *entry)
{
	q->heap[place] = *entry;
	entry->event->place = place;
}

static void up(struct sim_queue *q, const struct sim_entry *entry, size_t place)
{
	for (; place > 1 && before(entry, &q->heap[parent_of(place)]); place = parent_of(place))
		put(q, place, &q->heap[parent_of(place)]);
	put(q, place, entry);
}

/* Return: the child that is first, or 0. */
static size_t first_child(const struct sim_queue *q, size_t place)
{
	size_t child = WIDE * (place - 1) + 2, first = child;

	if (child > q->count)
		return 0;
	for (unsigned i = 1; i < WIDE && child + i <= q->count; i++) {
		if (before(&q->heap[child + i], &q->heap[first]))
			first = child + i;
	}
	return first;
}

static void down(struct sim_queue *q, const struct sim_entry *entry, size_t place)
{
	size_t child;

	while ((child = first_child(q, place)) && before(&q->heap[child], entry)) {
		put(q, place, &q->heap[child]);
		place = child;
	}
	put(q, place, entry);
}

void sim_queue_fini(struct sim_queue *q)
{
	for (size_t i = 1; i <= q->count; i++)
		q->heap[i].event->place = 0;
	free(q->heap);
	*q = (struct sim_queue){ 0 };
}

static int make_room(struct sim_queue *q)
{
	size_t room = q->room ? 2 * q->room : 1024;
	struct sim_entry *heap;

	if (q->count + 1 < q->room)
		return 0;
	heap = realloc(q->heap, room * sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	q->heap = heap;
	q->room = room;
	return 0;
}

void sim_queue_unset(struct sim_queue *q, struct sim_event *event)
{
	size_t place = event->place;
	struct sim_entry last;

	if (!place)
		return;
	event->place = 0;
	last = q->heap[q->count--];
	if (last.event == event)
		return;
	if (place > 1 && before(&last, &q->heap[parent_of(place)]))
		up(q, &last, place);
	else
		down(q, &last, place);
}

int sim_queue_set(struct sim_queue *q, struct sim_event *event, uint64_t at_ns)
{
	struct sim_entry entry = { at_ns, q->turns++, event };
	int error = make_room(q);

	if (error)
		return error;
	sim_queue_unset(q, event);
	event->at_ns = at_ns;
	up(q, &entry, ++q->count);
	return 0;
}

struct sim_event *sim_queue_next(struct sim_queue *q)
{
	struct sim_event *event = q->count ? q->heap[1].event : NULL;

	if (event)
		sim_queue_unset(q, event);
	return event;
}
