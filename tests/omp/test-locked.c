/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * omp-shim/locked*: locked instructions of several members on one store. Members are processes; the
 * store is memory that they share, with a lock, behind the shim's own calls. What they do atomically
 * is on memory that each has for itself: without breakpoints nothing of it would be in the store.
 */
#define _GNU_SOURCE
#include "config.h"

#include <CUnit/Basic.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/locked.h"
#include "omp-shim/locked_site.h"
#include "omp-shim/member.h"

#define NAME(x) x##_O2
#pragma GCC push_options
#pragma GCC optimize("O2")
#include "tests/omp/atomics.h"
#pragma GCC pop_options
#undef NAME
#define NAME(x) x##_O0
#pragma GCC push_options
#pragma GCC optimize("O0")
#include "tests/omp/atomics.h"
#pragma GCC pop_options

#define MEMBERS 4u
#define TIMES	1500u

struct world {
	struct atomics atomics;
	int lock;
	long counter;
	uint64_t words[4096] __attribute__((aligned(16)));
};

static struct world world;		/* each member's own */
static struct atomics apart;		/* not compared */

static struct {
	pthread_mutex_t lock;
	struct world world;		/* the store's */
	unsigned long fetches, flushes, captured;
	unsigned char failed[256];
} *common;

/* -- what stands in for the shim ------------------------------------------------------------- */

__thread struct member *omp_here;
static struct member self;
static struct range compared = { (uintptr_t)&world, (uintptr_t)(&world + 1) };

struct member *member_self(void)
{
	return &self;
}

struct ranges *member_ranges(struct member *member)
{
	return &member->ranges;
}

static void *in_store(uint64_t address)
{
	return (char *)&common->world + (address - (uintptr_t)&world);
}

void sync_fetch(uint64_t address, void *bytes, unsigned count)
{
	pthread_mutex_lock(&common->lock);
	common->fetches++;
	memcpy(bytes, in_store(address), count);
}

void sync_store(uint64_t address, const void *bytes, unsigned count)
{
	memcpy(in_store(address), bytes, count);
	pthread_mutex_unlock(&common->lock);
}

uint64_t sync_point(enum omp_sync_kind kind, uint64_t key, uint64_t value)
{
	pthread_mutex_lock(&common->lock);
	common->flushes += kind == OMP_FLUSH && !key && !value;
	if (self.twin.pid) /* what it wrote is sent */
		memcpy(&common->world, &world, sizeof(world));
	pthread_mutex_unlock(&common->lock);
	return 0;
}

void member_fail(enum omp_reason reason, const char *format, ...)
{
	strncpy((char *)common->failed, format, sizeof(common->failed) - 1);
	_exit(100 + (int)reason);
}

/* -- members --------------------------------------------------------------------------------- */

static bool unarmed; /* to see that the tests fail then */

static int run_member(unsigned number, void (*run)(unsigned number))
{
	uint64_t frame = (uintptr_t)__builtin_frame_address(0);

	self.number = number;
	self.size = MEMBERS;
	self.ranges = (struct ranges){ &compared, 1, 1 };
	omp_here = &self;
	if (!unarmed && locked_arm(frame - (1u << 20), frame))
		return 1;
	run(number);
	return 0;
}

/* Runs a function in so many members. Return: 0, or the first status that is not. */
static int in_members(unsigned count, void (*run)(unsigned number))
{
	pid_t members[MEMBERS];
	int status, first = 0;

	for (unsigned number = 0; number < count; number++) {
		members[number] = fork();
		if (!members[number])
			_exit(run_member(number, run));
	}
	for (unsigned number = 0; number < count; number++) {
		CU_ASSERT_EQUAL(waitpid(members[number], &status, 0), members[number]);
		if (!first)
			first = status;
	}
	return first;
}

static void set_up(void)
{
	pthread_mutexattr_t attr;

	unarmed = getenv("TEST_LOCKED_UNARMED");
	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (common == MAP_FAILED)
		abort();
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&common->lock, &attr);
	memset(&world, 0, sizeof(world));
	memset(&self, 0, sizeof(self));
	world.atomics.u = 1;
	world.atomics.product = 3;
	world.atomics.least = ~0ul;
	common->world = world;
}

static void tear_down(void)
{
	munmap(common, sizeof(*common));
}

/* -- sums ------------------------------------------------------------------------------------ */

static void each_many_times(unsigned number)
{
	unsigned long captured = 0;

	for (unsigned long i = 0; i < TIMES; i++) {
		unsigned long n = 1 + i * MEMBERS + number;

		captured += (unsigned long)one_of_each_O0(&world.atomics, n);
		wide_add_O0(&world.atomics, ~0ul / 3 + n);
		captured += (unsigned long)one_of_each_O2(&world.atomics, n + 1);
		wide_add_O2(&world.atomics, n);
	}
	pthread_mutex_lock(&common->lock);
	common->captured += captured;
	pthread_mutex_unlock(&common->lock);
}

static void sums_of_all_types_are_exact(void)
{
	static struct world expected;
	unsigned long count = 2ul * MEMBERS * TIMES;

	expected = world;
	CU_ASSERT_EQUAL(in_members(MEMBERS, each_many_times), 0);
	for (unsigned long n = 1; n <= MEMBERS * TIMES; n++) {
		one_of_each_O2(&expected.atomics, n);
		wide_add_O2(&expected.atomics, ~0ul / 3 + n);
		one_of_each_O2(&expected.atomics, n + 1);
		wide_add_O2(&expected.atomics, n);
	}
	CU_ASSERT(!memcmp(&common->world, &expected, sizeof(expected)));
	CU_ASSERT_EQUAL(common->world.atomics.captured, (int)count);
	CU_ASSERT_EQUAL(common->captured, count * (count - 1) / 2);
	CU_ASSERT(common->fetches > 16 * count);
	CU_ASSERT_EQUAL(common->flushes, 0);
}

static void spin_many_times(unsigned number)
{
	for (unsigned i = 0; i < 2000; i++)
		(number & 1 ? spin_O0 : spin_O2)(&world.lock, &world.counter);
}

static void a_lock_by_xchg_is_a_lock(void)
{
	CU_ASSERT_EQUAL(in_members(MEMBERS, spin_many_times), 0);
	CU_ASSERT_EQUAL(common->world.counter, 2000 * MEMBERS);
}

/* -- where the operand is -------------------------------------------------------------------- */

static void flush_both(unsigned number)
{
	(void)number;
	flush_O0();
	flush_O2();
	__asm__ volatile("mfence" ::: "memory");
}

static void a_fence_is_a_flush(void)
{
	CU_ASSERT_EQUAL(in_members(1, flush_both), 0);
	CU_ASSERT_EQUAL(common->flushes, 3);
	CU_ASSERT_EQUAL(common->fetches, 0);
}

static __thread long of_the_thread;

static void stay_here(unsigned number)
{
	(void)number;
	apart.least = ~0ul;
	for (unsigned long n = 1; n <= 100; n++)
		one_of_each_O2(&apart, n);
	for (unsigned n = 0; n < 100; n++)
		__atomic_fetch_add(&of_the_thread, 1, __ATOMIC_SEQ_CST);
	if (apart.captured != 100 || apart.i != 5050 || of_the_thread != 100)
		_exit(2);
}

static void what_is_not_compared_stays_here(void)
{
	CU_ASSERT_EQUAL(in_members(1, stay_here), 0);
	CU_ASSERT_EQUAL(common->fetches, 0);
}

static void *nested_thread(void *unused)
{
	for (unsigned n = 0; n < 3000; n++) {
		__atomic_fetch_add(&world.counter, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&apart.l, 1, __ATOMIC_SEQ_CST);
	}
	return unused;
}

static void have_threads(unsigned number)
{
	pthread_t threads[4];

	(void)number;
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, nested_thread, NULL);
	nested_thread(NULL);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	if (apart.l != 15000)
		_exit(2);
}

static void threads_of_nested_regions_may_do_it_too(void)
{
	CU_ASSERT_EQUAL(in_members(2, have_threads), 0);
	CU_ASSERT_EQUAL(common->world.counter, 2 * 15000);
}

static void write_then_add(unsigned number)
{
	self.twin.pid = fork();
	if (!self.twin.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	(void)number;
	world.counter = 1000;
	__atomic_fetch_add(&world.counter, 1, __ATOMIC_SEQ_CST);
	kill(self.twin.pid, SIGKILL);
}

static void what_was_written_before_is_sent_first(void)
{
	CU_ASSERT_EQUAL(in_members(1, write_then_add), 0);
	CU_ASSERT_EQUAL(common->world.counter, 1001);
	CU_ASSERT_EQUAL(common->flushes, 1);
}

/* -- instructions ---------------------------------------------------------------------------- */

/*
 * Each of these runs by itself and then with a breakpoint, from the same registers and memory: all
 * must be the same afterwards.
 */
struct state {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, r9, r12, flags;
	double xmm;
	long double x87;
};

#define ARITHMETIC 0x8d5ul
/* clang-format off */
#define INSTRUCTION(name, text)                                                                 \
	static __attribute__((noinline)) void name(struct state *s)                             \
	{                                                                                       \
		register uint64_t r9 __asm__("r9") = s->r9;                                     \
		register uint64_t r12 __asm__("r12") = s->r12;                                  \
		double xmm = s->xmm;                                                            \
		long double x87 = s->x87;                                                       \
		uint64_t flags = s->flags;                                                      \
		__asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushq %[flags]\n\tpopfq\n\t" text  \
				 "\n\tpushfq\n\tpopq %[flags]\n\tleaq 128(%%rsp), %%rsp"        \
				 : "+a"(s->rax), "+b"(s->rbx), "+c"(s->rcx), "+d"(s->rdx),      \
				   "+S"(s->rsi), "+D"(s->rdi), "+r"(r9), "+r"(r12), "+x"(xmm),  \
				   "+t"(x87), [flags] "+r"(flags) :: "memory", "cc");           \
		s->r9 = r9;                                                                     \
		s->r12 = r12;                                                                   \
		s->xmm = xmm + 1;                                                               \
		s->x87 = x87 + 1;                                                               \
		s->flags = flags & ARITHMETIC;                                                  \
	}
#define INSTRUCTIONS                                                                            \
	X(add_byte, "lock addb %%al, (%%rsi)") X(add_high, "lock addb %%ah, 3(%%rsi)")          \
	X(add_sil, "lock addb %%dil, 0x200(%%rsi)") X(or_short, "lock orw %%dx, -2(%%rsi)")     \
	X(adc_long, "lock adcl %%edx, (%%rsi,%%rcx,4)") X(sbb_quad, "lock sbbq %%rbx, (%%rsi)") \
	X(and_imm8, "lock andl $-3, 4(%%rsi)") X(and_imm32, "lock andq $0x7ffff0f, (%%rsi)")    \
	X(sub_imm16, "lock subw $0x1234, (%%rsi)") X(xor_r9, "lock xorq %%r9, (%%r9,%%r12)")    \
	X(add_rdi, "lock addq %%rdi, (%%rsi)") X(add_rsi, "lock addl %%esi, (%%rsi)")           \
	X(inc_byte, "lock incb (%%rsi)") X(dec_quad, "lock decq 8(%%rsi)")                      \
	X(neg_long, "lock negl (%%rsi)") X(not_short, "lock notw (%%rsi)")                      \
	X(xadd_byte, "lock xaddb %%bh, (%%rsi)") X(xadd_short, "lock xaddw %%ax, (%%rsi)")      \
	X(xadd_long, "lock xaddl %%eax, (%%rsi)") X(xadd_rdi, "lock xaddq %%rdi, (%%rsi)")      \
	X(xchg_byte, "xchgb %%dl, (%%rsi)") X(xchg_short, "xchgw %%dx, (%%rsi)")                \
	X(xchg_long, "xchgl %%edx, (%%rsi,%%rcx,8)") X(xchg_quad, "xchgq %%r9, (%%rsi)")        \
	X(xchg_locked, "lock xchgq %%rdi, (%%rsi)")                                             \
	X(cmpxchg_byte, "lock cmpxchgb %%dl, (%%rsi)") X(cmpxchg_r12, "lock cmpxchgq %%r12, (%%rsi)") \
	X(cmpxchg_rdi, "lock cmpxchgl %%edi, 16(%%rsi)") X(cmpxchg8b, "lock cmpxchg8b (%%rsi)") \
	X(cmpxchg16b, "lock cmpxchg16b (%%rsi)") X(btr_imm, "lock btrq $37, (%%rsi)")           \
	X(bts_imm, "lock btsl $5, (%%rsi)") X(btc_imm, "lock btcw $9, (%%rsi)")                 \
	X(bts_far, "lock btsq %%rdi, 0x1000(%%rsi)") X(btr_short, "lock btrw %%di, 0x1000(%%rsi)") \
	X(btc_long, "lock btcl %%edi, 0x1000(%%rsi)") X(add_rip, "lock addl $7, 8+world(%%rip)") \
	X(inc_rip, "lock incq world(%%rip)") X(cmpxchg_rip, "lock cmpxchgq %%rbx, world(%%rip)") \
	X(add_unaligned, "lock addq %%rbx, 61(%%rsi)") X(add_prefixed, "ds lock addl %%ebx, (%%rsi)")
#define X(name, text) INSTRUCTION(name, text)
INSTRUCTIONS
#undef X
#define X(name, text) { #name, name },
static const struct {
	const char *name;
	void (*run)(struct state *state);
} instructions[] = { INSTRUCTIONS };
#undef X
/* clang-format on */

static uint64_t seed;

static uint64_t some_number(void)
{
	static const uint64_t edges[] = { 0, 1, ~0ull, 0x7f, 0x80, 0x7fffffff, 0x80000000 };

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 61 ? seed >> 20 ^ seed : edges[seed >> 32 & 3];
}

/* The same for the same i and round. */
static struct state some_state(unsigned i, unsigned round)
{
	uint64_t *words = world.words + 2048;
	struct state s;

	seed = i * 1000u + round;
	for (unsigned at = 0; at < ARRAY_SIZE(world.words); at++)
		world.words[at] = seed * at;
	for (unsigned at = 0; at < 32; at++)
		words[at] = some_number();
	s = (struct state){ some_number(), some_number(), some_number() & 7, some_number(),
			    (uintptr_t)words, some_number(), some_number(), 0,
			    (some_number() & ARITHMETIC) | 0x202, (double)i, round };
	s.r12 = (uintptr_t)words - s.r9;
	if (strstr(instructions[i].name, "bt")) /* a far bit, before or behind, but not too far */
		s.rdi = (s.rdi & 0x3fff) - 0x2000;
	if (some_number() & 1)
		s.rax = words[strcmp(instructions[i].name, "cmpxchg_rdi") ? 0 : 2];
	if (some_number() & 1)
		s.rdx = words[1];
	return s;
}

#define ROUNDS 40
static struct outcome {
	struct state state;
	uint64_t sum; /* of the memory */
} outcomes[ARRAY_SIZE(instructions)][ROUNDS];

static struct outcome run_one(unsigned i, unsigned round)
{
	struct outcome outcome;

	memset(&outcome, 0, sizeof(outcome));
	memset(&world, 0, offsetof(struct world, words));
	outcome.state = some_state(i, round);
	common->world = world;
	instructions[i].run(&outcome.state);
	for (size_t at = 0; at < sizeof(world) / 8; at++)
		outcome.sum = outcome.sum * 31 + ((uint64_t *)&world)[at];
	return outcome;
}

static bool is_same(const struct outcome *a, const struct outcome *b)
{
	return !memcmp(&a->state, &b->state, offsetof(struct state, xmm)) &&
	       a->state.xmm == b->state.xmm && a->state.x87 == b->state.x87 && a->sum == b->sum;
}

static void run_all(unsigned number)
{
	(void)number;
	for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
		for (unsigned round = 0; round < ROUNDS; round++) {
			unsigned long fetches = common->fetches;
			struct outcome outcome = run_one(i, round);

			if (!is_same(&outcome, &outcomes[i][round]) ||
			    common->fetches != fetches + 1 ||
			    memcmp(&common->world, &world, sizeof(world))) {
				strcpy((char *)common->failed, instructions[i].name);
				_exit(2);
			}
		}
	}
}

static void each_instruction_does_what_it_does(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++)
		for (unsigned round = 0; round < ROUNDS; round++)
			outcomes[i][round] = run_one(i, round);
	CU_ASSERT_EQUAL(in_members(1, run_all), 0);
	CU_ASSERT_STRING_EQUAL(common->failed, "");
}

static void what_needs_no_breakpoint_gets_none(void)
{
	static const struct {
		uint8_t code[12];
		size_t length;
		bool is_one;
		uint64_t operand;
	} cases[] = {
		{ { 0x67, 0x87, 0x56, 0xff }, 4, true, 0x56781000 - 1 },  /* xchgl -1(%esi), %edx */
		{ { 0xf0, 0x48, 0xff, 0x05, 0, 1, 0, 0 }, 8, true, 0x5108 }, /* lock incq 256(%rip) */
		{ { 0xf0, 0xff, 0x04, 0x25, 0, 2, 0, 0 }, 8, true, 0x200 }, /* lock incl 512 */
		{ { 0x87, 0xd6 }, 2, false, 0 },			  /* xchgl %edx, %esi */
		{ { 0x64, 0xf0, 0xff, 0x06 }, 4, false, 0 },		  /* lock incl %fs:(%rsi) */
		{ { 0x48, 0xff, 0x06 }, 3, false, 0 },			  /* incq (%rsi) */
		{ { 0x0f, 0xae, 0xe8 }, 3, false, 0 },			  /* lfence */
	};
	uint8_t copy[SITE_COPY_BYTES];
	struct locked_site site;
	gregset_t registers = { 0 };

	registers[REG_RSI] = 0x1234567856781000;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CU_ASSERT_EQUAL(site_read(&site, 0x5000, cases[i].code, cases[i].length, copy),
				cases[i].is_one);
		if (cases[i].is_one)
			CU_ASSERT_EQUAL(site_operand(&site, registers), cases[i].operand);
	}
}

/* -- traps, and costs ------------------------------------------------------------------------- */

static void trap_myself(unsigned number)
{
	(void)number;
	__asm__ volatile("int3");
}

static void a_trap_of_the_programs_own_is_the_end(void)
{
	CU_ASSERT_EQUAL(WEXITSTATUS(in_members(1, trap_myself)), 100 + OMP_CRASH);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void time_local(unsigned number)
{
	double begin = seconds();

	(void)number;
	for (unsigned n = 0; n < 100000; n++)
		__atomic_fetch_add(&apart.l, 1, __ATOMIC_SEQ_CST);
	printf("one that stays here: %.2f us; ", (seconds() - begin) * 10);
	begin = seconds();
	for (unsigned n = 0; n < 100000; n++)
		__atomic_fetch_add(&world.counter, 1, __ATOMIC_SEQ_CST);
	printf("one that goes away, without the way: %.2f us\n", (seconds() - begin) * 10);
	fflush(stdout);
}

static void finding_again_is_free(void)
{
	double begin = seconds();
	int count = locked_find();

	CU_ASSERT(count > 80);
	CU_ASSERT(seconds() - begin < 0.01);
	CU_ASSERT_EQUAL(in_members(1, time_local), 0);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "sums of all types are exact", sums_of_all_types_are_exact },
		{ "a lock by xchg is a lock", a_lock_by_xchg_is_a_lock },
		{ "a fence is a flush", a_fence_is_a_flush },
		{ "what is not compared stays here", what_is_not_compared_stays_here },
		{ "threads of nested regions may do it too", threads_of_nested_regions_may_do_it_too },
		{ "what was written before is sent first", what_was_written_before_is_sent_first },
		{ "each instruction does what it does", each_instruction_does_what_it_does },
		{ "what needs no breakpoint gets none", what_needs_no_breakpoint_gets_none },
		{ "a trap of the program's own is the end", a_trap_of_the_programs_own_is_the_end },
		{ "finding again is free", finding_again_is_free },
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{ "locked", NULL, NULL, set_up, tear_down, tests },
		CU_SUITE_INFO_NULL,
	};
	double begin = seconds();
	int count = locked_find();

	printf("%d locked instructions found in %.1f ms\n", count, (seconds() - begin) * 1e3);
	if (count < 0 || CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	return CU_get_number_of_failures() || !CU_get_number_of_tests_run();
}
