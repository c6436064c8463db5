/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: random numbers of clones have nothing in common from the instant on.
 *
 *   guest-random CLONES
 *
 * A thread draws random numbers without pause while the VM is cloned, and notes when. In parent and
 * clones these are the same up to the instant, and must differ from the very first one after it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define DRAWS (1u << 17)
#define MORE 64u	/* drawn after the call came back, at least */
#define PAUSE_NS 500000	/* around the instant nothing runs for longer than this */

struct draw {
	uint64_t ns, value;
};

/* What a VM sends home. */
struct outcome {
	uint64_t first;		/* drawn by the thread that called sf_clone() */
	uint64_t before, after;	/* draws as the call began, as it came back; draws below begin at `before` */
	struct draw draws[];
};

static struct draw draws[DRAWS];
static volatile uint64_t drawn;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *keep_drawing(void *arg)
{
	(void)arg;
	for (;;) {
		struct draw d;

		if (getrandom(&d.value, sizeof(d.value), 0) != sizeof(d.value))
			abort();
		d.ns = now_ns();
		draws[drawn % DRAWS] = d;
		drawn++;
	}
	return NULL;
}

/* Return: what to send home; *len its bytes. */
static struct outcome *gather(uint64_t first, uint64_t before, size_t *len)
{
	uint64_t back = drawn, count;
	struct outcome *o;

	while (drawn < back + MORE)
		usleep(1000);
	count = back + MORE - before;
	*len = sizeof(*o) + count * sizeof(struct draw);
	o = malloc(*len);
	if (!o || count > DRAWS)
		return NULL;
	*o = (struct outcome){ first, before, before + count };
	for (uint64_t i = 0; i < count; i++)
		o->draws[i] = draws[(before + i) % DRAWS];
	return o;
}

/* Return: the first draw in which the two differ. */
static uint64_t divergence(const struct outcome *a, const struct outcome *b)
{
	uint64_t i = a->before, end = a->after < b->after ? a->after : b->after;

	while (i < end && a->draws[i - a->before].value == b->draws[i - b->before].value)
		i++;
	return i;
}

/* Return: how long nothing ran around this draw. The instant may lie between a draw and its time. */
static uint64_t pause_at(const struct draw *draw)
{
	uint64_t here = draw[0].ns - draw[-1].ns, before = draw[-1].ns - draw[-2].ns;

	return here > before ? here : before;
}

/* Return: how many clones are wrong. */
static int compare(struct outcome **all, unsigned count)
{
	uint64_t instant = divergence(all[0], all[1]);
	uint64_t at = instant - all[0]->before;
	uint64_t pause_ns = at >= 2 ? pause_at(&all[0]->draws[at]) : 0;
	int wrong = 0;

	printf("%llu draws in the call up to the instant, a pause of %llu us there\n", (unsigned long long)at,
	       (unsigned long long)pause_ns / 1000);
	if (pause_ns < PAUSE_NS) {
		fprintf(stderr, "parent and clone 1 go on alike after the instant\n");
		wrong++;
	}
	for (unsigned a = 0; a <= count; a++) {
		for (unsigned b = a + 1; b <= count; b++) {
			if (divergence(all[a], all[b]) == instant && all[a]->first != all[b]->first)
				continue;
			fprintf(stderr, "%u and %u: alike for %lld draws after the instant, first %s\n", a, b,
				(long long)(divergence(all[a], all[b]) - instant),
				all[a]->first == all[b]->first ? "alike" : "different");
			wrong++;
		}
	}
	return wrong;
}

int main(int argc, char **argv)
{
	unsigned clones = argc > 1 ? (unsigned)atoi(argv[1]) : 4;
	struct outcome **all = calloc(clones + 1, sizeof(*all));
	pthread_t thread;
	uint64_t before, first = 0;
	size_t len;
	int id, ticket = sf_request_ticket(clones, NULL);

	pthread_create(&thread, NULL, keep_drawing, NULL);
	while (drawn < MORE)
		usleep(1000);
	before = drawn;
	id = sf_clone_ticket(ticket);
	if (getrandom(&first, sizeof(first), 0) != sizeof(first) || id < 0 || !all) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	all[0] = gather(first, before, &len);
	if (!all[0])
		fprintf(stderr, "%d: more draws than there is room for\n", id);
	if (id > 0)
		sf_exit(!all[0] || sf_set_result(all[0], len));
	sf_join_ticket(ticket);
	for (unsigned i = 1; i <= clones; i++) {
		all[i] = sf_result_ticket(ticket, i, &len);
		if (!all[i]) {
			fprintf(stderr, "clone %u: %s\n", i, sf_error());
			return 1;
		}
	}
	if (!all[0] || compare(all, clones))
		return 1;
	printf("%u clones and the parent: all different\n", clones);
	return 0;
}
