/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that play VMs: they map memory, hand over a userfaultfd, and do what they are told. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "tests/memtap/harness.h"

#define MAX_THREADS 8

uint64_t *vm_times;

static uint64_t scramble(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

enum content_kind content_kind(uint64_t seed, uint64_t gfn)
{
	if (seed & CONTENT_FULL)
		return CONTENT_NUMBERS;
	switch (scramble(gfn) % 7) {
	case 0:
		return CONTENT_HOLE;
	case 1:
		return CONTENT_ZEROS;
	default:
		return CONTENT_NUMBERS;
	}
}

void content_page(uint64_t seed, uint64_t gfn, uint8_t page[MEMTAP_PAGE_BYTES])
{
	uint64_t x = scramble(seed + 1) ^ scramble(gfn + 1);

	if (content_kind(seed, gfn) != CONTENT_NUMBERS) {
		memset(page, 0, MEMTAP_PAGE_BYTES);
		return;
	}
	for (unsigned i = 0; i < MEMTAP_PAGE_BYTES; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(page + i, &x, 8);
	}
}

struct work {
	uint8_t *ram;
	uint64_t pages;
	struct vm_order order;
	uint32_t thread;
	uint64_t answer;
};

static void work_on_page(struct work *w, uint64_t gfn)
{
	uint8_t *at = w->ram + gfn * MEMTAP_PAGE_BYTES;
	uint8_t page[MEMTAP_PAGE_BYTES];

	switch ((enum vm_op)w->order.op) {
	case VM_FILL:
		if (content_kind(w->order.seed, gfn) != CONTENT_HOLE)
			content_page(w->order.seed, gfn, at);
		break;
	case VM_POKE:
		*(volatile uint8_t *)at = (uint8_t)w->order.seed;
		break;
	case VM_CHECK:
		content_page(w->order.seed, gfn, page);
		w->answer += memcmp(at, page, sizeof(page)) != 0;
		break;
	case VM_ZEROS:
		w->answer += at[0] || memcmp(at, at + 1, MEMTAP_PAGE_BYTES - 1);
		break;
	case VM_TOUCH:
		w->answer += *(volatile uint8_t *)at;
		break;
	case VM_TIME:
		vm_times[gfn] = io_now_ns();
		w->answer += *(volatile uint8_t *)at;
		vm_times[gfn] = io_now_ns() - vm_times[gfn];
		break;
	}
}

/* Threads take every n-th page, so that they meet in the same places. */
static void *work(void *arg)
{
	struct work *w = arg;
	uint64_t step = w->order.step * w->order.threads;
	uint64_t end = w->order.first + w->order.pages;

	for (uint64_t gfn = w->order.first + w->thread * w->order.step; gfn < end; gfn += step)
		work_on_page(w, gfn);
	return NULL;
}

static uint64_t carry_out(uint8_t *ram, uint64_t pages, const struct vm_order *order)
{
	struct work works[MAX_THREADS];
	pthread_t threads[MAX_THREADS];
	uint64_t answer = 0;

	for (uint32_t i = 0; i < order->threads; i++) {
		works[i] =
			(struct work){ .ram = ram, .pages = pages, .order = *order, .thread = i };
		if (pthread_create(&threads[i], NULL, work, &works[i]))
			_exit(98);
	}
	for (uint32_t i = 0; i < order->threads; i++) {
		pthread_join(threads[i], NULL);
		answer += works[i].answer;
	}
	return answer;
}

static bool map_window(uint8_t *ram, const struct test_window *w)
{
	return !w || mmap(ram + w->first * MEMTAP_PAGE_BYTES, w->pages * MEMTAP_PAGE_BYTES,
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, w->fd, 0) != MAP_FAILED;
}

/* In the child: never returns. */
static void vm_main(int orders, int fd, uint64_t pages, int map_flags, const struct test_window *w)
{
	uint64_t bytes = pages * MEMTAP_PAGE_BYTES;
	uint8_t *ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, map_flags, fd, 0);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	uint64_t base = (uintptr_t)ram;
	struct vm_order order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ram == MAP_FAILED || !map_window(ram, w) || uffd < 0 ||
	    io_send_fds(orders, &base, sizeof(base), &uffd, 1))
		_exit(98);
	/* its own userfaultfd stays open, as QEMU's does */
	while (io_read_full(orders, &order, sizeof(order)) == 0) {
		uint64_t answer = carry_out(ram, pages, &order);

		if (io_write_full(orders, &answer, sizeof(answer)))
			break;
	}
	_exit(0);
}

static struct test_vm vm_spawn(int fd, uint64_t pages, int map_flags, const struct test_window *w)
{
	struct test_vm vm = { .pages = pages, .ram_fd = -1, .window = w };
	unsigned nfds;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	vm.pid = fork();
	if (vm.pid < 0)
		abort();
	if (!vm.pid) {
		close(pair[0]);
		vm_main(pair[1], fd, pages, map_flags, w);
	}
	close(pair[1]);
	vm.orders = pair[0];
	if (io_recv_fds(vm.orders, &vm.base, sizeof(vm.base), &vm.uffd, 1, &nfds) !=
		    sizeof(vm.base) || nfds != 1)
		abort();
	return vm;
}

struct test_vm vm_parent(uint64_t pages)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	struct test_vm vm;

	if (fd < 0 || ftruncate(fd, (off_t)(pages * MEMTAP_PAGE_BYTES)) < 0)
		abort();
	vm = vm_spawn(fd, pages, MAP_SHARED, NULL);
	vm.ram_fd = fd;
	return vm;
}

struct test_vm vm_clone(const struct test_file *f)
{
	return vm_clone_with(f, NULL);
}

struct test_vm vm_clone_with(const struct test_file *f, const struct test_window *w)
{
	return vm_spawn(f->page_fd, f->pages, MAP_PRIVATE | MAP_NORESERVE, w);
}

void vm_end(struct test_vm *vm)
{
	kill(vm->pid, SIGKILL);
	waitpid(vm->pid, NULL, 0);
	cleanup_close(&vm->orders);
	cleanup_close(&vm->uffd);
	cleanup_close(&vm->ram_fd);
}

int vm_give_parent(struct test_vm *vm, struct test_host *h, uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_PARENT, .flags = flags, .base = vm->base,
				    .bytes = vm->pages * MEMTAP_PAGE_BYTES };
	int fds[] = { vm->uffd, vm->ram_fd };

	return host_say(h, &r, fds, 2, NULL);
}

int vm_give_clone(struct test_vm *vm, struct test_host *h, uint32_t file, uint32_t number,
		  uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_CLONE, .flags = flags, .file = file, .vm = number,
				    .base = vm->base, .bytes = vm->pages * MEMTAP_PAGE_BYTES };
	int fds[] = { vm->uffd, vm->window ? vm->window->fd : -1 };

	if (vm->window) {
		r.window = vm->window->first;
		r.window_pages = (uint32_t)vm->window->pages;
	}
	return host_say(h, &r, fds, vm->window ? 2 : 1, NULL);
}

#define PAGEMAP_UFFD_WP (1ull << 57)	/* Linux, Documentation/admin-guide/mm/pagemap.rst */

void vm_wait_protected(const struct test_vm *vm, bool is_protected)
{
	/* its tasks go from the first page to the last, which is one that was written */
	off_t at = (off_t)((vm->base / MEMTAP_PAGE_BYTES + vm->pages - 1) * sizeof(uint64_t));
	uint64_t deadline_ns = io_now_ns() + TEST_PATIENCE_MS * 1000000ull, entry = 0;
	_cleanup_fd_ int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", vm->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	do {
		if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry) ||
		    io_now_ns() > deadline_ns)
			abort();
		sched_yield();
	} while (!(entry & PAGEMAP_UFFD_WP) == is_protected);
}

void vm_order(struct test_vm *vm, const struct vm_order *order)
{
	if (io_write_full(vm->orders, order, sizeof(*order)))
		fprintf(stderr, "a VM is dead\n");
}

void vm_start(struct test_vm *vm, enum vm_op op, uint64_t seed, uint32_t threads)
{
	struct vm_order order = { .op = op, .threads = threads, .seed = seed, .pages = vm->pages,
				  .step = 1 };

	vm_order(vm, &order);
}

bool vm_is_ready(struct test_vm *vm, int wait_ms)
{
	struct pollfd p = { .fd = vm->orders, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

uint64_t vm_wait(struct test_vm *vm)
{
	uint64_t answer;

	if (!vm_is_ready(vm, TEST_PATIENCE_MS)) {
		fprintf(stderr, "a VM does not go on\n");
		return UINT64_MAX;
	}
	return io_read_full(vm->orders, &answer, sizeof(answer)) ? UINT64_MAX : answer;
}

uint64_t vm_do(struct test_vm *vm, enum vm_op op, uint64_t seed, uint32_t threads)
{
	vm_start(vm, op, seed, threads);
	return vm_wait(vm);
}

uint64_t vm_do_some(struct test_vm *vm, enum vm_op op, uint64_t seed, uint64_t first,
		    uint64_t pages)
{
	struct vm_order order = { .op = op, .threads = 1, .seed = seed, .first = first,
				  .pages = pages, .step = 1 };

	vm_order(vm, &order);
	return vm_wait(vm);
}
