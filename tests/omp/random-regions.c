/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A random OpenMP program: the seed decides which regions there are, what they do to three arrays and
 * some numbers, and with which schedule. What comes out depends on the seed alone, not on the team.
 *
 *   random-regions SEED REGIONS
 */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 4096

static uint64_t a[N], b[N], *c;
static uint64_t total, count, most;
static char text[N];
static uint64_t state;

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 29;
	return x * 0xc4ceb9fe1a85ec53u;
}

static unsigned draw(unsigned below)
{
	state = mix(state + 0x9e3779b97f4a7c15u);
	return (unsigned)((state >> 20) % below);
}

static void draw_schedule(void)
{
	static const omp_sched_t kinds[] = { omp_sched_static, omp_sched_dynamic, omp_sched_guided };

	omp_set_schedule(kinds[draw(3)], draw(3) ? (int)draw(200) + 1 : 0);
}

/* Scattered writes, each to a place of its own: a permutation of the indices. */
static void scatter(unsigned n, unsigned odd)
{
#pragma omp parallel for schedule(runtime)
	for (unsigned i = 0; i < n; i++)
		b[(i * odd) % N] = mix(a[i] + i);
}

/* Neighbours in a byte array: members write beside one another. */
static void bytes(unsigned n, unsigned salt)
{
#pragma omp parallel for schedule(runtime)
	for (unsigned i = 0; i < n; i++)
		text[i] = (char)mix(a[i] + salt);
}

static void reduce(unsigned n, unsigned salt)
{
	uint64_t sum = 0, x = 0;
	uint64_t largest = 0;

#pragma omp parallel for schedule(runtime) reduction(+ : sum) reduction(^ : x) reduction(max : largest)
	for (unsigned i = 0; i < n; i++) {
		uint64_t value = mix(b[i] + salt);

		sum += value;
		x ^= value;
		largest = value > largest ? value : largest;
	}
	total += sum ^ x;
	most = largest;
}

static void atomics(unsigned n)
{
#pragma omp parallel for schedule(runtime)
	for (unsigned i = 0; i < n; i += 16) {
#pragma omp atomic
		count += a[i] & 0xff;
#pragma omp atomic
		c[a[i] % 64] ^= i;
	}
}

static void criticals(unsigned n)
{
#pragma omp parallel for schedule(runtime)
	for (unsigned i = 0; i < n; i += 128) {
#pragma omp critical
		{
			c[i % N] += count;
			total += mix(i);
		}
	}
}

/* Two phases with a barrier between them: the second reads what others wrote in the first. */
static void phases(unsigned n, unsigned shift)
{
#pragma omp parallel
	{
#pragma omp for schedule(runtime)
		for (unsigned i = 0; i < n; i++)
			a[i] = mix(b[i] ^ shift);
#pragma omp single
		count += a[n - 1] & 7;
#pragma omp for schedule(static)
		for (unsigned i = 0; i < n; i++)
			b[i] = a[(i + shift) % n];
	}
}

static void allocate(unsigned n)
{
	uint64_t **blocks = calloc(n, sizeof(*blocks));

#pragma omp parallel for schedule(runtime)
	for (unsigned i = 0; i < n; i++) {
		blocks[i] = malloc(8 + 8 * (i % 50));
		blocks[i][0] = mix(a[i]);
		if (i % 3 == 0) {
			free(blocks[i]);
			blocks[i] = NULL;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		total += blocks[i] ? blocks[i][0] : 1;
		free(blocks[i]);
	}
	free(blocks);
}

int main(int argc, char **argv)
{
	unsigned regions = argc > 2 ? (unsigned)atoi(argv[2]) : 10;
	uint64_t hash = 0;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	c = calloc(N, sizeof(*c));
	for (unsigned i = 0; i < N; i++)
		a[i] = mix(state + i);
	for (unsigned r = 0; r < regions; r++) {
		unsigned n = draw(N - 1) + 1, which = draw(7);

		draw_schedule();
		switch (which) {
		case 0: scatter(n, 2 * draw(N / 2) + 1); break;
		case 1: bytes(n, draw(1000)); break;
		case 2: reduce(n, draw(1000)); break;
		case 3: atomics(n); break;
		case 4: criticals(n); break;
		case 5: phases(n, draw(n)); break;
		case 6: allocate(draw(300) + 1); break;
		}
		printf("%u: %u of %u, total %llu\n", r, which, n, (unsigned long long)total);
	}
	for (unsigned i = 0; i < N; i++)
		hash = mix(hash ^ a[i]) + mix(b[i] ^ c[i]) + (unsigned char)text[i];
	printf("%llu %llu %llu %llu\n", (unsigned long long)hash, (unsigned long long)total,
	       (unsigned long long)count, (unsigned long long)most);
	free(c);
	return 0;
}
