/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: memory that nobody needs does not travel; memory that somebody has, does, whole.
 *
 *   guest-pages fresh MB     a clone fills MB of memory that nobody used
 *   guest-pages freed MB     a clone frees MB that the parent filled, unseen, and fills as much anew
 *   guest-pages churn MB N R R times N clones of a parent that fills and frees without pause and
 *                            holds up to MB; every clone looks at all that was held, and goes on
 *
 * "fresh" and "freed" clone once and print what the clone needed for it, in milliseconds. What it
 * fetched is in the record.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define WORD_BYTES sizeof(uint64_t)
#define BLOCKS 256u
#define CHURNERS 2u

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	return x;
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void *get(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return at;
}

static void fill(uint64_t *words, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / WORD_BYTES; i++)
		words[i] = mix(seed + i);
}

/* Return: how many words are wrong. */
static size_t check(const uint64_t *words, size_t bytes, uint64_t seed)
{
	size_t wrong = 0;

	for (size_t i = 0; i < bytes / WORD_BYTES; i++)
		wrong += words[i] != mix(seed + i);
	return wrong;
}

/* ---- fresh, freed ---- */

static int clone_once(size_t bytes, uint64_t *freed)
{
	int id = sf_clone(1);
	char text[32];
	double begin;

	if (id < 0) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	if (id > 0) {
		begin = now_ms();
		if (freed)
			munmap(freed, bytes);
		memset(get(bytes), id, bytes);
		snprintf(text, sizeof(text), "%.1f", now_ms() - begin);
		sf_exit(sf_set_result(text, strlen(text)) ? 1 : 0);
	}
	sf_join();
	freed = sf_result(1, NULL);
	if (!freed) {
		fprintf(stderr, "the clone: %s\n", sf_error());
		return 1;
	}
	printf("%s ms\n", (const char *)freed);
	return 0;
}

/* ---- churn ---- */

static struct block {
	pthread_mutex_t lock;
	uint64_t *words;	/* NULL: free */
	size_t bytes;
	uint64_t seed;
} blocks[BLOCKS];
static size_t block_max;
static volatile size_t wrong_words;

/* Frees, checks or fills one block after the other, for ever. */
static void *churn(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;

	for (;;) {
		struct block *b = &blocks[(random = mix(random + 1)) % BLOCKS];

		pthread_mutex_lock(&b->lock);
		if (b->words) {
			wrong_words += check(b->words, b->bytes, b->seed);
			munmap(b->words, b->bytes);
			b->words = NULL;
		} else {
			b->bytes = (1 + mix(random) % (block_max / 4096)) * 4096;
			b->seed = random;
			b->words = get(b->bytes);
			fill(b->words, b->bytes, b->seed);
		}
		pthread_mutex_unlock(&b->lock);
	}
	return NULL;
}

/* A clone, in which the churners are at it already. Return: the wrong words it found. */
static size_t look_at_all(void)
{
	size_t wrong = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		struct block *b = &blocks[i];

		pthread_mutex_lock(&b->lock);
		if (b->words)
			wrong += check(b->words, b->bytes, b->seed);
		pthread_mutex_unlock(&b->lock);
	}
	return wrong + wrong_words;
}

static int churn_and_clone(size_t bytes, unsigned clones, unsigned rounds)
{
	unsigned right = 0;
	pthread_t thread;

	block_max = 4 * bytes / BLOCKS;	/* half of the blocks are filled, to half of that */
	for (unsigned i = 0; i < BLOCKS; i++)
		pthread_mutex_init(&blocks[i].lock, NULL);
	for (uintptr_t i = 0; i < CHURNERS; i++)
		pthread_create(&thread, NULL, churn, (void *)(i + 1));
	sleep(2);
	for (unsigned round = 0; round < rounds; round++) {
		int id = sf_clone(clones);

		if (id > 0)
			sf_exit(look_at_all() ? 2 : 0);
		if (id < 0 || sf_join()) {
			fprintf(stderr, "sf_clone: %s\n", sf_error());
			return 1;
		}
		for (unsigned k = 1; k <= (unsigned)sf_count(); k++) {
			struct sf_status s;

			if (!sf_status(k, &s) && s.state == SF_STATE_EXITED && !s.status)
				right++;
			else
				fprintf(stderr, "clone %u: state %d, status %d %s\n", k, (int)s.state, s.status,
					s.reason);
		}
	}
	printf("%u of %u clones found all as it was, %zu wrong words in the parent\n", right,
	       clones * rounds, wrong_words);
	return right != clones * rounds || wrong_words;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	size_t bytes = argc > 2 ? (size_t)atoi(argv[2]) << 20 : 0;
	uint64_t *words;

	if (!strcmp(what, "fresh"))
		return clone_once(bytes, NULL);
	if (!strcmp(what, "freed")) {
		words = get(bytes);
		fill(words, bytes, 1);
		return clone_once(bytes, words);
	}
	if (!strcmp(what, "churn") && argc == 5)
		return churn_and_clone(bytes, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	fprintf(stderr, "usage: guest-pages fresh|freed MB, or churn MB CLONES ROUNDS\n");
	return 2;
}
