/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clones of one instant draw different random numbers: one saved state goes on several times. What
 * is drawn first is drawn by the process that held, before anything else.
 */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "suite.h"
#include "vm.h"

#define STATE "random.state"	/* in the build folder */
#define RAM_MIB 192

enum { REPEAT = 3 };

/* One processor: then nothing but what differs on purpose differs. */
static struct vm_config config = { .ram_mib = RAM_MIB, .one_cpu = true };
static size_t window_at;
static uint64_t op = 100;

/* Holds a guest, and saves it as it is then. */
static void save(bool generation, const char *before)
{
	struct vm *vm;

	config.no_generation = !generation;
	config.save = NULL;
	vm = vm_start(&config);
	vm_run(vm, "head -c 1 /dev/random >/dev/null; %s", before);
	vm_hold(vm, ++op, "");
	window_at = (size_t)((uint8_t *)vm->window - vm->ram);
	vm_save(vm, STATE);
	vm_kill(vm);
	config.save = STATE;
}

/* A clone of it goes on. Writes what it draws to `random`. Return: the clone. */
static struct vm *go_on(uint8_t entropy, char random[40])
{
	struct vm *vm = vm_start(&config);
	struct sfk_letter letter = { .id = 1 };
	const char *out;
	int status;

	memset(letter.entropy, entropy, sizeof(letter.entropy));
	vm->window = (struct sfk_window *)(vm->ram + window_at);
	vm_answer(vm, &letter);
	out = vm_end(vm, &status);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(out, "random="));
	snprintf(random, 40, "%.39s", strstr(out, "random="));
	return vm;
}

static void clones_draw_different_numbers(void)
{
	char random[REPEAT][40];

	save(false, "true");
	for (int i = 0; i < REPEAT; i++) {
		vm_kill(go_on((uint8_t)i, random[i]));
		for (int j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(random[i], random[j]);
	}
}

/* This is what the reseeding is for. */
static void without_it_they_draw_the_same(void)
{
	char random[REPEAT][40];
	int same = 0;

	save(false, "echo 0 >/sys/module/snowflock/parameters/reseed");
	for (int i = 0; i < REPEAT; i++) {
		vm_kill(go_on((uint8_t)i, random[i]));
		for (int j = 0; j < i; j++)
			same += !strcmp(random[i], random[j]);
	}
	CU_ASSERT_TRUE(same > 0);
}

/* By the module, and not once more by the device's interrupt. */
static void the_kernel_hears_of_the_fork_once(void)
{
	char random[40];
	struct vm *vm;
	const char *out;

	save(true, "true");
	vm = go_on(1, random);
	out = vm_run(vm, "echo forks=$(dmesg | grep -c 'due to virtual machine fork') "
			 "$(sed 's/^ */interrupts=/' /sys/firmware/acpi/interrupts/gpe05)");
	CU_ASSERT_EQUAL(vm_number(out, "forks"), 1);
	CU_ASSERT_EQUAL(vm_number(out, "interrupts"), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, " enabled"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, " unmasked"));
	vm_stop(vm);
	unlink(STATE);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "clones draw different numbers", clones_draw_different_numbers },
		{ "without the module they would draw the same", without_it_they_draw_the_same },
		{ "the kernel hears of the fork once", the_kernel_hears_of_the_fork_once },
		CU_TEST_INFO_NULL
	};

	return run_suite("random numbers", tests);
}
