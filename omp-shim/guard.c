/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a member does that is not memory: output, system calls, signals that end it.
 *
 * The filter lets through what is harmless, and all that comes from one place in this file: by it
 * guard_leave() makes the shim's last calls, which the C library makes for it and the filter stops.
 */
#define _GNU_SOURCE
#include "omp-shim/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/libraries.h"
#include "omp-shim/team.h"

#define CALL(name) SCMP_SYS(name)

/* -- the call that is let through -------------------------------------------------------------- */

/* long guard_call(number, a, b, c, d, e, f): a system call, its result as the kernel gives it. */
long guard_call(long number, long a, long b, long c, long d, long e, long f);
extern const char guard_call_behind[] __attribute__((visibility("hidden")));
asm(".pushsection .text\n"
    ".hidden guard_call\n"
    ".globl guard_call\n"
    ".type guard_call, @function\n"
    "guard_call:\n"
    "	movq %rdi, %rax\n"
    "	movq %rsi, %rdi\n"
    "	movq %rdx, %rsi\n"
    "	movq %rcx, %rdx\n"
    "	movq %r8, %r10\n"
    "	movq %r9, %r8\n"
    "	movq 8(%rsp), %r9\n"
    "	syscall\n"
    ".hidden guard_call_behind\n"
    ".globl guard_call_behind\n"
    "guard_call_behind:\n"
    "	ret\n"
    ".size guard_call, . - guard_call\n"
    ".popsection\n");

static volatile sig_atomic_t armed, leaving;
static struct team_ways ways; /* as they were, but for leave() */
static void (*real_leave)(int status) __attribute__((noreturn));

bool guard_is_on(void)
{
	return armed && !leaving;
}

static void guard_leave(int status) __attribute__((noreturn));
static void guard_leave(int status)
{
	leaving = 1;
	real_leave(status);
}

/* -- signals ----------------------------------------------------------------------------------- */

static void on_forbidden(int signal, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	_cleanup_free_ char *name = NULL;

	(void)signal;
	if (leaving) {
		r[REG_RAX] = guard_call(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX],
					r[REG_R10], r[REG_R8], r[REG_R9]);
		return;
	}
	name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
	member_fail(OMP_SYSCALL, "it called %s(), which has an effect outside of its clone",
		    !name ? "an unknown function" : !strcmp(name, "exit_group") ? "exit" : name);
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (signal == SIGXFSZ)
		member_fail(OMP_TOO_MUCH, "it printed more than %u bytes", OMP_MAX_OUTPUT);
	member_fail(OMP_CRASH, "signal %d (%s), address %p", signal, strsignal(signal),
		    info->si_addr);
}

static int take_signals(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXFSZ };
	static uint8_t stack[65536] __attribute__((aligned(16)));
	const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigset_t open;

	sigemptyset(&open);
	sigaddset(&open, SIGSYS);
	if (sigaltstack(&alternate, NULL))
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(crashes); i++) {
		sigaddset(&open, crashes[i]);
		if (sigaction(crashes[i], &action, NULL))
			return -errno;
	}
	action.sa_sigaction = on_forbidden;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	if (sigaction(SIGSYS, &action, NULL))
		return -errno;
	return -pthread_sigmask(SIG_UNBLOCK, &open, NULL);
}

/* -- output ------------------------------------------------------------------------------------ */

#define USER_BUFFER 1 /* in FILE's flags (_IO_USER_BUF): not stdio's to free */

static struct {
	int fd;		/* memfd; -1: the output goes with the other's */
	char buffer[BUFSIZ];
} outputs[2] = { { .fd = -1 }, { .fd = -1 } };

/* A buffer that is not compared, in the same mode; what it held is the parent's to print. */
static void renew_stream(FILE *stream, char *buffer, bool terminal)
{
	int mode = __flbf(stream) || terminal ? _IOLBF : _IOFBF;

	if (stream == stderr || __fbufsize(stream) == 1)
		mode = _IONBF;
	__fpurge(stream);
	stream->_flags |= USER_BUFFER;
	setvbuf(stream, buffer, mode, BUFSIZ);
}

/* Makes memfds of descriptors 1 and 2: one, if both are the same file. */
static int take_output(void)
{
	const struct rlimit limit = { OMP_MAX_OUTPUT, OMP_MAX_OUTPUT };
	bool terminal = isatty(1);
	struct stat one, two;
	bool same = !fstat(1, &one) && !fstat(2, &two) && one.st_dev == two.st_dev &&
		    one.st_ino == two.st_ino;

	for (int i = 0; i < 2; i++) {
		int fd = i && same ? dup(outputs[0].fd) : memfd_create("output", MFD_CLOEXEC);

		if (fd < 0 || dup2(fd, i + 1) < 0)
			return -errno;
		outputs[i].fd = i && same ? -1 : fd;
	}
	if (setrlimit(RLIMIT_FSIZE, &limit))
		return -errno;
	renew_stream(stdout, outputs[0].buffer, terminal);
	renew_stream(stderr, outputs[1].buffer, false);
	return 0;
}

uint8_t *guard_output(int fd, size_t *len)
{
	int from = fd == 1 || fd == 2 ? outputs[fd - 1].fd : -1;
	_cleanup_free_ uint8_t *bytes = NULL;
	struct stat st;

	*len = 0;
	fflush(stdout);
	fflush(stderr);
	if (from < 0 || fstat(from, &st) || !(bytes = malloc((size_t)st.st_size + 1)))
		return NULL;
	while (*len < (size_t)st.st_size) {
		ssize_t got = pread(from, bytes + *len, (size_t)st.st_size - *len, (off_t)*len);

		if (got <= 0)
			return NULL;
		*len += (size_t)got;
	}
	return steal_ptr(&bytes);
}

/* -- the filter -------------------------------------------------------------------------------- */

static const int harmless[] = {
	/* memory of the member's own, found by comparison or not the program's */
	CALL(munmap), CALL(mremap), CALL(mprotect), CALL(madvise), CALL(brk), CALL(mincore),
	/* the shim's twin; of other processes the kernel says no, or they are in the clone */
	CALL(process_vm_readv), CALL(process_vm_writev),
	/* threads of nested regions: their beginning, waiting, end */
	CALL(set_robust_list), CALL(rseq), CALL(futex), CALL(exit), CALL(set_tid_address),
	CALL(membarrier), CALL(sched_yield), CALL(sched_getaffinity), CALL(sched_setaffinity),
	CALL(sched_getparam), CALL(sched_getscheduler), CALL(sched_get_priority_max),
	CALL(sched_get_priority_min), CALL(getpriority),
	/* the time, and waiting for it */
	CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time), CALL(times),
	CALL(nanosleep), CALL(clock_nanosleep), CALL(restart_syscall),
	/* who and where it is: the same in the parent, or of no consequence */
	CALL(getpid), CALL(gettid), CALL(getppid), CALL(getuid), CALL(geteuid), CALL(getgid),
	CALL(getegid), CALL(getpgrp), CALL(getgroups), CALL(getcpu), CALL(uname), CALL(sysinfo),
	CALL(getrlimit), CALL(getrusage), CALL(getcwd), CALL(getrandom),
	/* a thread's mask of signals, and the way back from a handler */
	CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(rt_sigpending), CALL(sigaltstack),
	/* looks at files that move nothing */
	CALL(fstat), CALL(newfstatat), CALL(stat), CALL(lstat), CALL(statx), CALL(access),
	CALL(faccessat), CALL(faccessat2), CALL(readlink), CALL(readlinkat), CALL(pread64),
	CALL(poll), CALL(ppoll),
};

/* Those that are harmless with one argument; a second row for a second value. */
static int allow_some(scmp_filter_ctx filter, int sock)
{
	const uint64_t fd = (uint64_t)sock, own = (uint64_t)getpid();
	const struct {
		int call;
		struct scmp_arg_cmp argument;
	} some[] = {
		{ CALL(write), SCMP_A0(SCMP_CMP_EQ, 1) },
		{ CALL(write), SCMP_A0(SCMP_CMP_EQ, 2) },
		{ CALL(writev), SCMP_A0(SCMP_CMP_EQ, 1) },
		{ CALL(writev), SCMP_A0(SCMP_CMP_EQ, 2) },
		{ CALL(fsync), SCMP_A0(SCMP_CMP_EQ, 1) },
		{ CALL(sendmsg), SCMP_A0(SCMP_CMP_EQ, fd) },
		{ CALL(recvmsg), SCMP_A0(SCMP_CMP_EQ, fd) },
		{ CALL(sendto), SCMP_A0(SCMP_CMP_EQ, fd) },
		{ CALL(recvfrom), SCMP_A0(SCMP_CMP_EQ, fd) },
		/* private memory; threads, no processes; no limits changed; only isatty() */
		{ CALL(mmap), SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_SHARED, 0) },
		{ CALL(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD) },
		{ CALL(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0) },
		{ CALL(ioctl), SCMP_A1(SCMP_CMP_EQ, TCGETS) },
		{ CALL(fcntl), SCMP_A1(SCMP_CMP_EQ, F_GETFL) },
		{ CALL(fcntl), SCMP_A1(SCMP_CMP_EQ, F_GETFD) },
		{ CALL(rt_sigaction), SCMP_A1(SCMP_CMP_EQ, 0) },
		/* the C library's own signals, when the first thread begins */
		{ CALL(rt_sigaction), SCMP_A0(SCMP_CMP_EQ, 32) },
		{ CALL(rt_sigaction), SCMP_A0(SCMP_CMP_EQ, 33) },
		/* abort(): to itself */
		{ CALL(tgkill), SCMP_A0(SCMP_CMP_EQ, own) },
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < ARRAY_SIZE(some); i++)
		rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, some[i].call, 1,
					    &some[i].argument);
	return rc;
}

static int allow_files(scmp_filter_ctx filter, const int *files, unsigned count)
{
	static const int calls[] = { CALL(write), CALL(pwrite64) };
	int rc = 0;

	for (unsigned i = 0; !rc && i < count * ARRAY_SIZE(calls); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i % ARRAY_SIZE(calls)], 1,
				      SCMP_A0(SCMP_CMP_EQ, (uint64_t)files[i / ARRAY_SIZE(calls)]));
	return rc;
}

static int make_rules(scmp_filter_ctx filter, int sock, const int *files, unsigned count)
{
	int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(harmless); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, harmless[i], 0);
	/* its flags cannot be seen: the C library then takes clone(2) */
	if (!rc)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
	if (!rc)
		rc = allow_files(filter, files, count);
	return rc ? rc : allow_some(filter, sock);
}

#define FILTER_MOST 4096u
#define BEFORE	    5u /* instructions before libseccomp's: what guard_call() calls is let through */

/* Puts the filter in place, behind our beginning. Return: 0 or -errno. */
static int install(int program)
{
	static struct sock_filter code[FILTER_MOST];
	const uint64_t from = (uintptr_t)guard_call_behind;
	const struct sock_filter before[BEFORE] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)from, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog all = { .filter = code };
	ssize_t bytes = pread(program, code + BEFORE, sizeof(code) - sizeof(before), 0);

	if (bytes <= 0 || (size_t)bytes >= sizeof(code) - sizeof(before))
		return bytes < 0 ? -errno : -E2BIG;
	memcpy(code, before, sizeof(before));
	all.len = (unsigned short)(BEFORE + (size_t)bytes / sizeof(*code));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all))
		return -errno;
	return 0;
}

static int filter_calls(int sock, const int *files, unsigned count)
{
	_cleanup_fd_ int program = memfd_create("filter", MFD_CLOEXEC);
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int rc = program < 0 ? -errno : !filter ? -ENOMEM : make_rules(filter, sock, files, count);

	if (!rc)
		rc = seccomp_export_bpf(filter, program);
	if (filter)
		seccomp_release(filter);
	if (!rc)
		rc = install(program);
	steal_fd(&program); /* close() is one of those that are caught from now on */
	return rc;
}

int guard_arm(int sock, const int *files, unsigned count)
{
	int rc;

	library_find_own();
	ways = *omp_team.ways;
	real_leave = ways.leave;
	ways.leave = guard_leave;
	omp_team.ways = &ways;
	rc = take_signals();
	if (!rc)
		rc = take_output();
	if (!rc)
		rc = filter_calls(sock, files, count);
	armed = !rc;
	return rc;
}
