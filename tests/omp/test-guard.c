/* SPDX-License-Identifier: GPL-2.0-or-later */
/* omp-shim/guard.c and forbidden.c: what a member may call, and what it prints. */
#define _GNU_SOURCE
#include "config.h"

#include <CUnit/Basic.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/guard.h"
#include "omp-shim/team.h"

__thread struct member *omp_here;
static struct member self;
static char (*sentence)[256]; /* shared */
static int file, (*side_effect);

static void leave(int status) __attribute__((noreturn));
static void leave(int status)
{
	for (;;)
		syscall(SYS_exit_group, status);
}

static const struct team_ways by_test = { .leave = leave };
struct team omp_team = { .ways = &by_test };

void member_fail(enum omp_reason reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(*sentence, sizeof(*sentence), format, args);
	va_end(args);
	omp_team.ways->leave(100 + (int)reason);
	__builtin_unreachable();
}

static int in_member(void (*run)(void))
{
	int ends[2], status;
	pid_t pid;

	memset(*sentence, 0, sizeof(*sentence));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return -1;
	pid = fork();
	if (!pid) {
		if (!getenv("TEST_GUARD_OFF") && guard_arm(ends[0], NULL, 0))
			_exit(1);
		omp_here = &self;
		run();
		omp_here = NULL;
		omp_team.ways->leave(0);
	}
	close(ends[0]);
	close(ends[1]);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* -- what is not allowed ----------------------------------------------------------------------- */

/* clang-format off */
#define FORBIDDEN                                                                              \
	X("open", SYSCALL, open("/dev/null", O_RDONLY)) X("read", SYSCALL, read(file, &byte, 1)) \
	X("write", SYSCALL, write(file, "x", 1)) X("close", SYSCALL, close(file))               \
	X("lseek", SYSCALL, lseek(file, 0, SEEK_END)) X("socket", SYSCALL, socket(AF_INET, SOCK_STREAM, 0)) \
	X("unlink", SYSCALL, unlink("/nowhere")) X("mkdir", SYSCALL, mkdir("/proc/x", 0))       \
	X("dup", SYSCALL, dup(1)) X("pipe", SYSCALL, pipe(pair)) X("clone", SYSCALL, fork())    \
	X("kill", SYSCALL, kill(getppid(), 0)) X("exit", SYSCALL, _exit(0))                     \
	X("chdir", SYSCALL, chdir("/")) X("umask", SYSCALL, (int)umask(0))                      \
	X("setitimer", SYSCALL, setitimer(ITIMER_REAL, NULL, NULL))                             \
	X("rt_sigaction", SYSCALL, signal(SIGUSR1, SIG_IGN) == SIG_ERR)                         \
	X("exit", SYSCALL, (exit(0), 0)) X("mmap", SYSCALL, mmap(NULL, 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != NULL) \
	X("munmap", SYSCALL, munmap(sentence, 4096)) X("sbrk", SYSCALL, sbrk(4096) != NULL)     \
	X("brk", SYSCALL, brk(NULL)) X("rand", STATE, rand()) X("strtok", STATE, strtok(text, " ") != NULL) \
	X("srandom", STATE, (srandom(1), 0)) X("drand48", STATE, drand48() > 2)                 \
	X("signal 11", CRASH, *nowhere) X("signal 6", CRASH, (abort(), 0))           \
	X("signal 4", CRASH, (__builtin_trap(), 0)) X("signal 8", CRASH, raise(SIGFPE))
/* clang-format on */

static int which;
static volatile char *volatile nowhere;

static void call_one(void)
{
	int pair[2] = { 0 }, at = 0;
	char byte = 0, text[] = "a b";

	(void)pair, (void)byte, (void)text;
#define X(name, reason, what)                       \
	if (at++ == which)                          \
		*side_effect = (int)(what);
#define _exit(status) (_exit(status), 0)
	FORBIDDEN
#undef _exit
#undef X
}

static void each_forbidden_call_is_found(void)
{
	static const struct {
		const char *name;
		enum omp_reason reason;
	} cases[] = {
#define X(name, reason, what) { name, OMP_##reason },
		FORBIDDEN
#undef X
	};

	for (which = 0; which < (int)ARRAY_SIZE(cases); which++) {
		int status = in_member(call_one);

		if (status != 100 + (int)cases[which].reason || !strstr(*sentence, cases[which].name))
			printf("%s: %d, \"%s\"\n", cases[which].name, status, *sentence);
		CU_ASSERT_EQUAL(status, 100 + (int)cases[which].reason);
		CU_ASSERT_PTR_NOT_NULL(strstr(*sentence, cases[which].name));
	}
}

/* -- what is ----------------------------------------------------------------------------------- */

static void *add_one(void *count)
{
	__atomic_fetch_add((int *)count, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void call_harmless(void)
{
	struct timespec moment = { 0, 1000 };
	pthread_t threads[4];
	struct stat st;
	int count = 0;
	char byte;

	for (int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, add_one, &count))
			omp_team.ways->leave(2);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	if (count != 4 || nanosleep(&moment, NULL) || fstat(file, &st) || access("/", R_OK) ||
	    pread(file, &byte, 1, 0) != 1 || getpid() <= 0 || isatty(1) || sched_yield())
		omp_team.ways->leave(3);
	free(memset(malloc(10 << 20), 1, 10 << 20));
	usleep(10);
}

static void harmless_calls_work(void)
{
	CU_ASSERT_EQUAL(in_member(call_harmless), 0);
	if (**sentence)
		printf("\"%s\"\n", *sentence);
	CU_ASSERT_STRING_EQUAL(*sentence, "");
}

/* -- output ------------------------------------------------------------------------------------ */

static void print_things(void)
{
	_cleanup_free_ uint8_t *one = NULL, *two = NULL;
	char *expected = malloc(1 << 20);
	size_t one_len, two_len, len = 0;

	for (int i = 0; i < 5000; i++) {
		printf("line %d\n", i);
		len += (size_t)sprintf(expected + len, "line %d\n", i);
		if (i % 1000 == 0) {
			fflush(stdout);
			if (write(1, "by hand\n", 8) != 8)
				omp_team.ways->leave(2);
			len += (size_t)sprintf(expected + len, "by hand\n");
		}
	}
	puts("end");
	len += (size_t)sprintf(expected + len, "end\n");
	fputs("an error\n", stderr);
	one = guard_output(1, &one_len);
	two = guard_output(2, &two_len);
	if (!one || one_len != len || memcmp(one, expected, len))
		omp_team.ways->leave(3);
	if (!two || two_len != 9 || memcmp(two, "an error\n", 9))
		omp_team.ways->leave(4);
}

static void output_is_kept_in_order(void)
{
	CU_ASSERT_EQUAL(in_member(print_things), 0);
}

static void print_too_much(void)
{
	static char much[1 << 20];

	for (int i = 0; i < 70; i++)
		if (write(1, much, sizeof(much)) != sizeof(much))
			break;
}

static void output_has_a_limit(void)
{
	CU_ASSERT_EQUAL(in_member(print_too_much), 100 + OMP_TOO_MUCH);
}

int main(void)
{
	int elsewhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	CU_TestInfo tests[] = {
		{ "each forbidden call is found", each_forbidden_call_is_found },
		{ "harmless calls work", harmless_calls_work },
		{ "output is kept in order", output_is_kept_in_order },
		{ "output has a limit", output_has_a_limit },
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{ "guard", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return 1;
	/* one file for both would be one output */
	if (elsewhere < 0 || dup2(elsewhere, STDERR_FILENO) < 0)
		return 1;
	sentence = (void *)shared;
	side_effect = (void *)(shared + 1024);
	file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (file < 0 || CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	return CU_get_number_of_failures() || !CU_get_number_of_tests_run();
}
