/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest is held and goes on; the device, its misuse, and the module coming and going:
 * test-hold [CMDLINE].
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "suite.h"
#include "vm.h"

#define MODULE "/usr/lib/modules/snowflock.ko"

static struct vm_config config = { .nic = "", .no_outside = true };
static struct vm *vm;
static uint64_t op = 100;

/* Holds and answers. Return: what the guest's program said. */
static const char *hold(const struct sfk_letter *letter, const char *more)
{
	const char *out;
	int status;

	vm_hold(vm, ++op, more);
	vm_answer(vm, letter);
	out = vm_end(vm, &status);
	CU_ASSERT_EQUAL(status, 0);
	return out;
}

static void the_guest_boots(void)
{
	vm = vm_start(&config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(vm_window(vm));
	vm_run(vm, "ip link set lo up; ip link set eth0 up");
	CU_ASSERT_PTR_NOT_NULL(strstr(vm_run(vm, "stat -c %%a /dev/snowflock"), "600"));
}

static void the_parent_goes_on(void)
{
	struct sfk_letter letter = { .note = "a note" };
	const char *out;

	for (int i = 0; i < 5; i++) {
		out = hold(&letter, i % 2 ? "" : "eth0");
		CU_ASSERT_EQUAL(vm_number(out, "id"), 0);
		CU_ASSERT_EQUAL(vm_number(out, "clone"), 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(out, "note=a note"));
		CU_ASSERT_EQUAL(vm->window->state, SFK_IDLE);
	}
	fprintf(stderr, "held within %.2f ms\n", (double)vm->window->hold_ns / 1e6);
}

static void the_secret_is_wiped(void)
{
	static const uint8_t zeros[SFK_ENTROPY_BYTES];
	struct sfk_letter letter = { .note = "x" };

	memset(letter.entropy, 0x5a, sizeof(letter.entropy));
	hold(&letter, "");
	CU_ASSERT_EQUAL(memcmp(vm->window->letter.entropy, zeros, sizeof(zeros)), 0);
}

static void signals_do_not_interrupt(void)
{
	static const struct sfk_letter letter = { .id = 0 };

	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0 storm"), "clone"), 0);
}

static void misuse_is_refused(void)
{
	vm_run(vm, "t misuse");
}

static void a_letter_that_never_comes(void)
{
	static const struct sfk_letter letter = { .id = 0 };
	struct sfk_window *window = vm_window(vm);
	const char *out;
	int status;

	vm_run(vm, "echo 1 >/sys/module/snowflock/parameters/wait_s");
	vm_begin(vm, "t hold 7 eth0");
	CU_ASSERT_TRUE(vm_hears(vm, VM_WAIT_MS));
	out = vm_end(vm, &status);
	CU_ASSERT_EQUAL(status, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "(110)"));	/* ETIMEDOUT */
	CU_ASSERT_EQUAL(window->state, SFK_IDLE);
	vm_run(vm, "echo 10 >/sys/module/snowflock/parameters/wait_s");
	CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0"), "clone"), 0);
}

static void a_holder_that_dies_holds_nothing_up(void)
{
	static const struct sfk_letter letter = { .id = 0 };

	for (int i = 0; i < 5; i++) {
		vm_spawn(vm, "t prepare 5 eth0");
		vm_run(vm, "t hold 6 eth0 | grep -q '(16)' && killall -9 t");	/* EBUSY */
		CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0"), "clone"), 0);
	}
}

static void the_module_comes_and_goes(void)
{
	static const struct sfk_letter letter = { .id = 0 };

	for (int i = 0; i < 8; i++) {
		vm_run(vm, "rmmod snowflock && [ ! -e /dev/snowflock ] && insmod " MODULE);
		if (i % 2)
			CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0"), "clone"), 0);
	}
	/* not while somebody has it; and while others try all the time */
	vm_spawn(vm, "t prepare 5 eth0");
	vm_run(vm, "rmmod snowflock 2>/dev/null && exit 3; killall t");
	vm_run(vm, "(while [ ! -e /tmp/stop ]; do t misuse; done) >/dev/null 2>&1 & "
		   "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do rmmod snowflock 2>/dev/null; "
		   "insmod " MODULE " 2>/dev/null; done; touch /tmp/stop; wait; rm /tmp/stop; "
		   "[ -e /dev/snowflock ]");
	CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0"), "clone"), 0);
}

static void the_interface_comes_and_goes(void)
{
	static const struct sfk_letter letter = { .id = 0 };

	vm_run(vm, "echo 0000:00:04.0 >/sys/bus/pci/drivers/virtio-pci/unbind");
	CU_ASSERT_PTR_NOT_NULL(strstr(vm_run(vm, "t hold 9 eth0 || true"), "(19)"));	/* ENODEV */
	CU_ASSERT_EQUAL(vm_number(hold(&letter, ""), "clone"), 0);
	vm_run(vm, "echo 0000:00:04.0 >/sys/bus/pci/drivers/virtio-pci/bind; ip link set eth0 up");
	CU_ASSERT_EQUAL(vm_number(hold(&letter, "eth0"), "clone"), 0);
}

static long long off_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return vm_number(vm_run(vm, "echo now=$(date +%%s)"), "now") * 1000 - now.tv_sec * 1000;
}

static uint64_t now_ns(int64_t plus_s)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec + (uint64_t)plus_s) * 1000000000u + (uint64_t)now.tv_nsec;
}

/* It stood while it was held. */
static void the_parents_clock_goes_forward_only(void)
{
	struct sfk_letter letter = { .id = 0 };

	for (int64_t plus_s = 1000; plus_s >= -1000; plus_s -= 2000) {
		vm_hold(vm, ++op, "");
		letter.realtime_ns = now_ns(plus_s);
		vm_answer(vm, &letter);
		CU_ASSERT_EQUAL(vm_number(vm_end(vm, &(int){ 0 }), "clone"), 0);
		CU_ASSERT_TRUE(llabs(off_ms() - 1000000) <= 10000);
	}
}

static void a_clones_clock_is_set(void)
{
	struct sfk_letter letter = { .id = 0 };

	/* a wait that is in progress ends when it should */
	vm_run(vm, "rm -f /tmp/slept; (sleep 2; touch /tmp/slept) >/dev/null 2>&1 &");
	for (uint32_t i = 1; i <= 2; i++) {
		int64_t plus_s = i == 1 ? 1000000 : -1000000;

		letter.id = i;
		vm_hold(vm, ++op, "");
		letter.realtime_ns = now_ns(plus_s);
		vm_answer(vm, &letter);
		CU_ASSERT_EQUAL(vm_number(vm_end(vm, &(int){ 0 }), "clone"), 1);
		CU_ASSERT_TRUE(llabs(off_ms() - plus_s * 1000) <= 10000);
	}
	vm_run(vm, "for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /tmp/slept ] && exit; sleep 1; done; "
		   "exit 1");
	letter.id = 3;
	letter.realtime_ns = now_ns(5000000);
	vm_run(vm, "echo 0 >/sys/module/snowflock/parameters/clock");
	CU_ASSERT_EQUAL(vm_number(hold(&letter, ""), "clone"), 1);
	CU_ASSERT_TRUE(off_ms() < 0);
	CU_ASSERT_EQUAL(vm_number(vm_run(vm, "echo id=$(cat /sys/module/snowflock/parameters/id)"),
				  "id"), 3);
}

static void a_clone_unloads_and_loads(void)
{
	struct sfk_window *before = vm_window(vm);

	vm_run(vm, "rmmod snowflock");
	/* the host goes on reading the window that it knows, so nobody else may get it */
	vm_run(vm, "t churn $(awk '/^MemAvailable/{print int($2 / 4 * 0.9)}' /proc/meminfo) "
		   ">/dev/null");
	CU_ASSERT_EQUAL(before->magic, SFK_MAGIC);
	vm_run(vm, "insmod " MODULE);
	CU_ASSERT_NOT_EQUAL(vm_window(vm), before);
}

static void nobody_complained(void)
{
	vm_stop(vm);
}

static void without_a_host_for_it(void)
{
	config.no_doorbell = config.no_generation = true;
	vm = vm_start(&config);
	CU_ASSERT_PTR_NULL(vm_window(vm));
	CU_ASSERT_PTR_NOT_NULL(strstr(vm_run(vm, "insmod " MODULE " 2>&1 || true"), "such device"));
	CU_ASSERT_PTR_NOT_NULL(strstr(vm_run(vm, "dmesg"), "snowflock: no doorbell"));
	vm_stop(vm);
}

int main(int argc, char **argv)
{
	static const CU_TestInfo tests[] = {
		{ "the guest boots with the module", the_guest_boots },
		{ "the parent goes on", the_parent_goes_on },
		{ "the secret is wiped", the_secret_is_wiped },
		{ "signals do not interrupt", signals_do_not_interrupt },
		{ "misuse is refused", misuse_is_refused },
		{ "a letter that never comes", a_letter_that_never_comes },
		{ "a holder that dies holds nothing up", a_holder_that_dies_holds_nothing_up },
		{ "the module comes and goes", the_module_comes_and_goes },
		{ "the interface comes and goes", the_interface_comes_and_goes },
		{ "the parent's clock goes forward only", the_parents_clock_goes_forward_only },
		{ "a clone's clock is set", a_clones_clock_is_set },
		{ "a clone unloads and loads", a_clone_unloads_and_loads },
		{ "nobody complained", nobody_complained },
		{ "it does not load without a host for it", without_a_host_for_it },
		CU_TEST_INFO_NULL
	};

	if (argc > 1)
		config.cmdline = argv[1];
	return run_suite("hold", tests);
}
