/* SPDX-License-Identifier: GPL-2.0-or-later */
/* common/: descriptors, fault points, the log. */
#include "config.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/io.h"
#include "common/log.h"

/* ---- io ---- */

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void *write_in_bits(void *arg)
{
	int fd = *(int *)arg;

	for (unsigned i = 0; i < 10; i++) {
		if (write(fd, "0123456789" + i, 1) != 1)
			abort();
		sched_yield();
	}
	close(fd);
	return NULL;
}

static void read_full_goes_on_until_all_is_there(void)
{
	char text[11] = "";
	pthread_t thread;
	int ends[2];

	CU_ASSERT_FATAL(!pipe(ends));
	CU_ASSERT_FATAL(!pthread_create(&thread, NULL, write_in_bits, &ends[1]));
	CU_ASSERT_EQUAL(io_read_full(ends[0], text, 9), 0);
	CU_ASSERT_STRING_EQUAL(text, "012345678");
	CU_ASSERT_EQUAL(io_read_full(ends[0], text, 2), -EPIPE);
	CU_ASSERT_EQUAL(io_read_full(-1, text, 1), -EBADF);
	CU_ASSERT_EQUAL(io_read_full(-1, text, 0), 0);
	pthread_join(thread, NULL);
	close(ends[0]);
}

static void write_full_writes_more_than_a_pipe_holds(void)
{
	static char data[300000], back[sizeof(data)];
	int ends[2], status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 >> 3);
	CU_ASSERT_FATAL(!pipe(ends));
	pid = fork();
	if (!pid) {
		close(ends[0]);
		_exit(-io_write_full(ends[1], data, sizeof(data)));
	}
	close(ends[1]);
	CU_ASSERT_EQUAL(io_read_full(ends[0], back, sizeof(back)), 0);
	CU_ASSERT(!memcmp(data, back, sizeof(data)));
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	close(ends[0]);
	CU_ASSERT_EQUAL(io_write_full(-1, data, 1), -EBADF);
}

static void descriptors_travel_with_a_message(void)
{
	int pair[2], memory = memfd_create("test", 0), got[IO_MAX_FDS], before;
	char text[8] = "";
	unsigned nfds;

	CU_ASSERT_FATAL(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	CU_ASSERT_EQUAL(write(memory, "hello", 5), 5);
	CU_ASSERT_EQUAL(io_send_fds(pair[0], "abc", 3, (int[]){ memory, pair[0] }, 2), 0);
	before = count_fds();
	CU_ASSERT_EQUAL(io_recv_fds(pair[1], text, sizeof(text), got, IO_MAX_FDS, &nfds), 3);
	CU_ASSERT_EQUAL(nfds, 2);
	CU_ASSERT_EQUAL(count_fds(), before + 2);
	CU_ASSERT_EQUAL(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	CU_ASSERT_EQUAL(pread(got[0], text, sizeof(text), 0), 5);
	CU_ASSERT(!memcmp(text, "hello", 5));
	close(got[0]);
	close(got[1]);
	/* none is the usual case */
	CU_ASSERT_EQUAL(io_send_fds(pair[0], "d", 1, NULL, 0), 0);
	CU_ASSERT_EQUAL(io_recv_fds(pair[1], text, sizeof(text), got, 1, &nfds), 1);
	CU_ASSERT_EQUAL(nfds, 0);
	CU_ASSERT_EQUAL(io_send_fds(pair[0], "d", 1, got, IO_MAX_FDS + 1), -EINVAL);
	close(memory);
	close(pair[0]);
	CU_ASSERT_EQUAL(io_recv_fds(pair[1], text, sizeof(text), got, 1, &nfds), 0);
	close(pair[1]);
}

static void what_does_not_fit_leaves_no_descriptor(void)
{
	int pair[2], got[1], before;
	char text[8];
	unsigned nfds;

	CU_ASSERT_FATAL(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	before = count_fds();
	CU_ASSERT_EQUAL(io_send_fds(pair[0], "abc", 3, pair, 2), 0);
	CU_ASSERT_EQUAL(io_recv_fds(pair[1], text, sizeof(text), got, 1, &nfds), -EMSGSIZE);
	CU_ASSERT_EQUAL(nfds, 0);
	CU_ASSERT_EQUAL(count_fds(), before);
	CU_ASSERT_EQUAL(io_send_fds(pair[0], "0123456789", 10, pair, 1), 0);
	CU_ASSERT_EQUAL(io_recv_fds(pair[1], text, sizeof(text), got, 1, &nfds), -EMSGSIZE);
	CU_ASSERT_EQUAL(count_fds(), before);
	close(pair[0]);
	/* an end that is gone is an error, not a signal */
	CU_ASSERT_EQUAL(io_send_fds(pair[1], "x", 1, NULL, 0), -EPIPE);
	close(pair[1]);
}

static void flags_change_alone(void)
{
	int fd = open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC);

	CU_ASSERT_EQUAL(io_set_nonblock(fd, true), 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), O_NONBLOCK | O_APPEND);
	CU_ASSERT_EQUAL(io_set_nonblock(fd, false), 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), O_APPEND);
	CU_ASSERT_EQUAL(io_set_inherit(fd, true), 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), 0);
	CU_ASSERT_EQUAL(io_set_inherit(fd, false), 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	CU_ASSERT_EQUAL(io_set_nonblock(fd, true), -EBADF);
	CU_ASSERT_EQUAL(io_set_inherit(fd, true), -EBADF);
}

static void files_are_read_whole_or_not(void)
{
	int memory = memfd_create("test", 0);
	char path[32], *data = NULL;
	size_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	CU_ASSERT_EQUAL(io_read_file(path, 0, &data, &len), 0);
	CU_ASSERT_EQUAL(len, 0);
	CU_ASSERT_STRING_EQUAL(data, "");
	free(data);
	CU_ASSERT_EQUAL(ftruncate(memory, 10000), 0);
	CU_ASSERT_EQUAL(io_read_file(path, 10000, &data, &len), 0);
	CU_ASSERT_EQUAL(len, 10000);
	CU_ASSERT_EQUAL(data[len], 0);
	free(data);
	CU_ASSERT_EQUAL(io_read_file(path, 9999, &data, &len), -EFBIG);
	/* files of /proc have no size */
	CU_ASSERT_EQUAL(io_read_file("/proc/sys/kernel/ostype", 100, &data, &len), 0);
	CU_ASSERT_STRING_EQUAL(data, "Linux\n");
	free(data);
	CU_ASSERT_EQUAL(io_read_file("/nowhere", 100, &data, &len), -ENOENT);
	CU_ASSERT_EQUAL(io_read_file("/", 100, &data, &len), -EISDIR);
	close(memory);
}

static void time_goes_forward(void)
{
	uint64_t a = io_now_ns(), b = io_now_ns();

	CU_ASSERT(a && b >= a && b - a < 1000000000u);
}

/* ---- cleanup ---- */

static void locals_are_freed_and_stolen(void)
{
	int before = count_fds(), kept;
	char *text;

	{
		_cleanup_fd_ int first = dup(0), second = dup(0);
		_cleanup_free_ char *mine = strdup("x");

		CU_ASSERT_EQUAL(count_fds(), before + 2);
		kept = steal_fd(&second);
		text = steal_ptr(&mine);
		CU_ASSERT_EQUAL(second, -1);
		CU_ASSERT_PTR_NULL(mine);
		CU_ASSERT(first >= 0);
	}
	CU_ASSERT_EQUAL(count_fds(), before + 1);
	CU_ASSERT_STRING_EQUAL(text, "x");
	free(text);
	close(kept);
}

/*
 * ---- fault points and log, which read their environment once: each in a process of its own ----
 */

static char logged[4096];

/* Runs a function with a variable set. Return: its exit status; what it logged is in logged[]. */
static int with(const char *name, const char *value, int (*run)(void))
{
	int ends[2], status;
	ssize_t got;
	size_t used = 0;
	pid_t pid;

	if (pipe(ends))
		abort();
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(ends[1], STDERR_FILENO);
		if (value)
			setenv(name, value, 1);
		else
			unsetenv(name);
		_exit(run());
	}
	close(ends[1]);
	while ((got = read(ends[0], logged + used, sizeof(logged) - 1 - used)) > 0)
		used += (size_t)got;
	logged[used] = 0;
	close(ends[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Return: how often of three each of the points was hit, as digits. */
static int hits(void)
{
	int a = 0, b = 0;

	for (unsigned i = 0; i < 3; i++) {
		a += fault_hit("page-drop");
		b += fault_hit("page");
	}
	return 10 * a + b;
}

static void faults_are_hit_as_asked_for(void)
{
	CU_ASSERT_EQUAL(with("SF_FAULT", NULL, hits), 0);
	CU_ASSERT_STRING_EQUAL(logged, "");
	CU_ASSERT_EQUAL(with("SF_FAULT", "", hits), 0);
	CU_ASSERT_EQUAL(with("SF_FAULT", "page-drop", hits), 30);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "fault: page-drop"));
	CU_ASSERT_EQUAL(with("SF_FAULT", "page-drop:2,page", hits), 23);
	CU_ASSERT_EQUAL(with("SF_FAULT", "other,page:0,pag,,page-drop:1", hits), 10);
	CU_ASSERT_EQUAL(with("SF_FAULT",
			     "page-drop-a-name-that-is-much-longer-than-there-is-room-for,page:1",
			     hits),
			1);
}

static int log_all(void)
{
	char longer[3000];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	log_init("prog", LOG_LVL_WARN);
	errno = 77;
	log_err("vm %d: lost", 3);
	log_warn("warned");
	log_info("informed");
	log_debug("%s", longer);
	return errno == 77 ? log_enabled(LOG_LVL_INFO) : 99;
}

static void log_prints_the_level_asked_for(void)
{
	CU_ASSERT_EQUAL(with("SF_LOG", NULL, log_all), 0);
	CU_ASSERT_EQUAL(strncmp(logged, "prog: ", 6), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, " err: vm 3: lost\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, " warn: warned\n"));
	CU_ASSERT_PTR_NULL(strstr(logged, "informed"));
	CU_ASSERT_EQUAL(with("SF_LOG", "err", log_all), 0);
	CU_ASSERT_PTR_NULL(strstr(logged, "warned"));
	CU_ASSERT_EQUAL(with("SF_LOG", "nonsense", log_all), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "warned"));
	CU_ASSERT_EQUAL(with("SF_LOG", "debug", log_all), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "informed"));
	/* a line that is too long is cut, and still a line */
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "xxxx\n"));
	CU_ASSERT_EQUAL(logged[strlen(logged) - 1], '\n');
}

static int log_nowhere(void)
{
	close(STDERR_FILENO);
	errno = 77;
	log_err("nobody hears this");
	return errno == 77 ? 0 : 1;
}

static void log_without_stderr_keeps_errno(void)
{
	CU_ASSERT_EQUAL(with("SF_LOG", NULL, log_nowhere), 0);
}

static CU_TestInfo tests[] = {
	{ "read_full goes on until all is there", read_full_goes_on_until_all_is_there },
	{ "write_full writes more than a pipe holds", write_full_writes_more_than_a_pipe_holds },
	{ "descriptors travel with a message", descriptors_travel_with_a_message },
	{ "what does not fit leaves no descriptor", what_does_not_fit_leaves_no_descriptor },
	{ "flags change alone", flags_change_alone },
	{ "files are read whole or not", files_are_read_whole_or_not },
	{ "time goes forward", time_goes_forward },
	{ "locals are freed and stolen", locals_are_freed_and_stolen },
	{ "faults are hit as asked for", faults_are_hit_as_asked_for },
	{ "log prints the level asked for", log_prints_the_level_asked_for },
	{ "log without stderr keeps errno", log_without_stderr_keeps_errno },
	CU_TEST_INFO_NULL
};

int main(void)
{
	CU_SuiteInfo suites[] = { { "common", NULL, NULL, NULL, NULL, tests }, CU_SUITE_INFO_NULL };
	unsigned failed;

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
