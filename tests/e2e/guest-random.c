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
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define DRAWS (1u << 16)
#define MORE 64u	/* drawn after the call came back, at least */
#define EVERY_NS 50000	/* so that there is room for some seconds, on a machine that is busy */

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
static volatile uint64_t drawn, kept_from = UINT64_MAX;	/* draws from there on are not overwritten */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *keep_drawing(void *arg)
{
	(void)arg;
	while (drawn < kept_from || drawn - kept_from < DRAWS) {
		uint64_t next_ns = now_ns() + EVERY_NS;
		struct draw d;

		while (now_ns() < next_ns)
			;
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

	while (drawn < back + MORE && drawn - before < DRAWS)
		usleep(1000);
	count = drawn - before < DRAWS ? drawn - before : DRAWS;
	*len = sizeof(*o) + count * sizeof(struct draw);
	o = malloc(*len);
	if (!o)
		return NULL;
	*o = (struct outcome){ first, before, before + count };
	for (uint64_t i = 0; i < count; i++)
		o->draws[i] = draws[(before + i) % DRAWS];
	return o;
}

/* The first draw with another time, and the first with another value. Return: there is one. */
static bool divergence(const struct outcome *a, const struct outcome *b, uint64_t *time, uint64_t *value)
{
	uint64_t end = a->after < b->after ? a->after : b->after;

	*time = *value = end;
	for (uint64_t i = a->before; i < end; i++) {
		const struct draw *x = &a->draws[i - a->before], *y = &b->draws[i - b->before];

		if (x->ns != y->ns && *time == end)
			*time = i;
		if (x->value != y->value && *value == end)
			*value = i;
	}
	return *time < end;
}

/*
 * No two VMs go through an instant in the same time to the nanosecond, so their clocks show where
 * it was. It may lie between a draw and its time: then that one draw is of before.
 *
 * Return: how many pairs are wrong.
 */
static int compare(struct outcome **all, unsigned count)
{
	int wrong = 0;

	for (unsigned a = 0; a <= count; a++) {
		for (unsigned b = a + 1; b <= count; b++) {
			uint64_t time, value;

			if (!divergence(all[a], all[b], &time, &value)) {
				fprintf(stderr, "%u and %u: the instant is not among the draws\n", a, b);
				wrong++;
				continue;
			}
			if (value <= time + 1 && all[a]->first != all[b]->first)
				continue;
			fprintf(stderr, "%u and %u: alike for %lld draws after the instant, first %s\n", a, b,
				(long long)(value - time), all[a]->first == all[b]->first ? "alike" : "different");
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
	kept_from = before = drawn;
	id = sf_clone_ticket(ticket);
	if (getrandom(&first, sizeof(first), 0) != sizeof(first) || id < 0 || !all) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	all[0] = gather(first, before, &len);
	if (!all[0])
		perror("guest-random");
	if (id > 0 && (!all[0] || sf_set_result(all[0], len)))
		fprintf(stderr, "clone %d, %zu bytes: %s\n", id, len, sf_error());
	if (id > 0)
		sf_exit(0);
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
