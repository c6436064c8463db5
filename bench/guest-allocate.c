/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: how long filling fresh memory takes, in a VM that was booted or in a clone of it.
 *
 *   guest-allocate [--clones=N] [--without] [--used=MB] MB
 *
 * The booted VM first writes USED megabytes, as a program that has loaded its data. Then it fills MB
 * megabytes that nobody used before. With --clones, it has used and freed all the rest of its memory
 * before, and clones itself N times, one after the other, each time one clone on another host, which
 * does the filling. A line each on standard output: milliseconds, and in a clone the microseconds
 * from its first moment to addresses in place, as the kernel module says. --without: the module is
 * unloaded first.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define MIB ((size_t)1 << 20)
#define ADDRESSED "/sys/module/snowflock/parameters/addressed_us"

enum { OPT_CLONES = 256, OPT_WITHOUT, OPT_USED };

struct options {
	bool without;
	unsigned clones;
	size_t used_mib, mib;
};

static const struct argp_option option_table[] = {
	{ "clones", OPT_CLONES, "N", 0, "in so many clones on another host", 0 },
	{ "without", OPT_WITHOUT, NULL, 0, "without the kernel module", 0 },
	{ "used", OPT_USED, "MB", 0, "memory written before [0]", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case OPT_CLONES:
		o->clones = (unsigned)strtoul(arg, NULL, 10);
		return 0;
	case OPT_WITHOUT:
		o->without = true;
		return 0;
	case OPT_USED:
		o->used_mib = strtoul(arg, NULL, 10);
		return 0;
	case ARGP_KEY_ARG:
		o->mib = strtoul(arg, NULL, 10);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Return: the milliseconds it took; -1: no memory. `keep`: it is not freed again. */
static double allocate(size_t mib, int value, bool keep)
{
	double begin = now_ms(), took_ms;
	void *at = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return -1;
	memset(at, value, mib * MIB);
	took_ms = now_ms() - begin;
	if (!keep)
		munmap(at, mib * MIB);
	return took_ms;
}

/* Free memory of a machine that has run for a while is full of what was there before. */
static int use_and_free_the_rest(void)
{
	size_t free_mib = (size_t)sysconf(_SC_AVPHYS_PAGES) / 256;

	return free_mib < 64 || allocate(free_mib - 64, 3, false) < 0 ? -1 : 0;
}

static unsigned long addressed_us(void)
{
	unsigned long us = 0;
	FILE *file = fopen(ADDRESSED, "re");

	if (!file)
		return 0;
	if (fscanf(file, "%lu", &us) != 1)
		us = 0;
	fclose(file);
	return us;
}

static void __attribute__((noreturn)) be_clone(const struct options *o)
{
	double ms = allocate(o->mib, 1, true);
	char text[64];

	snprintf(text, sizeof(text), "%.1f %lu", ms, addressed_us());
	sf_exit(ms < 0 || sf_set_result(text, strlen(text)));
}

static int in_a_clone(const struct options *o)
{
	int id = sf_clone(1);
	char *text;

	if (id > 0)
		be_clone(o);
	text = id < 0 || sf_join() ? NULL : sf_result(1, NULL);
	if (!text)
		return fprintf(stderr, "guest-allocate: %s\n", sf_error()), EXIT_FAILURE;
	puts(text);
	fflush(stdout);	/* or the next clone has it, too */
	free(text);
	return EXIT_SUCCESS;
}

static const struct argp argp = { option_table, parse_option, "MB",
				  "Fills memory that is fresh.", NULL, NULL, NULL };

int main(int argc, char **argv)
{
	struct options o = { 0 };

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (!o.mib)
		return fprintf(stderr, "guest-allocate: how much?\n"), EXIT_FAILURE;
	if (o.without && system("rmmod snowflock"))
		return fprintf(stderr, "guest-allocate: the module stays\n"), EXIT_FAILURE;
	if (o.used_mib && allocate(o.used_mib, 2, true) < 0)
		return perror("guest-allocate"), EXIT_FAILURE;
	if (o.clones && use_and_free_the_rest())
		return perror("guest-allocate"), EXIT_FAILURE;
	for (unsigned i = 0; i < o.clones; i++) {
		if (in_a_clone(&o))
			return EXIT_FAILURE;
	}
	if (!o.clones)
		printf("%.1f 0\n", allocate(o.mib, 1, true));
	return EXIT_SUCCESS;
}
