/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which accelerator works here, found out by trying.
 *
 * /dev/kvm may open and still be of no use, as on nested machines that offer virtualisation only in
 * part. So a child process makes a VM, runs a few instructions of 64-bit code with paging on, lets
 * it take an exception through its own table, and compares what comes out; and it asks KVM for the
 * features of the CPU model we promise. Whatever goes wrong there, a hang included, is a "no".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vmm/tsc.h"
#include "host/vmm/vmm.h"

#define PROBE_LIMIT_MS 900
#define CPU_MODEL "Nehalem"

static const char *const names[] = {
	[VMM_ACCEL_AUTO] = "auto",
	[VMM_ACCEL_KVM] = "kvm",
	[VMM_ACCEL_TCG] = "tcg",
};

int vmm_accel_parse(const char *word, enum vmm_accel *accel)
{
	for (size_t i = 0; word && i < ARRAY_SIZE(names); i++) {
		if (!strcmp(word, names[i])) {
			*accel = (enum vmm_accel)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *vmm_accel_name(enum vmm_accel accel)
{
	return (size_t)accel < ARRAY_SIZE(names) ? names[accel] : "unknown";
}

const char *vmm_cpu_model(enum vmm_accel accel)
{
	(void)accel;	/* one baseline for both: real ones have had it since 2008 */
	return CPU_MODEL;
}

/* The features of CPU_MODEL that a program can notice (Intel SDM, CPUID). */
static const struct {
	uint32_t leaf;
	uint32_t ecx;
	uint32_t edx;
} model_features[] = {
	/* SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT; FPU TSC MSR PAE CX8 APIC CMOV PAT … SSE2 */
	{ 1, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23,
	  1u << 0 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 15 | 1u << 16 |
	  1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26 },
	/* LAHF in 64-bit mode; SYSCALL NX LM */
	{ 0x80000001u, 1u << 0, 1u << 11 | 1u << 20 | 1u << 29 },
};

/* Guest-physical layout of the probe: tables below, code at CODE, its stack ends at STACK. */
enum layout {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, GDT = 0x4000, IDT = 0x5000,
	CODE = 0x6000, HANDLER = 0x7000, STACK = 0x9000, GUEST_BYTES = 0x10000,
};

#define PORT_DATA 0x10
#define PORT_TRAP 0x11
#define TRAP_UD 6

/* 64-bit: a product and a call over the stack, out; then an invalid instruction. */
static const uint8_t code[] = {
	0x48, 0xb8, 0x07, 0, 0, 0, 0x01, 0, 0, 0,	/* mov  $0x100000007, %rax */
	0x48, 0x6b, 0xc0, 0x06,				/* imul $6, %rax, %rax */
	0x50,						/* push %rax */
	0x66, 0x48, 0x0f, 0x6e, 0xc0,			/* movq %rax, %xmm0 */
	0x66, 0x48, 0x0f, 0x7e, 0xc1,			/* movq %xmm0, %rcx */
	0x58,						/* pop  %rax */
	0x48, 0x29, 0xc8,				/* sub  %rcx, %rax: 0 */
	0x48, 0x01, 0xc8,				/* add  %rcx, %rax */
	0xe6, PORT_DATA,				/* out  %al, data: 42 */
	0x0f, 0x0b,					/* ud2 */
};
/* On #UD. */
static const uint8_t handler[] = {
	0x48, 0xc1, 0xe8, 0x20,				/* shr  $32, %rax */
	0xe6, PORT_TRAP,				/* out  %al, trap: 6 */
	0xf4,						/* hlt */
};

/* What the child found; its exit status. */
enum verdict {
	WORKS, NO_DEVICE, NO_VM, NO_CPUID, LACKS_FEATURES, NO_RUN, WRONG_RESULT, TOO_SLOW, CRASHED,
};

static const char *const verdicts[] = {
	[WORKS] = "KVM works: it ran guest code to its end",
	[NO_DEVICE] = "no KVM: /dev/kvm cannot be opened",
	[NO_VM] = "no KVM: /dev/kvm makes no VM",
	[NO_CPUID] = "no KVM: it does not tell its CPU features",
	[LACKS_FEATURES] = "no KVM: it lacks features of the CPU model " CPU_MODEL,
	[NO_RUN] = "no KVM: it could not run guest code",
	[WRONG_RESULT] = "no KVM: guest code did not come to its end",
	[TOO_SLOW] = "no KVM: guest code hung",
	[CRASHED] = "no KVM: the probe crashed",
};

static void put_u64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* Identity-maps 2 MiB, with a code and a data segment and a gate for #UD. */
static void fill_guest(uint8_t *ram)
{
	const uint64_t gate = (uint64_t)HANDLER | 8ull << 16 | 0x8e00ull << 32;

	put_u64(ram + PML4, PDPT | 3);
	put_u64(ram + PDPT, PD | 3);
	put_u64(ram + PD, 0x83);
	put_u64(ram + GDT + 8, 0x00af9b000000ffffull);
	put_u64(ram + GDT + 16, 0x00cf93000000ffffull);
	put_u64(ram + IDT + 16 * TRAP_UD, gate);
	memcpy(ram + CODE, code, sizeof(code));
	memcpy(ram + HANDLER, handler, sizeof(handler));
}

static int enter_long_mode(int vcpu)
{
	struct kvm_segment cs = { .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1,
				  .s = 1, .l = 1, .g = 1 };
	struct kvm_segment ds = { .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1,
				  .s = 1, .db = 1, .g = 1 };
	struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rflags = 2 };
	struct kvm_sregs s;

	if (ioctl(vcpu, KVM_GET_SREGS, &s))
		return -1;
	s.cr0 = 0x80000033;	/* PG NE ET MP PE */
	s.cr3 = PML4;
	s.cr4 = 0x620;		/* PAE OSFXSR OSXMMEXCPT */
	s.efer = 0x500;		/* LME LMA */
	s.cs = cs;
	s.ds = s.es = s.fs = s.gs = s.ss = ds;
	s.gdt.base = GDT;
	s.gdt.limit = 23;
	s.idt.base = IDT;
	s.idt.limit = 16 * 32 - 1;
	return ioctl(vcpu, KVM_SET_SREGS, &s) || ioctl(vcpu, KVM_SET_REGS, &regs) ? -1 : 0;
}

/* Gives the VCPU what KVM supports. Return: WORKS if that has all of the model's features. */
static enum verdict offer_features(int kvm, int vcpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	size_t found = 0;

	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) || ioctl(vcpu, KVM_SET_CPUID2, &cpuid))
		return NO_CPUID;
	for (uint32_t i = 0; i < cpuid.head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid.entries[i];

		for (size_t j = 0; j < ARRAY_SIZE(model_features); j++) {
			if (e->function == model_features[j].leaf &&
			    !(model_features[j].ecx & ~e->ecx) &&
			    !(model_features[j].edx & ~e->edx))
				found++;
		}
	}
	return found == ARRAY_SIZE(model_features) ? WORKS : LACKS_FEATURES;
}

/* Runs until the next exit of interest. Return: the byte put out at `port`, or -1. */
static int run_to_out(int vcpu, struct kvm_run *run, uint16_t port)
{
	if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO || run->io.port != port)
		return -1;
	return ((uint8_t *)run)[run->io.data_offset];
}

static enum verdict run_guest(int kvm)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
	int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	uint8_t *ram = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = GUEST_BYTES,
						      .userspace_addr = (uintptr_t)ram };
	struct kvm_run *run;
	enum verdict verdict;

	if (vcpu < 0 || run_bytes <= 0 || ram == MAP_FAILED ||
	    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		return NO_VM;
	run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return NO_VM;
	verdict = offer_features(kvm, vcpu);
	if (verdict != WORKS)
		return verdict;
	fill_guest(ram);
	if (enter_long_mode(vcpu))
		return NO_RUN;
	if (run_to_out(vcpu, run, PORT_DATA) != 42 || run_to_out(vcpu, run, PORT_TRAP) != 6)
		return WRONG_RESULT;
	return ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_HLT ? WRONG_RESULT : WORKS;
}

static _Noreturn void probe_child(void)
{
	int kvm;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		_exit(NO_DEVICE);
	_exit(run_guest(kvm));
}

/* The child's end of the pipe closes when it ends, however that happens. */
static enum verdict probe_kvm(void)
{
	struct pollfd ended = { .events = POLLIN };
	int status, ends[2];
	bool in_time;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return CRASHED;
	pid = fork();
	if (!pid)
		probe_child();
	close(ends[1]);
	ended.fd = ends[0];
	in_time = pid > 0 && TEMP_FAILURE_RETRY(poll(&ended, 1, PROBE_LIMIT_MS)) == 1;
	close(ends[0]);
	if (pid < 0)
		return CRASHED;
	if (!in_time)
		kill(pid, SIGKILL);
	if (TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) != pid)
		return CRASHED;
	if (!in_time)
		return TOO_SLOW;
	return WIFEXITED(status) && WEXITSTATUS(status) < CRASHED ?
	       (enum verdict)WEXITSTATUS(status) : CRASHED;
}

int vmm_probe_accel(enum vmm_accel wanted, enum vmm_accel *found, char *why, size_t why_bytes)
{
	enum verdict verdict;

	tsc_khz(); /* it waits the first time, as we may here */
	if (wanted == VMM_ACCEL_TCG) {
		*found = VMM_ACCEL_TCG;
		snprintf(why, why_bytes, "TCG, as asked for");
		return 0;
	}
	verdict = probe_kvm();
	snprintf(why, why_bytes, "%s", verdicts[verdict]);
	if (verdict == WORKS) {
		*found = VMM_ACCEL_KVM;
		return 0;
	}
	*found = VMM_ACCEL_TCG;
	return wanted == VMM_ACCEL_AUTO ? 0 : -ENODEV;
}
