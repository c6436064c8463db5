/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words for accelerators, and QEMU's command line. */
#define _GNU_SOURCE
#include <CUnit/Basic.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "host/vmm/command.h"
#include "host/vmm/tsc.h"
#include "host/vmm/vmm.h"

static struct vmm_config config(bool clone)
{
	return (struct vmm_config){ .name = "a,b", .accel = VMM_ACCEL_TCG, .ram_bytes = 64u << 20,
				    .cpus = 3, .kernel = "vmlinuz", .cmdline = "answer=42,43", .clone = clone,
				    .tap_fd = 9, .window_fd = -1, .mac = { 2, 0, 0, 0xab, 0, 1 } };
}

/* Return: the value that follows `option` and begins with `begin`, or NULL. */
static const char *value(char *const *argv, const char *option, const char *begin)
{
	for (int i = 1; argv[i]; i++) {
		if (!strcmp(argv[i - 1], option) && !strncmp(argv[i], begin, strlen(begin)))
			return argv[i];
	}
	return NULL;
}

static bool has(char *const *argv, const char *option)
{
	for (int i = 1; argv[i]; i++) {
		if (!strcmp(argv[i], option))
			return true;
	}
	return false;
}

static void words_become_accelerators(void)
{
	enum vmm_accel accel = VMM_ACCEL_KVM;

	CU_ASSERT_EQUAL(vmm_accel_parse("auto", &accel), 0);
	CU_ASSERT_EQUAL(accel, VMM_ACCEL_AUTO);
	CU_ASSERT_EQUAL(vmm_accel_parse("kvm", &accel), 0);
	CU_ASSERT_EQUAL(accel, VMM_ACCEL_KVM);
	CU_ASSERT_EQUAL(vmm_accel_parse("tcg", &accel), 0);
	CU_ASSERT_EQUAL(accel, VMM_ACCEL_TCG);
	CU_ASSERT_EQUAL(vmm_accel_parse("TCG", &accel), -EINVAL);
	CU_ASSERT_EQUAL(vmm_accel_parse("", &accel), -EINVAL);
	CU_ASSERT_EQUAL(vmm_accel_parse(NULL, &accel), -EINVAL);
	CU_ASSERT_EQUAL(accel, VMM_ACCEL_TCG);
	CU_ASSERT_STRING_EQUAL(vmm_accel_name(VMM_ACCEL_AUTO), "auto");
}

static void the_probe_finds_something(void)
{
	enum vmm_accel accel = VMM_ACCEL_AUTO;
	char why[128] = "";

	CU_ASSERT_EQUAL(vmm_probe_accel(VMM_ACCEL_TCG, &accel, why, sizeof(why)), 0);
	CU_ASSERT_EQUAL(accel, VMM_ACCEL_TCG);
	CU_ASSERT_EQUAL(vmm_probe_accel(VMM_ACCEL_AUTO, &accel, why, sizeof(why)), 0);
	CU_ASSERT_NOT_EQUAL(accel, VMM_ACCEL_AUTO);
	CU_ASSERT_NOT_EQUAL(why[0], 0);
	/* Forced KVM either works as AUTO found, or is refused. */
	CU_ASSERT_EQUAL(vmm_probe_accel(VMM_ACCEL_KVM, &accel, why, sizeof(why)),
			accel == VMM_ACCEL_KVM ? 0 : -ENODEV);
}

static void a_booting_vm_has_a_kernel_and_shared_ram(void)
{
	struct vmm_config c = config(false);
	char *argv[COMMAND_MAX_ARGS];

	CU_ASSERT_TRUE_FATAL(command_build(&c, "/usr/bin/qemu", argv) > 0);
	CU_ASSERT_STRING_EQUAL(argv[0], "/usr/bin/qemu");
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-name", "a,,b"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-smp", "3"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-m", "size=64M"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-cpu", "Nehalem,enforce"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-accel", "tcg,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-object", "memory-backend-file"), "share=on"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-device", "virtio-net-pci"),
				      "mac=02:00:00:ab:00:01,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-append", "console=ttyS0"),
				      "mitigations=off"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-append", "console=ttyS0"), " answer=42,43"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-machine", "q35"), "max-ram-below-4g=2G"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-device",
				     "isa-debugcon,iobase=0x520,readback=0x53,chardev=doorbell"));
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-device", "vmgenid,guid=auto"));
	CU_ASSERT_TRUE(has(argv, "-kernel"));
	CU_ASSERT_FALSE(has(argv, "-incoming"));
	for (int i = 0; argv[i]; i++)
		CU_ASSERT_PTR_NULL(strpbrk(argv[i], "{}"));
	command_free(argv);
	CU_ASSERT_PTR_NULL(argv[0]);
}

static void a_clone_waits_with_private_ram_and_the_same_devices(void)
{
	struct vmm_config boots = config(false), waits = config(true);
	char *parent[COMMAND_MAX_ARGS], *clone[COMMAND_MAX_ARGS];
	int p = 0, c = 0;

	CU_ASSERT_TRUE_FATAL(command_build(&boots, "qemu", parent) > 0);
	CU_ASSERT_TRUE_FATAL(command_build(&waits, "qemu", clone) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(value(clone, "-object", "memory-backend-file"),
				      "share=off"));
	CU_ASSERT_PTR_NOT_NULL(value(clone, "-incoming", "defer"));
	CU_ASSERT_FALSE(has(clone, "-kernel") || has(clone, "-append"));
	for (;;) {
		while (parent[p] && strcmp(parent[p], "-device"))
			p++;
		while (clone[c] && strcmp(clone[c], "-device"))
			c++;
		if (!parent[p] || !clone[c])
			break;
		CU_ASSERT_STRING_EQUAL(parent[++p], clone[++c]);
	}
	CU_ASSERT_PTR_EQUAL(parent[p], clone[c]);
	command_free(parent);
	command_free(clone);
}

static void rows_depend_on_what_a_vm_has(void)
{
	struct vmm_config c = config(false);
	char *argv[COMMAND_MAX_ARGS];

	c.accel = VMM_ACCEL_KVM;
	c.tap_fd = -1;
	c.cmdline = NULL;
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_PTR_NOT_NULL(value(argv, "-accel", "kvm"));
	CU_ASSERT_PTR_NULL(value(argv, "-accel", "tcg"));
	CU_ASSERT_PTR_NULL(value(argv, "-device", "virtio-net-pci"));
	CU_ASSERT_FALSE(has(argv, "-netdev"));
	CU_ASSERT_PTR_NULL(strstr(value(argv, "-append", "console=ttyS0"), "mitigations=off"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-append", "console"), "ipv6.disable_ipv6=1"));
	CU_ASSERT_PTR_NULL(strstr(value(argv, "-append", "console"), "sysctl.net.ipv6"));
	command_free(argv);
	c.ipv6 = true;
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_PTR_NULL(strstr(value(argv, "-append", "console"), "disable_ipv6"));
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-append", "console"),
				      "sysctl.net.ipv6.conf.default.accept_dad=0 "));
	command_free(argv);
}

/* Under TCG a kernel is told what it would find out wrongly on a busy machine. */
static void a_guest_is_told_how_fast_its_clock_is(void)
{
	struct vmm_config c = config(false);
	char *argv[COMMAND_MAX_ARGS], word[64];
	uint64_t from_ns = io_now_ns(), from = __builtin_ia32_rdtsc(), khz;

	while (io_now_ns() - from_ns < 200000000)
		usleep(50000);
	khz = (__builtin_ia32_rdtsc() - from) * 1000000 / (io_now_ns() - from_ns);
	CU_ASSERT_TRUE(tsc_khz() > khz - khz / 200 && tsc_khz() < khz + khz / 200);
	snprintf(word, sizeof(word), " tsc_early_khz=%" PRIu32 " ", tsc_khz());
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(value(argv, "-append", "console"), word));
	command_free(argv);
	c.accel = VMM_ACCEL_KVM;
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_PTR_NULL(strstr(value(argv, "-append", "console"), "tsc_early_khz"));
	command_free(argv);
}

/* Disks are where they are, and alike, in a parent and its clones. */
static void disks_have_their_places(void)
{
	struct vmm_config c = config(false), clone = config(true);
	char *argv[COMMAND_MAX_ARGS], *clones[COMMAND_MAX_ARGS];

	c.kernel = NULL;
	c.disk_count = clone.disk_count = VMM_MAX_DISKS;
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_TRUE_FATAL(command_build(&clone, "qemu", clones) > 0);
	for (unsigned i = 0; i < VMM_MAX_DISKS; i++) {
		char device[64], place[32];
		const char *found, *of_clone;

		snprintf(device, sizeof(device), "virtio-blk-pci,id=disk%u,", i);
		snprintf(place, sizeof(place), ",addr=0x%x,", 5 + i);
		found = value(argv, "-device", device);
		of_clone = value(clones, "-device", device);
		CU_ASSERT_TRUE_FATAL(found && of_clone);
		CU_ASSERT_PTR_NOT_NULL(strstr(found, place));
		CU_ASSERT_PTR_NOT_NULL(strstr(found, ",cyls="));
		CU_ASSERT_STRING_EQUAL(found, of_clone);
	}
	CU_ASSERT_FALSE(has(argv, "-kernel"));	/* the BIOS finds one on the first disk */
	command_free(argv);
	command_free(clones);
	c.kernel = "vmlinuz";
	CU_ASSERT_TRUE_FATAL(command_build(&c, "qemu", argv) > 0);
	CU_ASSERT_TRUE(has(argv, "-kernel") && !has(argv, "-initrd"));
	command_free(argv);
}

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry())
		return 1;
	suite = CU_add_suite("vmm config", NULL, NULL);
	CU_ADD_TEST(suite, words_become_accelerators);
	CU_ADD_TEST(suite, the_probe_finds_something);
	CU_ADD_TEST(suite, a_booting_vm_has_a_kernel_and_shared_ram);
	CU_ADD_TEST(suite, a_clone_waits_with_private_ram_and_the_same_devices);
	CU_ADD_TEST(suite, rows_depend_on_what_a_vm_has);
	CU_ADD_TEST(suite, a_guest_is_told_how_fast_its_clock_is);
	CU_ADD_TEST(suite, disks_have_their_places);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
