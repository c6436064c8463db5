/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dead pages are dead: test-memory [poisoned|zeroed CMDLINE]. The host destroys the content of
 * every page that is declared, while the guest is held; the guest must not notice. `poisoned`: the
 * guest declares none, since it looks at free pages; `zeroed`: it counts on zeros in them.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "suite.h"
#include "vm.h"

#define RAM_MIB 256
#define LOAD_PAGES 4096
#define HOLDS_UNDER_LOAD 12
#define MAY_BE_LATE 64	/* pages of a process that has ended: some wait in batches of each CPU */

static struct vm *vm;
static struct vm_config config = { .ram_mib = RAM_MIB };
static bool poisoned, zeroed;
static uint64_t op = 100;

static bool bit(const struct sfk_window *window, uint64_t gfn)
{
	return gfn < window->bits && vm_bitmap(window)[gfn / 64] >> gfn % 64 & 1;
}

/* Destroys what is in the declared pages. Return: how many there are. */
static uint64_t destroy(const struct sfk_window *window)
{
	uint64_t pages = 0;

	for (uint64_t gfn = 0; gfn < window->bits; gfn++) {
		if (!bit(window, gfn))
			continue;
		CU_ASSERT_TRUE_FATAL(sfk_file_page(gfn) < vm->ram_bytes / SFK_PAGE_BYTES);
		memset(vm->ram + sfk_file_page(gfn) * SFK_PAGE_BYTES, zeroed ? 0 : 0xdb,
		       SFK_PAGE_BYTES);
		pages++;
	}
	for (uint64_t i = 0; i < window->pages; i++)
		CU_ASSERT_FALSE(bit(window, window->gfn + i));
	return pages;
}

static uint64_t hold_and_destroy(const struct sfk_letter *letter)
{
	struct sfk_window *window = vm_hold(vm, ++op, "");
	uint64_t pages = destroy(window);
	int status;

	CU_ASSERT_EQUAL(pages, window->dead);
	vm_answer(vm, letter);
	vm_end(vm, &status);
	CU_ASSERT_EQUAL(status, 0);
	return pages;
}

static void the_guest_boots(void)
{
	vm = vm_start(&config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(vm_window(vm));
}

static void most_free_pages_are_declared(void)
{
	static const struct sfk_letter letter = { .id = 0 };
	long long free_pages = vm_number(vm_run(vm, "awk '/^MemFree/{print \"free=\" $2 / 4}' "
						    "/proc/meminfo"), "free");
	uint64_t pages = hold_and_destroy(&letter);

	fprintf(stderr, "%llu of %lld free pages\n", (unsigned long long)pages, free_pages);
	CU_ASSERT_TRUE(poisoned ? !pages : (long long)pages > free_pages * 8 / 10);
	vm_run(vm, "echo 0 >/sys/module/snowflock/parameters/hints");
	CU_ASSERT_EQUAL(hold_and_destroy(&letter), 0);
	vm_run(vm, "echo 1 >/sys/module/snowflock/parameters/hints");
}

static void nothing_in_use_is_declared(void)
{
	static const struct sfk_letter letter = { .id = 0 };
	const char *out;

	vm_run(vm, "rm -f /tmp/stop");
	vm_spawn(vm, "t load %d", LOAD_PAGES);
	vm_run(vm, "mv /tmp/out /tmp/out1");
	vm_spawn(vm, "t load %d", LOAD_PAGES);
	for (int i = 0; i < HOLDS_UNDER_LOAD; i++)
		CU_ASSERT_EQUAL(hold_and_destroy(&letter) == 0, poisoned);
	out = vm_run(vm, "touch /tmp/stop; while pidof t >/dev/null; do :; done; cat /tmp/out*");
	CU_ASSERT_TRUE(vm_number(out, "rounds") > 0);
	CU_ASSERT_PTR_NULL(strstr(out, "not what it was"));
}

/* Return: how many of the page frames in the text have their bit set; *all: how many there are. */
static uint64_t count_set(const struct sfk_window *window, const char *text, uint64_t *all)
{
	uint64_t set = 0;
	char *end;

	for (*all = 0;; ++*all) {
		uint64_t gfn = strtoull(text, &end, 16);

		if (end == text)
			return set;
		set += bit(window, gfn);
		text = end;
	}
}

static void what_is_freed_in_a_clone_is_declared(void)
{
	struct sfk_letter letter = { .id = 1 };
	struct sfk_window *window;
	uint64_t set, all;
	int status;

	vm_run(vm, "rm -f /tmp/stop");
	vm_spawn(vm, "t hoard 2000");
	window = vm_hold(vm, ++op, "");
	/* a clone's window comes empty */
	memset(window, 0, window->pages * SFK_PAGE_BYTES);
	window->held_op = op;
	vm_answer(vm, &letter);
	CU_ASSERT_EQUAL(vm_number(vm_end(vm, &status), "clone"), 1);
	CU_ASSERT_EQUAL(window->magic, SFK_MAGIC);
	CU_ASSERT_EQUAL_FATAL(sfk_file_page(window->gfn) * SFK_PAGE_BYTES,
			      (uint64_t)((uint8_t *)window - vm->ram));
	set = count_set(window, vm_run(vm, "t churn 2000"), &all);
	fprintf(stderr, "freed: %llu of %llu\n", (unsigned long long)set, (unsigned long long)all);
	CU_ASSERT_EQUAL(all, 2000);
	CU_ASSERT_TRUE(poisoned ? !set : set + MAY_BE_LATE >= all);
	CU_ASSERT_EQUAL(count_set(window, vm_run(vm, "cat /tmp/hoard"), &all), 0);
	CU_ASSERT_EQUAL(all, 2000);
	/* large blocks are freed whole */
	vm_run(vm, "dd if=/dev/zero of=/tmp/big bs=1M count=20 2>/dev/null; rm /tmp/big");
	vm_run(vm, "touch /tmp/stop; while pidof t >/dev/null; do :; done");
	set = count_set(window, vm_run(vm, "cat /tmp/hoard"), &all);
	CU_ASSERT_TRUE(poisoned ? !set : set + MAY_BE_LATE >= all);
}

static void nothing_is_declared_when_that_is_off(void)
{
	struct sfk_letter letter = { .id = 2 };
	struct sfk_window *window;
	uint64_t all;
	int status;

	vm_run(vm, "echo 0 >/sys/module/snowflock/parameters/later");
	window = vm_hold(vm, ++op, "");
	memset((uint8_t *)window + SFK_PAGE_BYTES, 0, (window->pages - 1) * SFK_PAGE_BYTES);
	vm_answer(vm, &letter);
	CU_ASSERT_EQUAL(vm_number(vm_end(vm, &status), "clone"), 1);
	CU_ASSERT_EQUAL(count_set(window, vm_run(vm, "t churn 2000"), &all), 0);
	CU_ASSERT_EQUAL(all, 2000);
}

static void nobody_complained(void)
{
	vm_stop(vm);
}

int main(int argc, char **argv)
{
	static const CU_TestInfo tests[] = {
		{ "the guest boots with the module", the_guest_boots },
		{ "most free pages are declared", most_free_pages_are_declared },
		{ "nothing in use is declared", nothing_in_use_is_declared },
		{ "what is freed in a clone is declared", what_is_freed_in_a_clone_is_declared },
		{ "nothing is declared when that is off", nothing_is_declared_when_that_is_off },
		{ "nobody complained", nobody_complained },
		CU_TEST_INFO_NULL
	};

	if (argc > 2) {
		poisoned = !strcmp(argv[1], "poisoned");
		zeroed = !strcmp(argv[1], "zeroed");
		config.cmdline = argv[2];
	}
	return run_suite("memory", tests);
}
