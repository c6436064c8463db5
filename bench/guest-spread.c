/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: clones that all need what the parent has loaded, at the same time.
 *
 *   guest-spread [--clones=N] [--per-host=N] [--fill=MB] [--wait=MS] [COMMAND…]
 *
 * FILL megabytes are written, then N clones are made. After WAIT milliseconds each of them reads all
 * of it, page after page, or runs COMMAND; then the same again. Prints "all NS", from the clones'
 * beginning to the end of the last of them, and a line for each clone: HOST NS AGAIN_NS WRONG, where
 * AGAIN_NS is what it took when the memory was there, and WRONG counts words that are not what was
 * written, or is COMMAND's status.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define PAGE_WORDS 512u
#define MIB_WORDS  ((size_t)(1u << 20) / sizeof(uint64_t))
#define STEP_WORDS 73u /* of a page, so many are looked at: a few of every page */

enum { OPT_CLONES = 256, OPT_PER_HOST, OPT_FILL, OPT_WAIT };

struct options {
	unsigned clones, per_host, fill_mib, wait_ms;
	char **command;
};

static const struct argp_option option_table[] = {
	{ "clones", OPT_CLONES, "N", 0, "clones [1]", 0 },
	{ "per-host", OPT_PER_HOST, "N", 0, "at most so many on a host [any]", 0 },
	{ "fill", OPT_FILL, "MB", 0, "memory written before [1]", 0 },
	{ "wait", OPT_WAIT, "MS", 0, "how long a clone waits before it begins [0]", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	/* in the order of the keys */
	unsigned *const numbers[] = { &o->clones, &o->per_host, &o->fill_mib, &o->wait_ms };

	if (key == ARGP_KEY_ARGS)
		o->command = state->argv + state->next;
	else if (key < OPT_CLONES || key > OPT_WAIT)
		return ARGP_ERR_UNKNOWN;
	else
		*numbers[key - OPT_CLONES] = (unsigned)strtoul(arg, NULL, 10);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	return x;
}

static uint64_t read_all(const uint64_t *words, size_t count)
{
	uint64_t wrong = 0;

	for (size_t page = 0; page < count; page += PAGE_WORDS) {
		for (size_t i = page; i < page + PAGE_WORDS; i += STEP_WORDS)
			wrong += words[i] != mix(i + 1);
	}
	return wrong;
}

/* Return: its exit status, or 255. */
static uint64_t run(char **command)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		execvp(command[0], command);
		_exit(255);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ?
		       255 :
		       (uint64_t)WEXITSTATUS(status);
}

static void __attribute__((noreturn))
be_clone(const struct options *o, const uint64_t *words, size_t count)
{
	uint64_t took_ns[2], wrong = 0;
	char line[96];

	usleep(o->wait_ms * 1000);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t start = now_ns();

		wrong += o->command ? run(o->command) : read_all(words, count);
		took_ns[i] = now_ns() - start;
	}
	snprintf(line, sizeof(line), "%" PRIu64 " %" PRIu64 " %" PRIu64, took_ns[0], took_ns[1],
		 wrong);
	sf_exit(sf_set_result(line, strlen(line) + 1) ? 1 : 0);
}

/* Return: the process's exit status. */
static int tell(int ticket, uint64_t took_ns)
{
	printf("all %" PRIu64 "\n", took_ns);
	for (int id = 1; id <= sf_ticket_granted(ticket); id++) {
		struct sf_status status;
		char *line = sf_result_ticket(ticket, (unsigned)id, NULL);

		if (!line || sf_status_ticket(ticket, (unsigned)id, &status) || status.status)
			return fprintf(stderr, "guest-spread: clone %d: %s\n", id, sf_error()), 1;
		printf("%s %s\n", status.host, line);
		free(line);
	}
	return 0;
}

static const struct argp argp = { option_table, parse_option, "[COMMAND…]",
				  "Clones that need the same memory at the same time.", NULL, NULL,
				  NULL };

int main(int argc, char **argv)
{
	struct options o = { .clones = 1, .fill_mib = 1 };
	struct sf_hints hints = SF_HINTS_INIT;
	uint64_t *words, start;
	size_t count;
	int ticket, id;

	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	count = o.fill_mib * MIB_WORDS;
	words = malloc(count * sizeof(*words));
	if (!words)
		return perror("guest-spread"), 1;
	for (size_t i = 0; i < count; i++)
		words[i] = mix(i + 1);
	hints.per_host = o.per_host;
	ticket = sf_request_ticket(o.clones, &hints);
	start = now_ns();
	id = ticket < 0 ? -1 : sf_clone_ticket(ticket);
	if (id > 0)
		be_clone(&o, words, count);
	if (id < 0 || sf_join_ticket(ticket))
		return fprintf(stderr, "guest-spread: %s\n", sf_error()), 1;
	return tell(ticket, now_ns() - start);
}
