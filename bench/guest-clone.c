/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: clones it again and again; sfd's record of the run says how long things took.
 *
 *   guest-clone [--clones=N] [--rounds=R] [--fill=MB] [--rewrite=MB] [--hold=MS] [--overlap]
 *
 * FILL megabytes are written before the first clone, as by a program that has loaded its data. Each
 * clone lives for HOLD milliseconds and does nothing, so that its end does not disturb the others'
 * beginning. Between two rounds the parent writes REWRITE megabytes again. With --overlap the
 * clones of all rounds live, and their instants with them, until the last one was made.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sf.h>

#define MAX_ROUNDS 32u
#define MIB_WORDS ((1u << 20) / sizeof(uint64_t))

enum { OPT_CLONES = 256, OPT_ROUNDS, OPT_FILL, OPT_REWRITE, OPT_HOLD, OPT_OVERLAP };

struct options {
	unsigned clones, rounds, fill_mib, rewrite_mib, hold_ms;
	bool overlap;
};

static const struct argp_option option_table[] = {
	{ "clones", OPT_CLONES, "N", 0, "clones of a round [1]", 0 },
	{ "rounds", OPT_ROUNDS, "R", 0, "clone operations [1]", 0 },
	{ "fill", OPT_FILL, "MB", 0, "memory written before the first [0]", 0 },
	{ "rewrite", OPT_REWRITE, "MB", 0, "of that, written again before each other [0]", 0 },
	{ "hold", OPT_HOLD, "MS", 0, "how long a clone lives [300]", 0 },
	{ "overlap", OPT_OVERLAP, NULL, 0, "end the clones of all rounds together", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	/* in the order of the keys */
	unsigned *const numbers[] = { &o->clones, &o->rounds, &o->fill_mib, &o->rewrite_mib,
				      &o->hold_ms };

	if (key == OPT_OVERLAP)
		o->overlap = true;
	else if (key < OPT_CLONES || key > OPT_HOLD)
		return ARGP_ERR_UNKNOWN;
	else
		*numbers[key - OPT_CLONES] = (unsigned)strtoul(arg, NULL, 10);
	return 0;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	return x;
}

/* Numbers that no compression and no page of zeros helps with. */
static void fill(uint64_t *words, unsigned mib, uint64_t seed)
{
	for (size_t i = 0; i < mib * MIB_WORDS; i++)
		words[i] = mix(seed + i);
}

static int complain(const char *what)
{
	fprintf(stderr, "guest-clone: %s: %s\n", what, sf_error());
	return -1;
}

static void __attribute__((noreturn)) be_clone(const struct options *o)
{
	if (o->overlap)
		pause();	/* until the parent ends the ticket */
	usleep(o->hold_ms * 1000);
	sf_exit(0);
}

/* Return: 0 if all clones of the ticket ended and it was given back. */
static int finish(int ticket, const struct options *o)
{
	if (o->overlap && sf_kill_ticket(ticket))
		return complain("sf_kill_ticket");
	if (sf_join_ticket(ticket))
		return complain("sf_join_ticket");
	return sf_ticket_free(ticket) ? complain("sf_ticket_free") : 0;
}

/* Return: 0, with the clones' ticket in *ticket. */
static int clone_once(const struct options *o, int *ticket)
{
	int id;

	*ticket = sf_request_ticket(o->clones, NULL);
	if (*ticket < 0)
		return complain("sf_request_ticket");
	id = sf_clone_ticket(*ticket);
	if (id > 0)
		be_clone(o);
	return id < 0 ? complain("sf_clone_ticket") : 0;
}

static const struct argp argp = { option_table, parse_option, NULL,
				  "Clones this VM in rounds.", NULL, NULL, NULL };

int main(int argc, char **argv)
{
	struct options o = { .clones = 1, .rounds = 1, .hold_ms = 300 };
	int tickets[MAX_ROUNDS], error = 0;
	uint64_t *words;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (o.rounds > MAX_ROUNDS || o.rewrite_mib > o.fill_mib)
		return fprintf(stderr, "guest-clone: that makes no sense\n"), EXIT_FAILURE;
	words = malloc(o.fill_mib * MIB_WORDS * sizeof(*words) + 1);
	if (!words)
		return perror("guest-clone"), EXIT_FAILURE;
	fill(words, o.fill_mib, 1);
	for (unsigned r = 0; r < o.rounds && !error; r++) {
		if (r)
			fill(words, o.rewrite_mib, ((uint64_t)r + 1) << 40);
		error = clone_once(&o, &tickets[r]);
		if (!error && !o.overlap)
			error = finish(tickets[r], &o);
	}
	for (unsigned r = 0; r < o.rounds && !error && o.overlap; r++)
		error = finish(tickets[r], &o);
	free(words);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
