/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In a member, at a breakpoint: the instruction is carried out on the store's bytes, on those that
 * are here, or is a fence.
 *
 * The handler runs on the stack of the thread that was stopped, of which nothing is compared. What
 * it calls has no breakpoints, so it is never entered twice by one thread; threads of a nested
 * region wait for each other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

#include "omp-shim/locked_site.h"
#include "omp-shim/member.h"

static struct {
	sem_t one;			 /* thread of the member at a time */
	uint64_t stack_start, stack_end; /* the member's own */
} here;

static bool on_own_stack(uint64_t address)
{
	return address >= here.stack_start && address < here.stack_end;
}

/* True if this member has written to these bytes and not said so: the twin has others. */
static bool is_unsent(struct member *m, uint64_t address, size_t bytes)
{
	uint8_t old[OMP_MAX_ATOMIC];
	struct iovec to = { old, bytes }, from = { (void *)(uintptr_t)address, bytes };

	if (m->twin.pid <= 0)
		return false;
	if (process_vm_readv(m->twin.pid, &to, 1, &from, 1, 0) != (ssize_t)bytes)
		return true;
	return memcmp(old, (void *)(uintptr_t)address, bytes) != 0;
}

/* On the store's bytes, which are nobody else's until sync_store(). */
static void run_away(const struct locked_site *site, const uint8_t *copy, greg_t *registers,
		     uint64_t address)
{
	uint8_t value[OMP_MAX_ATOMIC] __attribute__((aligned(OMP_MAX_ATOMIC)));

	if (is_unsent(member_self(), address, site->bytes))
		sync_point(OMP_FLUSH, 0, 0);
	sync_fetch(address, value, site->bytes);
	site_run(site, copy, registers, value);
	memcpy((void *)(uintptr_t)address, value, site->bytes);
	sync_store(address, value, site->bytes);
}

/* True if it is to be done away; else it concerns this member alone. */
static bool is_shared(uint64_t address, size_t bytes)
{
	return ranges_hold(member_ranges(member_self()), address, address + bytes);
}

static void step(const struct locked_site *site, const uint8_t *copy, greg_t *registers)
{
	uint64_t address = site->kind == SITE_FENCE ? 0 : site_operand(site, registers);
	bool fence = omp_here && (site->kind == SITE_FENCE || on_own_stack(address));
	bool shared;

	if (site->kind == SITE_UNKNOWN)
		member_fail(OMP_CONSTRUCT, "the locked instruction at %#llx is not taken over",
			    (unsigned long long)site->address);
	while (sem_wait(&here.one))
		;
	shared = site->kind == SITE_ATOMIC && !on_own_stack(address) &&
		 is_shared(address, site->bytes);
	if (shared)
		run_away(site, copy, registers, address);
	else if (fence)
		sync_point(OMP_FLUSH, 0, 0);
	sem_post(&here.one);
	if (!shared && site->kind == SITE_ATOMIC)
		site_run(site, copy, registers, (void *)(uintptr_t)address);
	registers[REG_RIP] = (greg_t)(site->address + site->length);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint64_t address = (uint64_t)registers[REG_RIP] - 1;
	const struct locked_site *site;
	const uint8_t *copy = NULL;
	int saved = errno;

	(void)signal;
	site = info->si_code > 0 ? site_at(address, &copy) : NULL;
	if (!site)
		member_fail(OMP_CRASH, "a trap at %#llx that is the program's own",
			    (unsigned long long)address);
	step(site, copy, registers);
	errno = saved;
}

int site_take_traps(uint64_t stack_start, uint64_t stack_end)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT };
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigset_t trap;

	here.stack_start = stack_start;
	here.stack_end = stack_end;
	sigemptyset(&trap);
	sigaddset(&trap, SIGTRAP);
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigdelset(&action.sa_mask, crashes[i]);
	if (sem_init(&here.one, 0, 1) || sigaction(SIGTRAP, &action, NULL))
		return -errno;
	return -pthread_sigmask(SIG_UNBLOCK, &trap, NULL);
}
