/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In the guest: a checkpoint is used twice, long after the parent went on to change everything. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sf.h>

#define WORDS ((size_t)4 << 20)	/* 32 MB */

static uint64_t *words;

static void fill(uint64_t seed)
{
	for (size_t i = 0; i < WORDS; i++)
		words[i] = seed ^ (i * 0x9e3779b97f4a7c15ull);
}

static int holds(uint64_t seed)
{
	for (size_t i = 0; i < WORDS; i++) {
		if (words[i] != (seed ^ (i * 0x9e3779b97f4a7c15ull)))
			return 0;
	}
	return 1;
}

static int use(int checkpoint, unsigned clones)
{
	int ticket = sf_request_ticket(clones, NULL), made;
	struct sf_status status;

	made = sf_create_clones(checkpoint, ticket);
	if (made != (int)clones || sf_join_ticket(ticket)) {
		printf("sf_create_clones: %d, %s\n", made, sf_error());
		return -1;
	}
	for (unsigned id = 1; id <= clones; id++) {
		if (sf_status_ticket(ticket, id, &status) || status.state != SF_STATE_EXITED ||
		    status.status != (int)(40 + id)) {
			printf("clone %u: state %d status %d %s\n", id, (int)status.state, status.status,
			       status.reason);
			return -1;
		}
	}
	return sf_ticket_free(ticket);
}

int main(void)
{
	int checkpoint, id;

	words = malloc(WORDS * sizeof(*words));
	fill(1);
	id = sf_checkpoint_parent(&checkpoint);
	if (id < 0) {
		printf("sf_checkpoint_parent: %s\n", sf_error());
		return 1;
	}
	if (id > 0)
		sf_exit(holds(1) ? 40 + id : 1);
	fill(2);
	if (use(checkpoint, 2))
		return 1;
	/* an ordinary clone in between, which is of now */
	id = sf_clone(1);
	if (id > 0)
		sf_exit(holds(2) ? 0 : 1);
	fill(3);
	if (sf_join() || use(checkpoint, 3) || !holds(3) || sf_checkpoint_free(checkpoint))
		return 1;
	puts("used twice");
	return 0;
}
