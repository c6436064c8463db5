/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: by example, and random histories against a slow model that keeps every write. */
#include "config.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/io.h"
#include "omp-shim/store.h"

#define MEMBERS	   4u
#define AREA_BYTES (4u * PAGE_BYTES)

static uint8_t *area;
static struct ranges ranges;
static struct store *store;
static struct pieces pieces;
static uint64_t where;

static void set_up(void)
{
	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(area != MAP_FAILED);
	memset(area, 0x80, AREA_BYTES);
	CU_ASSERT_FATAL(!ranges_add(&ranges, (uintptr_t)area, (uintptr_t)area + AREA_BYTES));
	store = store_new(MEMBERS, &ranges);
	CU_ASSERT_FATAL(store != NULL);
}

static void tear_down(void)
{
	store_free(store);
	ranges_fini(&ranges);
	pieces_fini(&pieces);
	munmap(area, AREA_BYTES);
}

static int put(unsigned member, unsigned at, const void *bytes, size_t count)
{
	pieces.len = 0;
	CU_ASSERT_EQUAL_FATAL(pieces_add(&pieces, (uintptr_t)area + at, bytes, count), 0);
	return store_merge(store, member, pieces.bytes, pieces.len, &where);
}

/* Return: how many bytes the member is given; they are written to `memory`, byte for byte. */
static size_t get(unsigned member, uint8_t *memory)
{
	struct pieces_reader reader;
	struct pieces_part part;
	size_t count = 0;

	pieces.len = 0;
	CU_ASSERT_EQUAL_FATAL(store_updates(store, member, &pieces), 0);
	CU_ASSERT_FATAL(pieces_check(pieces.bytes, pieces.len, &ranges));
	pieces_read(&reader, pieces.bytes, pieces.len);
	while (pieces_next(&reader, &part) > 0) {
		for (unsigned i = 0; i < PAGE_BYTES; i++) {
			if (!(part.mask[i / LINE_BYTES] >> i % LINE_BYTES & 1))
				continue;
			memory[part.address - (uintptr_t)area + i] = part.page[i];
			count++;
		}
	}
	return count;
}

static void barrier(void)
{
	uint32_t clock[MEMBERS] = { 0 };

	for (unsigned m = 0; m < MEMBERS; m++)
		store_release(store, m, clock);
	for (unsigned m = 0; m < MEMBERS; m++)
		store_acquire(store, m, clock);
}

static void different_bytes_are_no_conflict(void)
{
	uint8_t memory[AREA_BYTES] = { 0 };

	set_up();
	CU_ASSERT_EQUAL(put(0, 10, "abc", 3), 0);
	CU_ASSERT_EQUAL(put(1, 13, "def", 3), 0);
	CU_ASSERT_EQUAL(put(2, 4090, "0123456789", 10), 0);
	CU_ASSERT_EQUAL(get(0, memory), 13);
	CU_ASSERT(!memcmp(memory + 9, "\0\0\0\0def\0", 8));
	CU_ASSERT_EQUAL(get(0, memory), 0);
	CU_ASSERT_EQUAL(get(1, memory), 13);
	CU_ASSERT(!memcmp(memory + 4089, "\0" "0123456789", 12));
	CU_ASSERT_EQUAL(area[10], 0x80);
	CU_ASSERT_EQUAL(store_commit(store), 16);
	CU_ASSERT(!memcmp(area + 9, "\x80" "abcdef\x80", 8));
	CU_ASSERT(!memcmp(area + 4089, "\x80" "0123456789\x80", 12));
	tear_down();
}

static void the_same_byte_is_one(void)
{
	set_up();
	CU_ASSERT_EQUAL(put(0, 10, "abc", 3), 0);
	CU_ASSERT_EQUAL(put(1, 11, "b", 1), 0); /* the same value */
	CU_ASSERT_EQUAL(put(1, 12, "x", 1), -EEXIST);
	CU_ASSERT_EQUAL(where, (uintptr_t)area + 12);
	tear_down();
}

static void order_makes_it_none(void)
{
	uint32_t lock[MEMBERS] = { 0 };

	set_up();
	CU_ASSERT_EQUAL(put(0, 10, "a", 1), 0);
	store_release(store, 0, lock);
	store_acquire(store, 1, lock);
	CU_ASSERT_EQUAL(put(1, 10, "b", 1), 0);
	store_release(store, 1, lock);
	store_acquire(store, 2, lock); /* knows of 0 through 1 */
	CU_ASSERT_EQUAL(put(2, 10, "c", 1), 0);
	barrier();
	CU_ASSERT_EQUAL(put(3, 10, "d", 1), 0);
	CU_ASSERT_EQUAL(put(3, 10, "e", 1), 0);
	CU_ASSERT_EQUAL(put(0, 10, "f", 1), -EEXIST);
	tear_down();
}

static void what_came_after_the_release_is_not_seen(void)
{
	uint32_t lock[MEMBERS] = { 0 };

	set_up();
	store_release(store, 0, lock);
	CU_ASSERT_EQUAL(put(0, 10, "a", 1), 0);
	store_acquire(store, 1, lock);
	CU_ASSERT_EQUAL(put(1, 10, "b", 1), -EEXIST);
	tear_down();
}

static void each_of_two_with_the_same_value_counts(void)
{
	uint32_t lock[MEMBERS] = { 0 };

	set_up();
	CU_ASSERT_EQUAL(put(0, 10, "a", 1), 0);
	CU_ASSERT_EQUAL(put(1, 10, "a", 1), 0);
	store_release(store, 1, lock);
	store_acquire(store, 2, lock);
	CU_ASSERT_EQUAL(put(2, 10, "b", 1), -EEXIST); /* has not seen that of 0 */
	tear_down();
}

static void atomic_operations_are_none_among_themselves(void)
{
	uint8_t memory[AREA_BYTES];
	uint64_t value;

	set_up();
	for (unsigned i = 0; i < 100; i++) {
		unsigned at = i % 2 ? PAGE_BYTES - 4 : 16;

		CU_ASSERT_EQUAL_FATAL(
			store_fetch(store, i % 3, (uintptr_t)area + at, &value, sizeof(value)), 0);
		value++;
		CU_ASSERT_EQUAL_FATAL(
			store_atomic(store, i % 3, (uintptr_t)area + at, &value, sizeof(value)), 0);
	}
	CU_ASSERT_EQUAL(value, 0x8080808080808080ull + 50);
	CU_ASSERT_EQUAL(get(3, memory), 16);
	CU_ASSERT_EQUAL(get(0, memory), 8); /* the last to one of them was its own */
	CU_ASSERT_EQUAL(store_commit(store), 16);
	memcpy(&value, area + 16, sizeof(value));
	CU_ASSERT_EQUAL(value, 0x8080808080808080ull + 50);
	tear_down();
}

static void atomic_operations_and_writes_are_one(void)
{
	uint32_t lock[MEMBERS] = { 0 };
	uint32_t value = 0x80808080;

	set_up();
	CU_ASSERT_EQUAL(store_atomic(store, 0, (uintptr_t)area, &value, 4), 0);
	CU_ASSERT_EQUAL(put(0, 0, "a", 1), 0);
	CU_ASSERT_EQUAL(store_fetch(store, 1, (uintptr_t)area, &value, 4), -EEXIST);
	CU_ASSERT_EQUAL(store_atomic(store, 1, (uintptr_t)area, &value, 4), -EEXIST);
	CU_ASSERT_EQUAL(put(1, 1, "\x80", 1), -EEXIST); /* whatever the value */
	store_release(store, 0, lock);
	store_acquire(store, 2, lock);
	CU_ASSERT_EQUAL(store_fetch(store, 2, (uintptr_t)area, &value, 4), 0);
	CU_ASSERT_EQUAL(value, 0x80808061);
	CU_ASSERT_EQUAL(store_atomic(store, 2, (uintptr_t)area, &value, 4), 0);
	CU_ASSERT_EQUAL(put(2, 0, "abc", 3), 0);
	CU_ASSERT_EQUAL(store_fetch(store, 2, (uintptr_t)area + AREA_BYTES - 2, &value, 4), -EFAULT);
	CU_ASSERT_EQUAL(store_atomic(store, 2, (uintptr_t)area - 1, &value, 4), -EFAULT);
	tear_down();
}

static void what_cannot_be_put_in_is_told(void)
{
	set_up();
	CU_ASSERT_EQUAL(put(0, 10, "a", 1), 0);
	CU_ASSERT_EQUAL(put(0, PAGE_BYTES + 10, "b", 1), 0);
	mprotect(area + PAGE_BYTES, PAGE_BYTES, PROT_NONE);
	CU_ASSERT_EQUAL(store_commit(store), 2);
	munmap(area + PAGE_BYTES, PAGE_BYTES);
	area[10] = 0;
	CU_ASSERT_EQUAL(store_commit(store), UINT64_MAX);
	CU_ASSERT_EQUAL(area[10], 0);
	tear_down();
}

/* ---- the model: all that ever happened to each byte, and who knows of what ---- */

#define PLACES 96u	/* bytes that are written to, in two pages */
#define EVENTS 4000u
#define LOCKS  3u

struct event {
	unsigned member;
	bool atomic;
	uint8_t value;
	bool holds[MEMBERS]; /* who has the value without being given it */
	unsigned version;
	bool knew[EVENTS];
};

static struct {
	struct event events[EVENTS];
	unsigned count, version;
	unsigned of[PLACES][EVENTS], of_count[PLACES]; /* the events of each place */
	bool knows[MEMBERS][EVENTS], lock_knows[LOCKS][EVENTS];
	unsigned current[PLACES]; /* which event's value it is, + 1 */
	unsigned given[MEMBERS];
	uint8_t memory[MEMBERS][PLACES]; /* as each member has it */
	uint8_t final[PLACES];
} model;

static unsigned place_at(unsigned place)
{
	return PAGE_BYTES - PLACES / 2 + place;
}

static void learn(bool *to, const bool *from)
{
	for (unsigned i = 0; i < model.count; i++)
		to[i] |= from[i];
}

/* Return: false if it is a conflict. */
static bool model_write(unsigned member, unsigned place, uint8_t value, bool atomic, unsigned version)
{
	struct event *event = &model.events[model.count];
	bool meets = false;

	for (unsigned i = 0; i < model.of_count[place]; i++) {
		const unsigned number = model.of[place][i];
		const struct event *old = &model.events[number];
		bool outlived = false;

		for (unsigned j = 0; j < model.of_count[place]; j++)
			outlived |= model.events[model.of[place][j]].knew[number];
		if (model.knows[member][number] || outlived)
			continue;
		if (atomic != old->atomic || (!atomic && old->value != value))
			return false;
		meets |= !atomic;
	}
	memset(event, 0, sizeof(*event));
	event->member = member;
	event->atomic = atomic;
	event->value = value;
	memcpy(event->knew, model.knows[member], sizeof(event->knew));
	event->version = version;
	if (meets) { /* the same value again: who has it has it */
		const struct event *old = &model.events[model.current[place] - 1];

		event->version = old->version;
		memcpy(event->holds, old->holds, sizeof(event->holds));
	}
	event->holds[member] = true;
	model.knows[member][model.count] = true;
	model.of[place][model.of_count[place]++] = model.count;
	model.current[place] = ++model.count;
	model.memory[member][place] = model.final[place] = value;
	return true;
}

static bool due(unsigned member, unsigned place)
{
	const struct event *event;

	if (!model.current[place])
		return false;
	event = &model.events[model.current[place] - 1];
	return event->version > model.given[member] && !event->holds[member];
}

/* Some bytes, near one another or not. Return: what the store says is what the model says. */
static bool random_write(unsigned member, bool *conflict)
{
	unsigned from = (unsigned)rand() % PLACES, step = 1 + (unsigned)rand() % 3;
	unsigned end = from + 1 + (unsigned)rand() % (rand() % 4 ? 5 : 60);
	struct pieces some = { 0 };
	bool right = true;
	int rc;

	model.version++;
	for (unsigned place = from; place < end && place < PLACES; place += step) {
		uint8_t value = (uint8_t)(rand() % 8 ? 1 : rand() % 3);

		if (pieces_add(&some, (uintptr_t)area + place_at(place), &value, 1))
			abort();
		right = right && model_write(member, place, value, false, model.version);
	}
	rc = store_merge(store, member, some.bytes, some.len, &where);
	pieces_fini(&some);
	*conflict = !right;
	return rc == (right ? 0 : -EEXIST);
}

static bool random_atomic(unsigned member, bool *conflict)
{
	static const unsigned sizes[] = { 1, 2, 4, 8, 16 };
	unsigned bytes = sizes[rand() % 5], place = (unsigned)rand() % (PLACES - bytes + 1);
	uint8_t value[16], expect[16];
	bool right = true;
	int rc;

	for (unsigned i = 0; i < bytes; i++) {
		expect[i] = model.final[place + i];
		right = right && model_write(member, place + i, (uint8_t)(expect[i] + 1), true,
					     model.version + 1);
	}
	model.version++;
	*conflict = !right;
	rc = store_fetch(store, member, (uintptr_t)area + place_at(place), value, bytes);
	if (rc || memcmp(value, expect, bytes))
		return rc == -EEXIST && !right;
	for (unsigned i = 0; i < bytes; i++)
		value[i]++;
	rc = store_atomic(store, member, (uintptr_t)area + place_at(place), value, bytes);
	return rc == (right ? 0 : -EEXIST);
}

static bool random_updates(unsigned member)
{
	static uint8_t memory[AREA_BYTES];
	size_t count = 0;
	bool right = true;

	for (unsigned place = 0; place < PLACES; place++) {
		memory[place_at(place)] = model.memory[member][place];
		if (due(member, place)) {
			count++;
			model.memory[member][place] = model.final[place];
		}
	}
	right = get(member, memory) == count;
	for (unsigned place = 0; place < PLACES; place++)
		right = right && memory[place_at(place)] == model.memory[member][place];
	model.given[member] = model.version;
	return right;
}

static void model_barrier(void)
{
	static bool all[EVENTS];

	memset(all, 0, sizeof(all));
	for (unsigned m = 0; m < MEMBERS; m++)
		learn(all, model.knows[m]);
	for (unsigned m = 0; m < MEMBERS; m++)
		learn(model.knows[m], all);
	barrier();
}

/* One history, until the first conflict. Return: how many steps; 0: the store was wrong. */
static unsigned run_history(unsigned *conflicts)
{
	uint32_t locks[LOCKS][MEMBERS] = { { 0 } };
	unsigned tidy = (unsigned)rand() % 3, steps = 0;
	bool conflict = false, right = true;

	memset(&model, 0, sizeof(model));
	memset(model.memory, 0x80, sizeof(model.memory));
	memset(model.final, 0x80, sizeof(model.final));
	set_up();
	while (right && !conflict && model.count + PLACES < EVENTS && ++steps < 150) {
		unsigned member = (unsigned)rand() % MEMBERS, lock = (unsigned)rand() % LOCKS;
		unsigned what = (unsigned)rand() % 10;

		if (tidy) { /* all is done under one lock, mostly */
			lock = tidy == 2 ? 0 : lock;
			store_acquire(store, member, locks[lock]);
			learn(model.knows[member], model.lock_knows[lock]);
		}
		if (what < 4)
			right = random_write(member, &conflict);
		else if (what < 6)
			right = random_atomic(member, &conflict);
		else if (what < 8)
			right = random_updates(member);
		else if (what < 9)
			model_barrier();
		if (tidy || what == 9) {
			learn(model.lock_knows[lock], model.knows[member]);
			store_release(store, member, locks[lock]);
		}
		if (!tidy && rand() % 4 == 0) {
			store_acquire(store, member, locks[lock]);
			learn(model.knows[member], model.lock_knows[lock]);
		}
	}
	*conflicts += conflict;
	if (right && !conflict) {
		size_t written = 0;

		for (unsigned place = 0; place < PLACES; place++)
			written += model.current[place] != 0;
		right = store_commit(store) == written;
		for (unsigned place = 0; place < PLACES; place++)
			right = right && area[place_at(place)] == model.final[place];
	}
	tear_down();
	return right ? steps : 0;
}

static void histories_are_as_in_the_model(void)
{
	const char *text = getenv("SF_HISTORIES");
	unsigned count = text ? (unsigned)atoi(text) : 1500, conflicts = 0, steps = 0;

	srand(7);
	for (unsigned i = 0; i < count; i++) {
		unsigned done = run_history(&conflicts);

		if (!done)
			fprintf(stderr, "history %u\n", i);
		CU_ASSERT_FATAL(done > 0);
		steps += done;
	}
	printf(" %u steps, %u conflicts ", steps, conflicts);
	CU_ASSERT(conflicts > count / 10 && conflicts < count * 9 / 10);
}

/* ---- measurements: test-store bench ---- */

static double rate(size_t bytes, uint64_t begin_ns)
{
	return (double)bytes / (double)(io_now_ns() - begin_ns);
}

/* Four members; member m writes where (byte / block) % 4 is m. */
static void bench(const char *what, size_t block)
{
	const size_t bytes = 10u << 20;
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pieces all[MEMBERS] = { 0 };
	struct ranges some = { 0 };
	struct store *s;
	double merge, updates, commit;
	uint64_t begin;

	memset(memory, 1, bytes);
	ranges_add(&some, (uintptr_t)memory, (uintptr_t)memory + bytes);
	for (size_t page = 0; page < bytes; page += PAGE_BYTES) {
		uint64_t mask[MEMBERS][PAGE_LINES] = { 0 };

		for (size_t i = 0; i < PAGE_BYTES; i++)
			mask[(page + i) / block % MEMBERS][i / LINE_BYTES] |= 1ull << i % LINE_BYTES;
		for (unsigned m = 0; m < MEMBERS; m++)
			if (pieces_add_page(&all[m], (uintptr_t)memory + page, memory + page, mask[m]))
				abort();
	}
	for (unsigned round = 0; round < 3; round++) {
		s = store_new(MEMBERS, &some);
		begin = io_now_ns();
		for (unsigned m = 0; m < MEMBERS; m++)
			if (store_merge(s, m, all[m].bytes, all[m].len, &where))
				abort();
		merge = rate(bytes, begin);
		pieces.len = 0;
		begin = io_now_ns();
		if (store_updates(s, 0, &pieces))
			abort();
		updates = rate(bytes * 3 / 4, begin);
		begin = io_now_ns();
		if (store_commit(s) != bytes)
			abort();
		commit = rate(bytes, begin);
		printf("10 MB, %s: merge %.2f GB/s, updates %.2f GB/s, commit %.2f GB/s, both %.2f GB/s\n",
		       what, merge, updates, commit, 1 / (1 / merge + 1 / commit));
		store_free(s);
	}
	for (unsigned m = 0; m < MEMBERS; m++)
		pieces_fini(&all[m]);
	pieces_fini(&pieces);
	ranges_fini(&some);
	munmap(memory, bytes);
}

int main(int argc, char **argv)
{
	CU_TestInfo examples[] = {
		{ "different bytes are no conflict", different_bytes_are_no_conflict },
		{ "the same byte is one", the_same_byte_is_one },
		{ "order makes it none", order_makes_it_none },
		{ "what came after the release is not seen", what_came_after_the_release_is_not_seen },
		{ "each of two with the same value counts", each_of_two_with_the_same_value_counts },
		{ "atomic operations are none among themselves",
		  atomic_operations_are_none_among_themselves },
		{ "atomic operations and writes are one", atomic_operations_and_writes_are_one },
		{ "what cannot be put in is told", what_cannot_be_put_in_is_told },
		CU_TEST_INFO_NULL
	};
	CU_TestInfo histories[] = {
		{ "histories are as in the model", histories_are_as_in_the_model },
		CU_TEST_INFO_NULL
	};
	CU_SuiteInfo suites[] = { { "store", NULL, NULL, NULL, NULL, examples },
				  { "histories", NULL, NULL, NULL, NULL, histories },
				  CU_SUITE_INFO_NULL };
	unsigned failed;

	if (argc > 1 && !strcmp(argv[1], "bench")) {
		bench("a part for each of 4", (10u << 20) / MEMBERS);
		bench("8 bytes for each of 4 in turn", 8);
		return 0;
	}
	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
