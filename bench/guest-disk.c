/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: a disk that is written before clones are made, and read by them.
 *
 *   guest-disk [--clones=N] [--per-host=N] [--rounds=R] [--write=MB] [--read=MB] [--here]
 *
 * Before each of R operations the next WRITE megabytes of the first disk are written. N clones are
 * made then, of which each reads its first READ megabytes in order. Afterwards, with the last ones,
 * prints "all NS", from the clones' beginning to the end of the last of them, and a line for each
 * clone: HOST NS WRONG, where WRONG is 1 if it found something else than the parent then does. With
 * --here no clone is made: the parent reads, and prints "all NS".
 *
 * The guest's page cache is passed by: what is read comes from the disk.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define DISK	   "/dev/vda"
#define MIB	   (1u << 20)
#define WORDS	   (MIB / sizeof(uint64_t))
#define STEP_WORDS 73u /* so many are looked at: a few of every block */

enum { OPT_CLONES = 256, OPT_PER_HOST, OPT_ROUNDS, OPT_WRITE, OPT_READ, OPT_HERE };

struct options {
	unsigned clones, per_host, rounds, write_mib, read_mib;
	bool here;
};

static const struct argp_option option_table[] = {
	{ "clones", OPT_CLONES, "N", 0, "clones of a round [1]", 0 },
	{ "per-host", OPT_PER_HOST, "N", 0, "at most so many on a host [any]", 0 },
	{ "rounds", OPT_ROUNDS, "R", 0, "clone operations [1]", 0 },
	{ "write", OPT_WRITE, "MB", 0, "of the disk, written before each [0]", 0 },
	{ "read", OPT_READ, "MB", 0, "of the disk, read by each clone [0]", 0 },
	{ "here", OPT_HERE, NULL, 0, "the parent reads; no clones", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	/* in the order of the keys */
	unsigned *const numbers[] = { &o->clones, &o->per_host, &o->rounds, &o->write_mib,
				      &o->read_mib };

	if (key == OPT_HERE)
		o->here = true;
	else if (key < OPT_CLONES || key > OPT_HERE)
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

/* The disk, and a megabyte as O_DIRECT wants it. */
struct disk {
	int fd;
	uint64_t mibs;
	uint64_t *words;
};

/* Return: 0, or -1 and it was said why. A VM without a disk is fine if none is needed. */
static int disk_open(struct disk *k, const struct options *o)
{
	void *room = NULL;
	off_t end;

	if (!o->write_mib && !o->read_mib)
		return 0;
	k->fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	end = k->fd < 0 ? -1 : lseek(k->fd, 0, SEEK_END);
	if (end < (off_t)MIB || posix_memalign(&room, 4096, MIB))
		return perror("guest-disk: " DISK), -1;
	k->words = room;
	k->mibs = (uint64_t)end / MIB;
	for (size_t i = 0; i < WORDS; i++)
		k->words[i] = mix(i + 1);
	return 0;
}

/* Writes megabytes that differ from one another in every block, and begins again at the end. */
static int disk_write(struct disk *k, uint64_t first, uint64_t count)
{
	for (uint64_t at = first; at < first + count; at++) {
		for (size_t i = 0; i < WORDS; i += 512)
			k->words[i] = mix((at << 20) + i + 1);
		if (pwrite(k->fd, k->words, MIB, (off_t)(at % k->mibs * MIB)) != (ssize_t)MIB)
			return perror("guest-disk: written"), -1;
	}
	return 0;
}

/* Return: 0, with a sum of what was read in *sum. */
static int disk_read(struct disk *k, uint64_t count, uint64_t *sum)
{
	*sum = 0;
	for (uint64_t at = 0; at < count; at++) {
		if (pread(k->fd, k->words, MIB, (off_t)(at * MIB)) != (ssize_t)MIB)
			return perror("guest-disk: read"), -1;
		for (size_t i = 0; i < WORDS; i += STEP_WORDS)
			*sum = mix(*sum + k->words[i]);
	}
	return 0;
}

static void __attribute__((noreturn)) be_clone(const struct options *o, struct disk *k)
{
	uint64_t start = now_ns(), sum;
	char line[64];

	if (disk_read(k, o->read_mib, &sum))
		sf_exit(1);
	snprintf(line, sizeof(line), "%" PRIu64 " %" PRIu64, now_ns() - start, sum);
	sf_exit(sf_set_result(line, strlen(line) + 1) ? 1 : 0);
}

static int complain(void)
{
	fprintf(stderr, "guest-disk: %s\n", sf_error());
	return -1;
}

/* Return: 0 if all clones of the ticket ended well. */
static int tell(const struct options *o, struct disk *k, int ticket, uint64_t took_ns)
{
	uint64_t sum, ns, theirs;

	if (disk_read(k, o->read_mib, &sum))
		return -1;
	printf("all %" PRIu64 "\n", took_ns);
	for (int id = 1; id <= sf_ticket_granted(ticket); id++) {
		struct sf_status status;
		char *line = sf_result_ticket(ticket, (unsigned)id, NULL);

		if (!line || sf_status_ticket(ticket, (unsigned)id, &status) || status.status)
			return complain();
		if (sscanf(line, "%" SCNu64 " %" SCNu64, &ns, &theirs) != 2)
			return fprintf(stderr, "guest-disk: what is \"%s\"?\n", line), -1;
		printf("%s %" PRIu64 " %d\n", status.host, ns, theirs != sum);
		free(line);
	}
	return 0;
}

/* Return: 0, or -1 and it was said why. */
static int clone_once(const struct options *o, struct disk *k, bool last)
{
	struct sf_hints hints = SF_HINTS_INIT;
	uint64_t start;
	int ticket, id;

	hints.per_host = o->per_host;
	ticket = sf_request_ticket(o->clones, &hints);
	start = now_ns();
	id = ticket < 0 ? -1 : sf_clone_ticket(ticket);
	if (id > 0)
		be_clone(o, k);
	if (id < 0 || sf_join_ticket(ticket))
		return complain();
	if (last && tell(o, k, ticket, now_ns() - start))
		return -1;
	return sf_ticket_free(ticket) ? complain() : 0;
}

static int read_here(const struct options *o, struct disk *k)
{
	uint64_t start = now_ns(), sum;
	int error = disk_read(k, o->read_mib, &sum);

	if (!error)
		printf("all %" PRIu64 "\n", now_ns() - start);
	return error;
}

static const struct argp argp = { option_table, parse_option, NULL, "Clones a VM with a disk.",
				  NULL,		NULL,	      NULL };

int main(int argc, char **argv)
{
	struct options o = { .clones = 1, .rounds = 1 };
	struct disk disk = { .fd = -1 };
	int error;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	error = disk_open(&disk, &o);
	if (!error && o.here)
		return read_here(&o, &disk) ? EXIT_FAILURE : EXIT_SUCCESS;
	for (unsigned r = 0; r < o.rounds && !error; r++) {
		error = disk_write(&disk, (uint64_t)r * o.write_mib, o.write_mib);
		if (!error)
			error = clone_once(&o, &disk, r + 1 == o.rounds);
	}
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
