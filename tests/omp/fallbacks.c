/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Regions that cannot be done in copies, each by its name: fallbacks NAME. What is printed is what
 * plain libgomp with one thread gives.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N 64
static long a[N], last;

static void fill(void)
{
#pragma omp parallel for
	for (int i = 0; i < N; i++)
		a[i] = i;
}

/* Every member writes another number to the same place, and nothing orders them. */
static void conflict(void)
{
#pragma omp parallel for schedule(static, 1)
	for (int i = 0; i < N; i++) {
		a[i] = i;
		if (omp_get_num_threads() > 1)
			last = omp_get_thread_num();
	}
	last = 0;
}

static void opens(void)
{
#pragma omp parallel for
	for (int i = 0; i < N; i++) {
		char word[8] = "";
		int file = open("/proc/self/comm", O_RDONLY);

		a[i] = read(file, word, 4) == 4 ? i : -1;
		close(file);
	}
}

static void random_numbers(void)
{
	srand(1);
#pragma omp parallel for
	for (int i = 0; i < N; i++) {
#pragma omp critical
		a[i] = rand() >= 0 ? i : -1;
	}
}

static void crash(void)
{
#pragma omp parallel for
	for (int i = 0; i < N; i++) {
		if (getenv("SF_OMP") && i == N - 1 && getpid() != (pid_t)last)
			*(volatile int *)8 = 1;
		a[i] = i;
	}
}

/* Whoever has the last iteration takes three seconds for it. */
static void killed(void)
{
#pragma omp parallel for
	for (int i = 0; i < N; i++) {
		double begin = omp_get_wtime();

		while (i == N - 1 && getenv("SF_OMP") && omp_get_wtime() - begin < 3)
			;
		a[i] = i;
	}
}

static void doacross(void)
{
#pragma omp parallel for ordered(1)
	for (int i = 0; i < N; i++) {
#pragma omp ordered depend(sink : i - 1)
		a[i] = i ? a[i - 1] + 1 : 0;
#pragma omp ordered depend(source)
	}
}

static void *wait_for_ever(void *unused)
{
	(void)unused;
	pause();
	return NULL;
}

static void threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_for_ever, NULL);
	fill();
}

static void shared(void)
{
	long *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

#pragma omp parallel for
	for (int i = 0; i < N; i++)
		a[i] = both[i] = i;
	munmap(both, 4096);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{ "conflict", conflict }, { "open", opens },	   { "rand", random_numbers },
		{ "crash", crash },	  { "killed", killed },	   { "doacross", doacross },
		{ "threads", threads },	  { "shared", shared },
	};
	long sum = 0;

	last = getpid();
	for (unsigned i = 0; argc > 1 && i < sizeof(all) / sizeof(all[0]); i++) {
		if (!strcmp(argv[1], all[i].name))
			all[i].run();
	}
	for (int i = 0; i < N; i++)
		sum += a[i] * (i + 1);
	printf("%s %ld\n", argv[1], sum);
	return 0;
}
