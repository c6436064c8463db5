/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting sf-memtap, talking to it, running tests. The VMs are in vm.c. */
#include "config.h"

#include "tests/memtap/harness.h"

#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "proto/kmod.h"

#define DIE(what)                                                                     \
	do {                                                                          \
		fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, strerror(errno)); \
		exit(99);                                                             \
	} while (0)

void need_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	_cleanup_fd_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0) {
		fprintf(stderr, "skipped: no userfaultfd with write-protect of shared memory: %s\n",
			strerror(errno));
		exit(SKIP);
	}
}

struct test_file test_file_create(uint32_t number, uint64_t pages)
{
	struct test_file f = { .number = number, .pages = pages };

	f.page_fd = memfd_create("pages", MFD_CLOEXEC);
	f.map_fd = memfd_create("map", MFD_CLOEXEC);
	if (f.page_fd < 0 || f.map_fd < 0 ||
	    ftruncate(f.page_fd, (off_t)(pages * MEMTAP_PAGE_BYTES)) < 0 ||
	    ftruncate(f.map_fd, (off_t)pages) < 0)
		DIE("memfd");
	return f;
}

void test_file_destroy(struct test_file *f)
{
	cleanup_close(&f->page_fd);
	cleanup_close(&f->map_fd);
}

uint64_t test_file_blocks(int memfd)
{
	struct stat st;

	if (fstat(memfd, &st) < 0)
		DIE("fstat");
	return (uint64_t)st.st_blocks * 512 / MEMTAP_PAGE_BYTES;
}

uint64_t test_file_count(const struct test_file *f, enum page_state state)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < f->pages; i++) {
		uint8_t byte;

		if (pread(f->map_fd, &byte, 1, (off_t)i) != 1)
			DIE("map");
		count += byte == state;
	}
	return count;
}

int test_dead_create(uint64_t pages)
{
	int fd = memfd_create("dead", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)((pages + 63) / 64 * 8)) < 0)
		DIE("memfd");
	return fd;
}

static void set_bit(uint8_t *bits, uint64_t bit)
{
	bits[bit / 8] |= (uint8_t)(1u << bit % 8);
}

void test_dead_set(int dead_fd, uint64_t first, uint64_t count)
{
	struct stat st;
	uint8_t *bits;

	if (fstat(dead_fd, &st) < 0)
		DIE("fstat");
	bits = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, dead_fd, 0);
	if (bits == MAP_FAILED)
		DIE("mmap");
	for (uint64_t i = first; i < first + count; i++)
		set_bit(bits, i);
	munmap(bits, (size_t)st.st_size);
}

struct test_window test_window_create(uint64_t first, uint64_t pages, uint64_t seed)
{
	struct test_window w = { .first = first, .pages = pages };
	uint64_t bytes = (pages + 1) * MEMTAP_PAGE_BYTES;

	w.fd = memfd_create("window", MFD_CLOEXEC);
	if (w.fd < 0 || ftruncate(w.fd, (off_t)bytes) < 0 ||
	    fallocate(w.fd, 0, MEMTAP_PAGE_BYTES, (off_t)(bytes - MEMTAP_PAGE_BYTES)) < 0)
		DIE("memfd");
	w.map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, w.fd, 0);
	if (w.map == MAP_FAILED)
		DIE("mmap");
	content_page(seed | CONTENT_FULL, 0, w.map + pages * MEMTAP_PAGE_BYTES);
	return w;
}

void test_window_destroy(struct test_window *w)
{
	munmap(w->map, (w->pages + 1) * MEMTAP_PAGE_BYTES);
	cleanup_close(&w->fd);
}

void test_window_free(struct test_window *w, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		set_bit(w->map + MEMTAP_PAGE_BYTES, sfk_gfn(i));
}

bool test_window_letter(const struct test_window *w, uint8_t page[MEMTAP_PAGE_BYTES])
{
	if (lseek(w->fd, 0, SEEK_DATA) != 0)
		return false;
	if (pread(w->fd, page, MEMTAP_PAGE_BYTES, 0) != MEMTAP_PAGE_BYTES)
		DIE("pread");
	return true;
}

/* Becomes sf-memtap. */
static void become_memtap(int control, const char *fault)
{
	const char *program = getenv("SF_MEMTAP");
	char number[16];

	if (!program)
		program = "../../host/memtap/sf-memtap";
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	io_set_inherit(control, true);
	snprintf(number, sizeof(number), "%d", control);
	if (fault)
		setenv("SF_FAULT", fault, 1);
	else
		unsetenv("SF_FAULT");
	execl(program, program, number, "test", NULL);
	DIE(program);
}

void host_spawn(struct test_host *h, const char *fault)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		DIE("socketpair");
	h->pid = fork();
	if (h->pid < 0)
		DIE("fork");
	if (!h->pid)
		become_memtap(pair[1], fault);
	close(pair[1]);
	h->control = pair[0];
}

static struct sockaddr_in group_at;

void harness_group(const char *address, uint16_t port)
{
	group_at.sin_family = AF_INET;
	group_at.sin_port = htons(port);
	if (inet_pton(AF_INET, address, &group_at.sin_addr) != 1)
		DIE(address);
}

static int group_socket(void)
{
	int fd, on = 1;

	if (!group_at.sin_port)
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&group_at, sizeof(group_at)) < 0)
		DIE("group socket");
	return fd;
}

static void host_init(struct test_host *h, uint32_t sweep_pages_per_s, uint32_t flags)
{
	struct memtap_request init = { .op = MEMTAP_INIT, .flags = flags, .arg = sweep_pages_per_s,
				       .bytes = h->pages * MEMTAP_PAGE_BYTES };

	int fds[] = { h->udp, h->group };

	if (host_say(h, &init, fds, h->group < 0 ? 1 : 2, NULL))
		DIE("MEMTAP_INIT");
}

/* Changes this thread's network namespace. Return: the one it was in, or -1 if nothing changed. */
static int enter_netns(const char *path)
{
	_cleanup_fd_ int there = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int here = path ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;

	if (path && (there < 0 || here < 0 || setns(there, CLONE_NEWNET) < 0))
		DIE(path);
	return here;
}

int place_socket(const struct test_place *place, sa_family_t family, struct sockaddr_in6 *mapped)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr *at =
		family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)mapped;
	socklen_t len = family == AF_INET ? sizeof(in) : sizeof(*mapped);
	int here = enter_netns(place->netns), off = 0, fd;

	*mapped = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	memset(&mapped->sin6_addr.s6_addr[10], 0xff, 2);
	if (inet_pton(AF_INET, place->address, &in.sin_addr) != 1)
		DIE(place->address);
	memcpy(&mapped->sin6_addr.s6_addr[12], &in.sin_addr, sizeof(in.sin_addr));
	fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (fd < 0 || bind(fd, at, len) < 0 || getsockname(fd, at, &len) < 0)
		DIE("UDP socket");
	if (family == AF_INET)
		mapped->sin6_port = in.sin_port;
	if (here >= 0 && setns(here, CLONE_NEWNET) < 0)
		DIE("setns");
	cleanup_close(&here);
	return fd;
}

struct test_host host_start_at(const struct test_place *place, uint64_t pages,
			       uint32_t sweep_pages_per_s, const char *fault)
{
	struct test_host h = { .pages = pages };
	static unsigned count;

	/* both families meet: every other host has an IPv6 socket with a mapped address */
	h.udp = place_socket(place, count++ % 2 ? AF_INET6 : AF_INET, &h.addr);
	h.group = group_socket();
	host_spawn(&h, fault);
	host_init(&h, sweep_pages_per_s, 0);
	return h;
}

struct test_host host_start(uint64_t pages, uint32_t sweep_pages_per_s, const char *fault)
{
	return host_start_at(&(struct test_place){ .address = "127.0.0.1" }, pages,
			     sweep_pages_per_s, fault);
}

void host_restart(struct test_host *h, uint32_t sweep_pages_per_s)
{
	host_spawn(h, NULL);
	host_init(h, sweep_pages_per_s, MEMTAP_F_AGAIN);
}

int host_wait(struct test_host *h)
{
	int status = 0;

	if (waitpid(h->pid, &status, 0) != h->pid)
		DIE("waitpid");
	cleanup_close(&h->control);
	h->control = -1;
	h->pid = 0;
	return status;
}

void host_kill(struct test_host *h)
{
	kill(h->pid, SIGKILL);
	host_wait(h);
}

int host_stop(struct test_host *h)
{
	int status;

	cleanup_close(&h->control);
	h->control = -1;
	status = host_wait(h);
	cleanup_close(&h->udp);
	cleanup_close(&h->group);
	return status;
}

int host_send(struct test_host *h, const struct memtap_request *r, const int *fds, unsigned nfds)
{
	return io_send_fds(h->control, r, sizeof(*r), fds, nfds);
}

int host_answer(struct test_host *h, struct memtap_stats *stats)
{
	struct pollfd p = { .fd = h->control, .events = POLLIN };
	ssize_t len;

	if (poll(&p, 1, TEST_PATIENCE_MS) != 1)
		DIE("sf-memtap does not answer");
	len = recv(h->control, stats, sizeof(*stats), 0);
	if (len <= 0)
		return -ECONNRESET;
	return stats->head.error;
}

int host_say(struct test_host *h, const struct memtap_request *r, const int *fds, unsigned nfds,
	     struct memtap_stats *stats)
{
	struct memtap_stats answer = { 0 };
	int error = host_send(h, r, fds, nfds);

	if (!error)
		error = host_answer(h, &answer);
	if (stats)
		*stats = answer;
	return error;
}

int host_file(struct test_host *h, const struct test_file *f, uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_FILE, .flags = flags, .file = f->number };
	int fds[] = { f->page_fd, f->map_fd };

	return host_say(h, &r, fds, 2, NULL);
}

void snapshot_key(uint64_t number, uint8_t key[MEMTAP_KEY_BYTES])
{
	for (unsigned i = 0; i < MEMTAP_KEY_BYTES; i++)
		key[i] = (uint8_t)(number * 31 + i);
}

struct memtap_request arm_request(uint32_t file, uint64_t number, uint32_t flags)
{
	struct memtap_request r = {
		.op = MEMTAP_ARM, .flags = flags, .file = file, .snapshot = number
	};

	snapshot_key(number, r.key);
	return r;
}

int host_arm(struct test_host *h, uint32_t file, uint64_t number, uint32_t flags)
{
	struct memtap_request r = arm_request(file, number, flags);

	return host_say(h, &r, NULL, 0, NULL);
}

struct memtap_request begin_request(uint32_t file, uint64_t number, const struct test_host *from,
				    uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_BEGIN,
				    .flags = flags,
				    .file = file,
				    .snapshot = number,
				    .source.addr = from->addr };

	snapshot_key(number, r.key);
	return r;
}

int host_begin(struct test_host *h, uint32_t file, uint64_t number, const struct test_host *from,
	       uint32_t flags)
{
	struct memtap_request r = begin_request(file, number, from, flags);

	return host_say(h, &r, NULL, 0, NULL);
}

int host_begin_local(struct test_host *h, uint32_t file, uint32_t other, uint32_t flags)
{
	struct memtap_request r = {
		.op = MEMTAP_BEGIN_LOCAL, .flags = flags, .file = file, .other = other
	};

	return host_say(h, &r, NULL, 0, NULL);
}

int host_clone_gone(struct test_host *h, uint32_t vm)
{
	struct memtap_request r = { .op = MEMTAP_CLONE_GONE, .vm = vm };

	return host_say(h, &r, NULL, 0, NULL);
}

int host_file_gone(struct test_host *h, uint32_t file)
{
	struct memtap_request r = { .op = MEMTAP_FILE_GONE, .file = file };
	int first = host_say(h, &r, NULL, 0, NULL), error = first;

	/* each question is a turn of its event loop, in which it does some of what is left */
	while (error == EINPROGRESS)
		error = host_say(h, &r, NULL, 0, NULL);
	return error ? error : first;
}

struct memtap_stats host_stats(struct test_host *h, uint32_t vm)
{
	struct memtap_request r = { .op = MEMTAP_STATS, .vm = vm };
	struct memtap_stats stats;

	host_say(h, &r, NULL, 0, &stats);
	return stats;
}

int run_tests(const char *suite, const struct test *tests, unsigned count, int argc, char **argv)
{
	unsigned failed;
	CU_pSuite s;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	s = CU_add_suite(suite, NULL, NULL);
	for (unsigned i = 0; i < count; i++) {
		if (argc < 2 || strstr(tests[i].name, argv[1]))
			CU_add_test(s, tests[i].name, tests[i].run);
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
