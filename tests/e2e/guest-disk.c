/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: what disks are in clones.
 *
 *   guest-disk instant N       memory and disk agree, in N clones of a guest that writes to both
 *   guest-disk checkpoint N    N clones of an instant long past, twice
 *   guest-disk full N          N clones, and writing, while the host has no room; then again
 *   guest-disk chain N         N clones in a row, something written before each
 *   guest-disk own N           what each clone writes is its own
 *   guest-disk read N MB       each clone reads what the parent wrote
 *
 * Everything goes past the guest's page cache: what is read comes from the disk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sf.h>

#define DISK	"/dev/vda"
#define BLOCK	4096u
#define WRITERS 8u
#define AREA	64u /* blocks of each writer of `instant` */
#define PAST	64u  /* blocks that `checkpoint` writes */

static int disk;

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "VM %d: ", sf_id());
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (sf_id() > 0)
		sf_exit(2);
	exit(1);
}

/* A block for each thread that needs one, as O_DIRECT wants it. */
static uint64_t *block_new(void)
{
	void *page = NULL;

	if (posix_memalign(&page, BLOCK, BLOCK))
		fail("no memory");
	return page;
}

static void block_write(uint64_t *page, uint64_t block, uint64_t value)
{
	for (unsigned i = 0; i < BLOCK / 8; i++)
		page[i] = value;
	if (pwrite(disk, page, BLOCK, (off_t)(block * BLOCK)) != BLOCK)
		fail("block %llu not written: %s", (unsigned long long)block, strerror(errno));
}

/* Return: what was written there; it must be whole. */
static uint64_t block_read(uint64_t *page, uint64_t block)
{
	if (pread(disk, page, BLOCK, (off_t)(block * BLOCK)) != BLOCK)
		fail("block %llu not read: %s", (unsigned long long)block, strerror(errno));
	for (unsigned i = 1; i < BLOCK / 8; i++) {
		if (page[i] != page[0])
			fail("block %llu is in parts", (unsigned long long)block);
	}
	return page[0];
}

static void expect(uint64_t *page, uint64_t block, uint64_t value)
{
	uint64_t found = block_read(page, block);

	if (found != value)
		fail("block %llu is %llu instead of %llu", (unsigned long long)block,
		     (unsigned long long)found, (unsigned long long)value);
}

/* Return: 0 in the parent, else a clone's ID; all that were asked for are there. */
static int clone_all(unsigned n)
{
	int id = sf_clone(n);

	if (id < 0)
		fail("%s", sf_error());
	if (!id && (unsigned)sf_count() != n)
		fail("%d clones instead of %u", sf_count(), n);
	return id;
}

static void join_all(unsigned n)
{
	if (sf_join())
		fail("%s", sf_error());
	for (unsigned id = 1; id <= n; id++) {
		struct sf_status status;

		if (sf_status(id, &status) || status.state != SF_STATE_EXITED || status.status)
			fail("clone %u: state %d, status %d, %s", id, (int)status.state,
			     status.status, status.reason);
	}
}

/* Waits for the host to have made a change. */
static void wait_for_word(void)
{
	char word[16];

	if (!fgets(word, sizeof(word), stdin))
		fail("no word");
}

/* ---- instant ---- */

static uint64_t expected[WRITERS * AREA]; /* of each block, what was written last */
static atomic_bool writing, stop;
static atomic_uint writes;

/*
 * Writes numbers to blocks of its area, chosen by them, and then to memory. They come from the
 * CPU's clock: in a clone they are others than in the parent from the instant on. So what the parent
 * writes after it is not what the clone's memory knows of, and mostly not where the clone writes.
 */
static void *write_on(void *arg)
{
	uint64_t *page = block_new(), *area = arg;

	while (!stop) {
		uint64_t value = __builtin_ia32_rdtsc(), at = value * 0x9e3779b97f4a7c15ull >> 58;

		_Static_assert(AREA == 1 << (64 - 58), "these bits of the product");
		if (!writing) {
			usleep(1000);
			continue;
		}
		block_write(page, (uint64_t)(area - expected) + at, value);
		area[at] = value;
		writes++;
	}
	free(page);
	return NULL;
}

static void stop_writers(pthread_t *writers)
{
	stop = true; /* they run in a clone as well */
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
}

/* The disk is what memory says. */
static void compare(void)
{
	uint64_t *page = block_new();

	for (uint64_t block = 0; block < WRITERS * AREA; block++)
		expect(page, block, expected[block]);
	free(page);
}

static void begin_writing(void)
{
	unsigned before = writes;

	writing = true;
	while (writes - before < 10 * WRITERS)
		usleep(1000);
}

/* The hosts make the clones ready while nobody writes: the instant alone is to be busy. */
static void one_instant(pthread_t *writers, unsigned n)
{
	int ticket = sf_request_ticket(n, NULL);
	struct sf_status status;
	int id;

	if (ticket < 0 || sf_ticket_granted(ticket) != (int)n)
		fail("no ticket: %s", sf_error());
	begin_writing();
	id = sf_clone_ticket(ticket);
	if (id < 0)
		fail("%s", sf_error());
	if (id) {
		stop_writers(writers);
		compare();
		sf_exit(0);
	}
	usleep(20000);
	writing = false;
	if (sf_join_ticket(ticket))
		fail("%s", sf_error());
	for (unsigned k = 1; k <= n; k++) {
		if (sf_status_ticket(ticket, k, &status) || status.state != SF_STATE_EXITED ||
		    status.status)
			fail("clone %u: %s", k, status.reason);
	}
	sf_ticket_free(ticket);
}

static void instant(unsigned rounds)
{
	pthread_t writers[WRITERS];

	puts("begun");
	wait_for_word();
	for (unsigned i = 0; i < WRITERS; i++) {
		if (pthread_create(&writers[i], NULL, write_on, &expected[i * AREA]))
			fail("no thread");
	}
	for (unsigned round = 0; round < rounds; round++)
		one_instant(writers, round ? 1 : 2); /* at first, on both hosts */
	stop_writers(writers);
	compare();
}

/* ---- chain ---- */

static void check_chain(uint64_t *page, uint64_t written, unsigned all)
{
	expect(page, 0, written);
	for (uint64_t block = 1; block <= all; block++)
		expect(page, block, block <= written ? block : 0);
}

static void chain(unsigned n)
{
	uint64_t *page = block_new();

	for (uint64_t round = 1; round <= n; round++) {
		block_write(page, round, round);
		block_write(page, 0, round);
		if (clone_all(1)) {
			check_chain(page, round, n);
			block_write(page, 0, ~0ull);
			block_write(page, round + 1, ~0ull);
			expect(page, 0, ~0ull);
			sf_exit(0);
		}
		join_all(1);
	}
	check_chain(page, n, n);
	free(page);
}

/* ---- own ---- */

static void own(unsigned n)
{
	uint64_t *page = block_new();
	int id;

	block_write(page, 0, 7);
	id = clone_all(n);
	if (id) {
		expect(page, 0, 7);
		block_write(page, 0, 1000 + (uint64_t)id);
		block_write(page, (uint64_t)id, 1000 + (uint64_t)id);
		expect(page, 0, 1000 + (uint64_t)id);
		for (unsigned other = 1; other <= n; other++)
			expect(page, other, other == (unsigned)id ? 1000 + other : 0);
		sf_exit(0);
	}
	join_all(n);
	expect(page, 0, 7);
	for (unsigned other = 1; other <= n; other++)
		expect(page, other, 0);
	free(page);
}

/* ---- read ---- */

static void read_all(unsigned n, unsigned megabytes)
{
	uint64_t blocks = (uint64_t)megabytes << 8, *page = block_new();

	for (uint64_t block = 0; block < blocks; block++)
		block_write(page, block, block + 1);
	if (clone_all(n)) {
		for (uint64_t block = 0; block < blocks; block++)
			expect(page, block, block + 1);
		sf_exit(0);
	}
	for (uint64_t block = 0; block < blocks; block++)
		block_write(page, block, ~block);
	join_all(n);
	free(page);
}

/* ---- checkpoint ---- */

static void fill(uint64_t *page, uint64_t value)
{
	for (uint64_t block = 0; block < PAST; block++)
		block_write(page, block, value);
}

static void expect_all(uint64_t *page, uint64_t blocks, uint64_t value)
{
	for (uint64_t block = 0; block < blocks; block++)
		expect(page, block, value);
}

/* The parent's layers grow in number, and are merged. */
static void make_layers(uint64_t *page, uint64_t first, unsigned count)
{
	for (uint64_t value = first; value < first + count; value++) {
		fill(page, value);
		if (clone_all(1)) {
			expect_all(page, PAST, value);
			sf_exit(0);
		}
		join_all(1);
	}
}

static void use_checkpoint(int checkpoint, unsigned n)
{
	int ticket = sf_request_ticket(n, NULL);
	struct sf_status status;

	if (ticket < 0 || sf_create_clones(checkpoint, ticket) != (int)n || sf_join_ticket(ticket))
		fail("%s", sf_error());
	for (unsigned id = 1; id <= n; id++) {
		if (sf_status_ticket(ticket, id, &status) || status.state != SF_STATE_EXITED ||
		    status.status)
			fail("clone %u of the checkpoint: %s", id, status.reason);
	}
	sf_ticket_free(ticket);
}

static void checkpoint(unsigned n)
{
	uint64_t *page = block_new();
	int past, id;

	fill(page, 1);
	id = sf_checkpoint_parent(&past);
	if (id < 0)
		fail("%s", sf_error());
	if (id) {
		expect_all(page, PAST, 1);
		fill(page, 1000 + (uint64_t)id);
		expect_all(page, PAST, 1000 + (uint64_t)id);
		sf_exit(0);
	}
	for (uint64_t round = 1; round <= 2; round++) {
		make_layers(page, 10 * round, round == 1 ? 4 : 1);
		use_checkpoint(past, n);
		expect_all(page, PAST, round == 1 ? 13 : 20);
	}
	free(page);
}

/* ---- full ---- */

static void full(unsigned n)
{
	uint64_t *page = block_new(), blocks = 0;

	block_write(page, 0, 7);
	puts("begun");
	wait_for_word();
	if (sf_clone(n) >= 0)
		fail("clones were made");
	printf("refused: %s\n", sf_error());
	wait_for_word();
	while (pwrite(disk, page, BLOCK, (off_t)(blocks * BLOCK)) == BLOCK)
		blocks++;
	printf("error: %s after %llu blocks\n", strerror(errno), (unsigned long long)blocks);
	expect_all(page, blocks, 7);
	wait_for_word();
	block_write(page, blocks++, 7);
	if (clone_all(n)) {
		expect_all(page, blocks, 7);
		sf_exit(0);
	}
	join_all(n);
	free(page);
}

static const struct {
	const char *name;
	void (*run)(unsigned n);
} modes[] = {
	{ "instant", instant }, { "chain", chain },	      { "own", own },
	{ "full", full },	{ "checkpoint", checkpoint },
};

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	void (*run)(unsigned n) = NULL;

	disk = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0)
		fail("%s: %s", DISK, strerror(errno));
	setlinebuf(stdout);
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(what, modes[i].name))
			run = modes[i].run;
	}
	if (run)
		run(n);
	else if (!strcmp(what, "read") && argc > 3)
		read_all(n, (unsigned)atoi(argv[3]));
	else
		fail("what?");
	puts("all right");
	return 0;
}
