/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages that sfd would never send: each gets its error, and changes nothing. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "tests/memtap/harness.h"

#define PAGES 64u
#define RAM_BYTES (PAGES * (uint64_t)MEMTAP_PAGE_BYTES)

static struct test_host host;
static struct test_file file;

static int say(struct memtap_request r, const int *fds, unsigned nfds)
{
	return host_say(&host, &r, fds, nfds, NULL);
}

static int say_op(uint32_t op, uint32_t number)
{
	return say((struct memtap_request){ .op = op, .file = number, .vm = number }, NULL, 0);
}

static void begin(void)
{
	host = host_start(PAGES, 0, NULL);
	file = test_file_create(3, PAGES);
	CU_ASSERT_EQUAL(host_file(&host, &file, 0), 0);
}

static void end(void)
{
	/* it has not died of anything */
	CU_ASSERT_EQUAL(host_stop(&host), 0);
	test_file_destroy(&file);
}

static void test_sizes_and_operations(void)
{
	struct memtap_request r[2] = { { .op = MEMTAP_STATS, .vm = MEMTAP_ALL } };
	struct memtap_stats answer;
	static const size_t sizes[] = { 1, 4, sizeof(r[0]) - 1, sizeof(r[0]) + 1,
					2 * sizeof(r[0]) };

	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		CU_ASSERT_EQUAL(io_send_fds(host.control, r, sizes[i], NULL, 0), 0);
		CU_ASSERT_EQUAL(host_answer(&host, &answer), EINVAL);
	}
	CU_ASSERT_EQUAL(say_op(0, 3), EINVAL);
	CU_ASSERT_EQUAL(say_op(MEMTAP_LAYERS + 1, 3), EINVAL);
	CU_ASSERT_EQUAL(say_op(UINT32_MAX, 3), EINVAL);
	r[0].flags = 2;
	CU_ASSERT_EQUAL(say(r[0], NULL, 0), EINVAL);
	r[0].flags = 0;
	r[0].window_pages = 1;
	CU_ASSERT_EQUAL(say(r[0], NULL, 0), EINVAL);
	r[0].window_pages = 0;
	r[0].window = 1;
	CU_ASSERT_EQUAL(say(r[0], NULL, 0), EINVAL);
	r[0].window = 0;
	CU_ASSERT_EQUAL(say(r[0], NULL, 0), 0);
	end();
}

static void test_descriptors(void)
{
	int fds[IO_MAX_FDS];
	struct memtap_request r = { .op = MEMTAP_FILE, .file = 9 };

	begin();
	for (unsigned i = 0; i < IO_MAX_FDS; i++)
		fds[i] = i % 2 ? file.map_fd : file.page_fd;
	for (unsigned n = 0; n <= IO_MAX_FDS; n++)
		CU_ASSERT_EQUAL(say(r, fds, n), n == 2 ? 0 : EINVAL);
	CU_ASSERT_EQUAL(say(r, fds, 2), EEXIST);
	r.file = 10;
	CU_ASSERT_EQUAL(say(r, fds + 1, 2), EINVAL);	/* pages and map the wrong way round */
	CU_ASSERT_EQUAL(
		say((struct memtap_request){ .op = MEMTAP_STATS, .vm = MEMTAP_ALL }, fds, 1),
		EINVAL);
	end();
}

static void test_init(void)
{
	struct memtap_request r = { .op = MEMTAP_INIT, .bytes = RAM_BYTES };

	begin();
	CU_ASSERT_EQUAL(say(r, &host.udp, 1), EINVAL);	/* the second time */
	end();
}

static void test_before_init(void)
{
	static const uint64_t wrong[] = { 0, 1, 4095, MEMTAP_MAX_RAM_BYTES + 4096, UINT64_MAX };
	struct memtap_request r = { .op = MEMTAP_INIT };
	int pair[2], pipes[2];

	begin();
	host_kill(&host);
	host_spawn(&host, NULL);
	for (uint32_t op = MEMTAP_PARENT; op <= MEMTAP_STATS; op++)
		CU_ASSERT_EQUAL(say_op(op, 0), EINVAL);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		r.bytes = wrong[i];
		CU_ASSERT_EQUAL(say(r, &host.udp, 1), EINVAL);
	}
	r.bytes = RAM_BYTES;
	CU_ASSERT_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
	CU_ASSERT_EQUAL(say(r, pipes, 1), EINVAL);
	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	CU_ASSERT_EQUAL(say(r, pair, 1), EINVAL);
	CU_ASSERT_EQUAL(say(r, &host.udp, 1), 0);
	for (unsigned i = 0; i < 2; i++) {
		close(pair[i]);
		close(pipes[i]);
	}
	end();
}

static void test_mappings(void)
{
	static const struct {
		uint64_t base, bytes;
	} wrong[] = {
		{ 0, RAM_BYTES },	    { 0x10000, 0 },
		{ 0x10000, RAM_BYTES - 4096 }, { 0x10000, RAM_BYTES + 4096 },
		{ 0x10001, RAM_BYTES },	    { UINT64_MAX - 4095, RAM_BYTES },
		{ 0x10000, RAM_BYTES },	    /* a valid one, but it is not the VM's */
	};
	struct test_vm clone, parent = vm_parent(PAGES);
	int parent_fds[] = { parent.uffd, parent.ram_fd };

	begin();
	clone = vm_clone(&file);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct memtap_request r = { .op = MEMTAP_CLONE, .file = 3, .base = wrong[i].base,
					    .bytes = wrong[i].bytes };

		CU_ASSERT_EQUAL(say(r, &clone.uffd, 1), EINVAL);
		r.op = MEMTAP_PARENT;
		CU_ASSERT_EQUAL(say(r, parent_fds, 2), EINVAL);
	}
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &host, 4, 0, 0), ENOENT);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &host, 3, MEMTAP_ALL, 0), EINVAL);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &host, 3, 0, 0), 0);
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &host, 3, 0, 0), EEXIST);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &host, 0), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &host, 0), EEXIST);
	CU_ASSERT_EQUAL(host_arm(&host, 3, 1, 0), 0);
	vm_end(&clone);
	vm_end(&parent);
	end();
}

static void test_what_is_no_userfaultfd(void)
{
	struct memtap_request r = {
		.op = MEMTAP_CLONE, .file = 3, .base = 0x10000, .bytes = RAM_BYTES
	};
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[] = { null, null };

	begin();
	CU_ASSERT_EQUAL(say(r, fds, 1), ENOTTY);
	r.op = MEMTAP_PARENT;
	CU_ASSERT_EQUAL(say(r, fds, 2), ENOTTY);
	end();
}

static void test_sources(void)
{
	struct test_vm parent = vm_parent(PAGES);
	struct test_host nowhere = { 0 };
	struct test_file second = test_file_create(4, PAGES), third = test_file_create(5, PAGES);

	begin();
	CU_ASSERT_EQUAL(host_file(&host, &second, 0), 0);
	CU_ASSERT_EQUAL(host_file(&host, &third, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&host, 3, 1, 0), ENXIO);	/* no parent here */
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &host, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&host, 99, 1, 0), ENOENT);
	CU_ASSERT_EQUAL(host_arm(&host, 3, 1, MEMTAP_F_AGAIN), EINVAL);	/* nobody has died */
	CU_ASSERT_EQUAL(host_begin(&host, 99, 1, &host, 0), ENOENT);
	CU_ASSERT_EQUAL(host_begin(&host, 3, 1, &nowhere, 0), EINVAL);
	CU_ASSERT_EQUAL(host_begin_local(&host, 99, 3, 0), ENOENT);
	CU_ASSERT_EQUAL(host_begin_local(&host, 3, 99, 0), ENOENT);
	CU_ASSERT_EQUAL(host_begin_local(&host, 3, 3, 0), EINVAL);
	CU_ASSERT_EQUAL(host_begin_local(&host, 3, 4, 0), EINVAL);	/* no snapshot */
	CU_ASSERT_EQUAL(host_arm(&host, 3, 1, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&host, 3, 2, 0), EINVAL);
	CU_ASSERT_EQUAL(host_arm(&host, 4, 1, 0), EEXIST);	/* the number is served already */
	CU_ASSERT_EQUAL(host_begin(&host, 4, 1, &host, 0), EINVAL);	/* of itself */
	CU_ASSERT_EQUAL(host_begin(&host, 4, 2, &host, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&host, 4, 2, &host, 0), EINVAL);
	CU_ASSERT_EQUAL(host_begin_local(&host, 5, 4, 0), EINVAL);
	CU_ASSERT_EQUAL(host_begin_local(&host, 5, 3, 0), 0);
	CU_ASSERT_EQUAL(say_op(MEMTAP_CLONE_GONE, 0), ENOENT);
	CU_ASSERT_EQUAL(say_op(MEMTAP_FILE_GONE, 99), ENOENT);
	CU_ASSERT_EQUAL(say_op(MEMTAP_FILE_GONE, 3), EINPROGRESS);
	CU_ASSERT_EQUAL(say_op(MEMTAP_FILE_GONE, 5), 0);
	CU_ASSERT_EQUAL(say_op(MEMTAP_FILE_GONE, 3), 0);
	CU_ASSERT_EQUAL(say_op(MEMTAP_STATS, 12), ENOENT);
	vm_end(&parent);
	test_file_destroy(&second);
	test_file_destroy(&third);
	end();
}

/* A memfd of so many bytes. */
static int memfd_of(uint64_t bytes)
{
	int fd = memfd_create("some", MFD_CLOEXEC);

	CU_ASSERT_EQUAL(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void test_dead_pages(void)
{
	static const uint64_t wrong[] = { 0, 1, 7, 9, 16, 4096 };
	struct test_vm parent = vm_parent(PAGES);
	struct memtap_request ops[] = { arm_request(3, 1, 0), begin_request(3, 1, &host, 0),
					{ .op = MEMTAP_BEGIN_LOCAL, .file = 3, .other = 4 } };
	struct test_file second = test_file_create(4, PAGES);
	int dead = test_dead_create(PAGES), fds[] = { dead, dead };

	begin();
	test_dead_set(dead, 0, PAGES);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &host, 0), 0);
	CU_ASSERT_EQUAL(host_file(&host, &second, 0), 0);
	CU_ASSERT_EQUAL(host_arm(&host, 4, 9, 0), 0);
	ops[1].source.addr = host.addr;
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(wrong); k++) {
			_cleanup_fd_ int fd = memfd_of(wrong[k]);

			CU_ASSERT_EQUAL(say(ops[i], &fd, 1), EINVAL);
		}
		CU_ASSERT_EQUAL(say(ops[i], &host.udp, 1), EINVAL);
		CU_ASSERT_EQUAL(say(ops[i], fds, 2), EINVAL);
	}
	/* the source is no good, so the dead pages are not taken either */
	ops[2].other = 5;
	CU_ASSERT_EQUAL(say(ops[2], &dead, 1), ENOENT);
	ops[1].source.addr.sin6_port = 0;
	CU_ASSERT_EQUAL(say(ops[1], &dead, 1), EINVAL);
	ops[0].snapshot = 9;
	CU_ASSERT_EQUAL(say(ops[0], &dead, 1), EINVAL);	/* known with another key */
	CU_ASSERT_EQUAL(test_file_count(&file, PAGE_ABSENT), PAGES);
	ops[0].snapshot = 1;
	CU_ASSERT_EQUAL(say(ops[0], &dead, 1), 0);
	CU_ASSERT_EQUAL(test_file_count(&file, PAGE_DEAD), PAGES);
	CU_ASSERT_EQUAL(test_file_count(&second, PAGE_ABSENT), PAGES);
	vm_end(&parent);
	test_file_destroy(&second);
	cleanup_close(&dead);
	end();
}

static void test_windows(void)
{
	static const struct {
		uint64_t window;
		uint32_t pages;
		uint64_t file_pages;	/* of the memfd; 0: none comes */
	} wrong[] = {
		{ 0, 0, 1 },	       { 0, 2, 0 },	      { 0, 2, 2 },
		{ 0, 2, 4 },	       { PAGES, 1, 2 },	      { PAGES - 1, 2, 3 },
		{ 0, PAGES + 1, PAGES + 2 }, { UINT64_MAX, 2, 3 }, { 0, UINT32_MAX, 1 },
		{ UINT64_MAX - 1, 3, 4 }, { 1, 0, 0 },
	};
	struct test_window window = test_window_create(60, 4, 1);
	struct memtap_request r = { .op = MEMTAP_CLONE, .file = 3, .bytes = RAM_BYTES };
	struct test_vm clone;

	begin();
	clone = vm_clone_with(&file, &window);
	r.base = clone.base;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_fd_ int fd = memfd_of(wrong[i].file_pages * MEMTAP_PAGE_BYTES);
		int fds[] = { clone.uffd, fd };

		r.window = wrong[i].window;
		r.window_pages = wrong[i].pages;
		CU_ASSERT_EQUAL(say(r, fds, wrong[i].file_pages ? 2 : 1), EINVAL);
	}
	CU_ASSERT_EQUAL(vm_give_clone(&clone, &host, 3, 0, 0), 0);
	CU_ASSERT_EQUAL(vm_do_some(&clone, VM_ZEROS, 0, 61, 3), 0);
	vm_end(&clone);
	CU_ASSERT_EQUAL(host_clone_gone(&host, 0), 0);
	test_window_destroy(&window);
	end();
}

static void test_one_snapshot_has_one_key(void)
{
	struct memtap_request r = {
		.op = MEMTAP_BEGIN, .file = 9, .snapshot = 1, .key = { 1, 2, 3 }
	};
	struct test_file second = test_file_create(9, PAGES);

	begin();
	CU_ASSERT_EQUAL(host_file(&host, &second, 0), 0);
	CU_ASSERT_EQUAL(host_begin(&host, 3, 1, &host, 0), 0);
	r.source.addr = host.addr;
	CU_ASSERT_EQUAL(say(r, NULL, 0), EINVAL);
	test_file_destroy(&second);
	end();
}

static void test_limits(void)
{
	struct memtap_request r = { .op = MEMTAP_FILE, .file = 100 };
	int fds[2];

	begin();
	fds[0] = file.page_fd;
	fds[1] = file.map_fd;
	for (unsigned i = 1; i < MEMTAP_MAX_FILES; i++, r.file++)
		CU_ASSERT_EQUAL(say(r, fds, 2), 0);
	CU_ASSERT_EQUAL(say(r, fds, 2), ENOSPC);
	CU_ASSERT_EQUAL(say_op(MEMTAP_FILE_GONE, 100), 0);
	CU_ASSERT_EQUAL(say(r, fds, 2), 0);
	end();
}

/* Many requests under way, and nobody takes the answers: it waits, and answers all of them. */
static void test_answers_wait_for_room(void)
{
	struct memtap_request r = { .op = MEMTAP_STATS, .vm = MEMTAP_ALL };
	unsigned sent = 0, answered = 0;
	struct memtap_stats stats;

	begin();
	CU_ASSERT_EQUAL(io_set_nonblock(host.control, true), 0);
	while (sent < 100000 && host_send(&host, &r, NULL, 0) == 0)
		sent++;
	CU_ASSERT_EQUAL(io_set_nonblock(host.control, false), 0);
	for (; answered < sent && host_answer(&host, &stats) == 0; answered++)
		;
	CU_ASSERT_EQUAL(answered, sent);
	CU_ASSERT_EQUAL(say(r, NULL, 0), 0);
	end();
}

static const struct test tests[] = {
	{ "sizes and operations", test_sizes_and_operations },
	{ "descriptors", test_descriptors },
	{ "a second start", test_init },
	{ "before the start", test_before_init },
	{ "mappings", test_mappings },
	{ "what is no userfaultfd", test_what_is_no_userfaultfd },
	{ "sources", test_sources },
	{ "dead pages", test_dead_pages },
	{ "windows", test_windows },
	{ "one snapshot has one key", test_one_snapshot_has_one_key },
	{ "limits", test_limits },
	{ "answers wait for room", test_answers_wait_for_room },
};

int main(int argc, char **argv)
{
	need_userfaultfd();
	return run_tests("control", tests, ARRAY_SIZE(tests), argc, argv);
}
