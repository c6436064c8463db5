/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: a clone on each host touches memory it inherited, page by page, and takes the time.
 *
 *   guest-fault [HOSTS]
 *
 * Prints a line for each clone: HOST MEDIAN_NS P99_NS TOUCHES. They measure one after the other.
 * The times are the guest's own: the walk of its page tables and the exit to the host are in them.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define PAGE_BYTES 4096u
#define STEP_PAGES 16u	/* farther than pages are asked for ahead */
#define TOUCHES 2000u
#define TURN_MS 1500u	/* for one clone */

static uint64_t took_ns[TOUCHES];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void __attribute__((noreturn)) be_clone(const volatile uint8_t *bytes, unsigned id)
{
	char line[96];
	int wrong = 0;

	memset(took_ns, 1, sizeof(took_ns));	/* its pages are here from now on */
	usleep((id - 1) * TURN_MS * 1000);
	for (unsigned i = 0; i < TOUCHES; i++) {
		uint64_t start = now_ns();

		wrong += bytes[(size_t)i * STEP_PAGES * PAGE_BYTES] != 1;
		took_ns[i] = now_ns() - start;
	}
	qsort(took_ns, TOUCHES, sizeof(took_ns[0]), by_size);
	snprintf(line, sizeof(line), "%" PRIu64 " %" PRIu64 " %u", took_ns[TOUCHES / 2],
		 took_ns[TOUCHES * 99 / 100], TOUCHES);
	sf_exit(wrong || sf_set_result(line, strlen(line) + 1) ? 1 : 0);
}

/* Prints what the clones found. Return: the process's exit status. */
static int tell(int ticket)
{
	for (int id = 1; id <= sf_ticket_granted(ticket); id++) {
		struct sf_status status;
		char *line = sf_result_ticket(ticket, (unsigned)id, NULL);

		if (!line || sf_status_ticket(ticket, (unsigned)id, &status) || status.status)
			return fprintf(stderr, "guest-fault: clone %d: %s\n", id, sf_error()), 1;
		printf("%s %s\n", status.host, line);
		free(line);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sf_hints hints = SF_HINTS_INIT;
	unsigned hosts = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 4;
	size_t len = (size_t)TOUCHES * STEP_PAGES * PAGE_BYTES;
	uint8_t *bytes = malloc(len);
	int ticket, id;

	if (!bytes)
		return perror("guest-fault"), 1;
	memset(bytes, 1, len);
	hints.per_host = 1;
	ticket = sf_request_ticket(hosts, &hints);
	id = ticket < 0 ? -1 : sf_clone_ticket(ticket);
	if (id > 0)
		be_clone(bytes, (unsigned)id);
	if (id < 0 || sf_join_ticket(ticket))
		return fprintf(stderr, "guest-fault: %s\n", sf_error()), 1;
	return tell(ticket);
}
