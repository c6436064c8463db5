/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: clones check a hash over all that they inherited while the parent overwrites it.
 *
 *   guest-memory CLONES MEGABYTES ROUNDS [LOST]
 *
 * Each round fills MEGABYTES of memory with numbers that only this round has, clones, and at once
 * overwrites every page. A clone that finds anything but the round's numbers says where. Up to LOST
 * of a round's clones may be lost with their hosts.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sf.h>

#define PAGE_WORDS 512u

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	return x;
}

static void fill(uint64_t *words, size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i++)
		words[i] = mix(seed + i);
}

/* Return: the first word that is not the round's, or count. */
static size_t check(const uint64_t *words, size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i++) {
		if (words[i] != mix(seed + i))
			return i;
	}
	return count;
}

static void be_clone(const uint64_t *words, size_t count, uint64_t seed, int id)
{
	size_t wrong = check(words, count, seed);
	char result[64];

	if (wrong != count)
		fprintf(stderr, "clone %d: word %zu (page %zu) is not of the instant\n", id, wrong,
			wrong / PAGE_WORDS);
	snprintf(result, sizeof(result), "%d %" PRIx64, id, words[count - 1]);
	if (sf_set_result(result, strlen(result) + 1))
		sf_exit(3);
	sf_exit(wrong == count ? 0 : 2);
}

/* Return: how many of the round's clones were right; *lost gets how many there is no word of. */
static int judge(unsigned count, uint64_t last_word, unsigned *lost)
{
	int right = 0;

	*lost = 0;

	for (unsigned id = 1; id <= count; id++) {
		struct sf_status status;
		size_t len;
		char *result = sf_result(id, &len), want[64];

		snprintf(want, sizeof(want), "%u %" PRIx64, id, last_word);
		if (!sf_status(id, &status) && status.state == SF_STATE_EXITED && !status.status &&
		    result && !strcmp(result, want))
			right++;
		else if (status.state == SF_STATE_LOST)
			(*lost)++;
		else
			fprintf(stderr, "clone %u: state %d, status %d, result %s, %s\n", id, (int)status.state,
				status.status, result ? result : "none", status.reason);
		free(result);
	}
	return right;
}

int main(int argc, char **argv)
{
	unsigned clones = argc > 1 ? (unsigned)atoi(argv[1]) : 4, rounds = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
	unsigned may_lose = argc > 4 ? (unsigned)atoi(argv[4]) : 0, lost;
	size_t count = ((size_t)(argc > 2 ? atoi(argv[2]) : 16) << 20) / sizeof(uint64_t);
	uint64_t *words = malloc(count * sizeof(*words));

	for (unsigned round = 0; words && round < rounds; round++) {
		uint64_t seed = ((uint64_t)round + 1) << 40;
		int id, right;

		fill(words, count, seed);
		printf("round %u: cloning\n", round);
		fflush(stdout);
		id = sf_clone(clones);
		if (id < 0) {
			fprintf(stderr, "sf_clone: %s\n", sf_error());
			return 1;
		}
		if (id > 0)
			be_clone(words, count, seed, id);
		fill(words, count, ~seed);
		if (sf_join()) {
			fprintf(stderr, "sf_join: %s\n", sf_error());
			return 1;
		}
		right = judge((unsigned)sf_count(), mix(seed + count - 1), &lost);
		printf("round %u: %d of %u right, %u lost\n", round, right, clones, lost);
		if ((unsigned)right + lost != clones || lost > may_lose || check(words, count, ~seed) != count)
			return 1;
	}
	puts("all right");
	return 0;
}
