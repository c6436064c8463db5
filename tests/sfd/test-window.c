/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window of a guest's kernel module: what is believed of it, its bitmap, its letters. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfd/window.h"

#define GIB	   (1ull << 30)
#define PAGE	   ((uint64_t)SFK_PAGE_BYTES)
#define RANDOM_RUNS 300

static uint64_t state = 88172645463325252ull;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void test_fits(void)
{
	static const struct {
		uint64_t gfn, pages, ram_bytes;
		bool fits;
	} cases[] = {
		{ 100, 9, GIB, true },
		{ 0, 1, GIB, true },
		{ 100, 0, GIB, false },
		{ 100, SFK_MAX_WINDOW_PAGES, GIB, true },
		{ 100, SFK_MAX_WINDOW_PAGES + 1, GIB, false },
		{ 100, UINT64_MAX, GIB, false },
		{ GIB / PAGE - 9, 9, GIB, true },
		{ GIB / PAGE - 8, 9, GIB, false },
		{ GIB / PAGE, 1, GIB, false },
		{ UINT64_MAX, 2, GIB, false },
		{ UINT64_MAX, 1, 8 * GIB, false },
		/* across the hole, and in it */
		{ SFK_LOW_GFNS - 9, 9, 3 * GIB, true },
		{ SFK_LOW_GFNS - 8, 9, 3 * GIB, false },
		{ SFK_LOW_GFNS, 1, 3 * GIB, false },
		{ SFK_HIGH_GFN - 1, 1, 3 * GIB, false },
		{ SFK_HIGH_GFN, 9, 3 * GIB, true },
		{ SFK_HIGH_GFN + GIB / PAGE - 9, 9, 3 * GIB, true },
		{ SFK_HIGH_GFN + GIB / PAGE - 8, 9, 3 * GIB, false },
		{ SFK_HIGH_GFN, 1, 2 * GIB, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct agent_window w = { cases[i].gfn, cases[i].pages };

		if (window_fits(&w, cases[i].ram_bytes) != cases[i].fits)
			printf("case %zu\n", i);
		CU_ASSERT_EQUAL(window_fits(&w, cases[i].ram_bytes), cases[i].fits);
	}
}

static void test_same(void)
{
	struct agent_window a = { 5, 9 }, b = { 6, 9 }, c = { 5, 8 }, none = { 5, 0 },
			    other_none = { 6, 0 };

	CU_ASSERT(window_same(&a, &a));
	CU_ASSERT_FALSE(window_same(&a, &b));
	CU_ASSERT_FALSE(window_same(&a, &c));
	CU_ASSERT_FALSE(window_same(&a, &none));
	CU_ASSERT(window_same(&none, &other_none));
}

/* ---- what is in a guest's RAM ---- */

/* A guest of 3 GiB whose window is above the hole, held for operation 7. */
static const struct agent_window high = { SFK_HIGH_GFN + 50, 41 };

static int make_ram(struct sfk_window *head)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, (off_t)(3 * GIB)), 0);
	*head = (struct sfk_window){ .magic = SFK_MAGIC,
				     .version = SFK_VERSION,
				     .gfn = high.gfn,
				     .pages = high.pages,
				     .bits = SFK_HIGH_GFN + GIB / PAGE - 10,
				     .held_op = 7,
				     .hold_ns = 1500000,
				     .state = SFK_HELD };
	return fd;
}

static void put_head(int fd, const struct sfk_window *head)
{
	CU_ASSERT_EQUAL(pwrite(fd, head, sizeof(*head), (off_t)window_offset(&high)),
			(ssize_t)sizeof(*head));
}

static void test_read(void)
{
	struct sfk_window head, read;
	_cleanup_fd_ int ram = make_ram(&head);
	struct agent_window outside = { SFK_HIGH_GFN + GIB / PAGE, 2 };

	head.letter.entropy[0] = 1;
	put_head(ram, &head);
	CU_ASSERT_PTR_NULL(window_read(ram, &high, 7, &read));
	CU_ASSERT_EQUAL(memcmp(&read, &head, WINDOW_HEAD_BYTES), 0);
	CU_ASSERT_EQUAL(read.letter.entropy[0], 0);
	CU_ASSERT_EQUAL(window_hold_ms(&read), 1.5);
	CU_ASSERT_PTR_NOT_NULL(window_read(ram, &high, 8, &read));
	CU_ASSERT_PTR_NOT_NULL(window_read(ram, &outside, 7, &read));
	CU_ASSERT(window_hold_ms(&read) < 0);
}

/* Each thing a window can say wrong, and what is told. */
static void test_lies(void)
{
	static const struct {
		size_t at, len;
		uint64_t value;
		const char *told;
	} lies[] = {
#define LIE(field, value, told) \
	{ offsetof(struct sfk_window, field), sizeof(((struct sfk_window *)0)->field), value, told }
		LIE(magic, 0, "where its agent says"),
		LIE(version, 2, "another version"),
		LIE(gfn, 50, "contradicts"),
		LIE(pages, 40, "contradicts"),
		LIE(pages, UINT64_MAX, "contradicts"),
		LIE(bits, 40 * PAGE * 8 + 1, "contradicts"),
		LIE(bits, UINT64_MAX, "contradicts"),
		LIE(held_op, 6, "does not hold"),
		LIE(state, SFK_IDLE, "does not hold"),
		LIE(state, 2, "does not hold"),
#undef LIE
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct sfk_window head, read;
		_cleanup_fd_ int ram = make_ram(&head);
		const char *told;

		memcpy((char *)&head + lies[i].at, &lies[i].value, lies[i].len);
		put_head(ram, &head);
		told = window_read(ram, &high, 7, &read);
		CU_ASSERT_PTR_NOT_NULL_FATAL(told);
		CU_ASSERT_PTR_NOT_NULL(strstr(told, lies[i].told));
	}
}

static bool is_set(const uint64_t *words, uint64_t bit)
{
	return words[bit / 64] >> bit % 64 & 1;
}

static void test_read_dead(void)
{
	const uint64_t pages = 3 * GIB / PAGE;
	struct sfk_window head, read;
	_cleanup_fd_ int ram = make_ram(&head);
	_cleanup_free_ uint8_t *ones = malloc((high.pages - 1) * PAGE);
	_cleanup_free_ uint64_t *dead = NULL;
	uint64_t count = 0, first = sfk_file_page(high.gfn);

	memset(ones, 0xff, (high.pages - 1) * PAGE);
	put_head(ram, &head);
	CU_ASSERT_EQUAL(pwrite(ram, ones, (high.pages - 1) * PAGE,
			       (off_t)(window_offset(&high) + PAGE)),
			(ssize_t)((high.pages - 1) * PAGE));
	CU_ASSERT_PTR_NULL(window_read(ram, &high, 7, &read));
	CU_ASSERT_EQUAL_FATAL(window_read_dead(ram, &high, &read, 3 * GIB, &dead, &count), 0);
	CU_ASSERT_EQUAL(window_dead_bytes(3 * GIB), pages / 8);
	/* everything but the window and the last ten, which have no bit */
	CU_ASSERT_EQUAL(count, pages - high.pages - 10);
	CU_ASSERT(is_set(dead, 0) && is_set(dead, SFK_LOW_GFNS - 1) && is_set(dead, SFK_LOW_GFNS));
	CU_ASSERT(is_set(dead, first - 1) && !is_set(dead, first));
	CU_ASSERT(!is_set(dead, first + high.pages - 1) && is_set(dead, first + high.pages));
	CU_ASSERT(is_set(dead, pages - 11) && !is_set(dead, pages - 10));
	/* a guest that cuts its memory off is an error, not a crash */
	CU_ASSERT_EQUAL(ftruncate(ram, (off_t)window_offset(&high) + 4096), 0);
	free(steal_ptr(&dead));
	CU_ASSERT(window_read_dead(ram, &high, &read, 3 * GIB, &dead, &count) < 0);
}

/* ---- the translation ---- */

/* Page by page, as proto/kmod.h says it. */
static bool should_be_dead(const uint64_t *bitmap, uint64_t bits, const struct agent_window *w,
			   uint64_t page)
{
	uint64_t gfn = sfk_gfn(page), window = sfk_file_page(w->gfn);

	return gfn < bits && is_set(bitmap, gfn) && (page < window || page >= window + w->pages);
}

static void test_translate_hole(void)
{
	const uint64_t pages = 3 * GIB / PAGE, bits = SFK_HIGH_GFN + GIB / PAGE;
	_cleanup_free_ uint64_t *bitmap = calloc(bits / 64, 8), *dead = malloc(pages / 8);
	static const uint64_t gfns[] = { 0, 63, 64, SFK_LOW_GFNS - 1, SFK_HIGH_GFN,
					 SFK_HIGH_GFN + GIB / PAGE - 1 };

	/* the hole is full of bits, which mean nothing */
	memset(bitmap + SFK_LOW_GFNS / 64, 0xff, (SFK_HIGH_GFN - SFK_LOW_GFNS) / 8);
	CU_ASSERT_EQUAL(window_translate(bitmap, bits, &high, dead, pages), 0);
	for (size_t i = 0; i < ARRAY_SIZE(gfns); i++)
		bitmap[gfns[i] / 64] |= 1ull << gfns[i] % 64;
	CU_ASSERT_EQUAL(window_translate(bitmap, bits, &high, dead, pages), ARRAY_SIZE(gfns));
	for (size_t i = 0; i < ARRAY_SIZE(gfns); i++)
		CU_ASSERT(is_set(dead, sfk_file_page(gfns[i])));
	CU_ASSERT_EQUAL(window_translate(bitmap, 0, &high, dead, pages), 0);
	CU_ASSERT_EQUAL(window_translate(bitmap, 64, &high, dead, pages), 2);
}

/* Whatever a guest writes: as the plain way says, and nothing outside the RAM is touched. */
static void test_translate_random(void)
{
	static const uint64_t sizes[] = { 16 << 20, GIB, 2 * GIB, 2 * GIB + (1 << 20), 3 * GIB };

	for (unsigned run = 0; run < RANDOM_RUNS; run++) {
		uint64_t ram_bytes = sizes[next_random() % ARRAY_SIZE(sizes)];
		uint64_t pages = ram_bytes / PAGE, max = sfk_gfn(pages - 1) + 1, wrong = 0;
		uint64_t bits = next_random() % 4 ? next_random() % (max + 200) : max;
		_cleanup_free_ uint64_t *bitmap = malloc((bits + 63) / 64 * 8 + 8);
		_cleanup_free_ uint64_t *dead = malloc(pages / 8);
		struct agent_window w = { sfk_gfn(next_random() % pages),
					  1 + next_random() % SFK_MAX_WINDOW_PAGES };
		uint64_t count, expected = 0;

		if (!window_fits(&w, ram_bytes))
			continue;
		for (uint64_t i = 0; i < (bits + 63) / 64; i++)
			bitmap[i] = next_random();
		count = window_translate(bitmap, bits, &w, dead, pages);
		for (uint64_t page = 0; page < pages; page++) {
			bool should = should_be_dead(bitmap, bits, &w, page);

			expected += should;
			wrong += should != is_set(dead, page);
		}
		CU_ASSERT_EQUAL(wrong, 0);
		CU_ASSERT_EQUAL(count, expected);
	}
}

static void test_dead_fd(void)
{
	uint64_t dead[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, back[8];
	_cleanup_fd_ int fd = window_dead_fd(dead, sizeof(dead));

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(pread(fd, back, sizeof(back), 0), (ssize_t)sizeof(back));
	CU_ASSERT_EQUAL(memcmp(dead, back, sizeof(dead)), 0);
	CU_ASSERT(pwrite(fd, dead, 1, 0) < 0);
	CU_ASSERT(ftruncate(fd, 0) < 0);
}

/* ---- letters ---- */

static const struct agent_resume note = {
	.op = 7,
	.id = 3,
	.count = 4,
	.mac = { 2, 1, 2, 3, 4, 5 },
	.prefix = 20,
	.prefix6 = 64,
	.address = 0x0400400a,
	.gateway = 0xfe0f400a,
	.parent = 0x0100400a,
	.realtime_ns = 12345,
	.request = "7-0-x",
	.address6 = { 0xfd, 1 },
};

static void test_letter(void)
{
	struct agent_resume nowhere = note;
	struct sfk_letter a, b;

	window_letter(&a, &note);
	window_letter(&b, &note);
	CU_ASSERT(a.turn == 7 && a.id == 3 && a.prefix == 20 && a.prefix6 == 64 &&
		  a.address == note.address && a.gateway == note.gateway &&
		  a.parent == note.parent && a.realtime_ns == 12345);
	CU_ASSERT(!memcmp(a.mac, note.mac, 6) && !memcmp(a.address6, note.address6, 16));
	CU_ASSERT_EQUAL(memcmp(a.note, &note, sizeof(note)), 0);
	for (size_t i = sizeof(note); i < sizeof(a.note); i++)
		CU_ASSERT_EQUAL(a.note[i], 0);
	CU_ASSERT_NOT_EQUAL(memcmp(a.entropy, b.entropy, sizeof(a.entropy)), 0);
	nowhere.address = 0;
	window_letter(&b, &nowhere);
	CU_ASSERT_EQUAL(b.prefix, 0);
	window_letter_wipe(&a);
	for (size_t i = 0; i < sizeof(a); i++)
		CU_ASSERT_EQUAL(((uint8_t *)&a)[i], 0);
}

static void test_post(void)
{
	struct sfk_window head, read;
	_cleanup_fd_ int ram = make_ram(&head);
	struct sfk_letter letter;

	put_head(ram, &head);
	window_letter(&letter, &note);
	CU_ASSERT_EQUAL(window_post(ram, &high, &letter), 0);
	CU_ASSERT_EQUAL(pread(ram, &read, sizeof(read), (off_t)window_offset(&high)),
			(ssize_t)sizeof(read));
	CU_ASSERT_EQUAL(memcmp(&read, &head, WINDOW_HEAD_BYTES), 0);
	CU_ASSERT_EQUAL(memcmp(&read.letter, &letter, sizeof(letter)), 0);
}

static void test_clones_window(void)
{
	static const uint8_t zeros[4096];
	const uint64_t pages = 9;
	_cleanup_fd_ int fd = window_create(pages);
	struct sfk_window head = { .magic = SFK_MAGIC, .state = SFK_HELD, .held_op = 7 }, read;
	struct sfk_letter letter;
	uint8_t bytes[4096];
	struct stat st;

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, (off_t)((pages + 1) * PAGE));
	CU_ASSERT_EQUAL(window_charge(pages), (pages + 1) * PAGE);
	CU_ASSERT_EQUAL(window_charge(0), 0);
	/* the first page is missing until sf-memtap gives it, all others are there */
	CU_ASSERT_EQUAL(st.st_blocks * 512, (blkcnt_t)(pages * PAGE));
	window_letter(&letter, &note);
	CU_ASSERT_EQUAL(window_post_clone(fd, pages, &head, &letter), 0);
	CU_ASSERT_EQUAL(lseek(fd, 0, SEEK_DATA), (off_t)(pages * PAGE));
	CU_ASSERT_EQUAL(pread(fd, &read, sizeof(read), (off_t)(pages * PAGE)),
			(ssize_t)sizeof(read));
	CU_ASSERT_EQUAL(memcmp(&read, &head, WINDOW_HEAD_BYTES), 0);
	CU_ASSERT_EQUAL(memcmp(&read.letter, &letter, sizeof(letter)), 0);
	for (uint64_t page = 1; page < pages; page++) {
		CU_ASSERT_EQUAL(pread(fd, bytes, PAGE, (off_t)(page * PAGE)), (ssize_t)PAGE);
		CU_ASSERT_EQUAL(memcmp(bytes, zeros, PAGE), 0);
	}
	/* QEMU has it: it must not be able to take it away from under sf-memtap */
	CU_ASSERT(ftruncate(fd, 0) < 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "a window is in RAM, in one piece", test_fits },
	{ "two windows are the same, or none", test_same },
	{ "a held guest's window is read", test_read },
	{ "each lie in a window is told", test_lies },
	{ "the bitmap of a guest", test_read_dead },
	{ "guest pages to file pages, across the hole", test_translate_hole },
	{ "any bitmap", test_translate_random },
	{ "dead pages for sf-memtap", test_dead_fd },
	{ "a letter", test_letter },
	{ "a letter for a booted VM", test_post },
	{ "a clone's window", test_clones_window },
};

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	suite = CU_add_suite("window", NULL, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
		CU_add_test(suite, tests[i].name, tests[i].run);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
