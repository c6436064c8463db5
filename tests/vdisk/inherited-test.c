/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's layers at home, its clone elsewhere: by memtap, mcdist, the page file and sf-vdisk. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vdisk/layer.h"
#include "tests/memtap/harness.h"
#include "tests/vdisk/server.h"

#define LAYERS 3u
#define REQUEST_BLOCKS 32u

/* What the disk is made of at home. */
static struct {
	uint64_t blocks;
	int base;
	struct test_layer layers[LAYERS];
	uint32_t *model;
} home_disk;

static void disk_write(int file, uint64_t block, uint32_t value)
{
	uint8_t data[BLOCK];

	fill_block(data, value);
	if (pwrite(file, data, BLOCK, (off_t)(block * BLOCK)) != BLOCK)
		CU_FAIL_FATAL("pwrite");
}

static void disk_create(uint64_t blocks)
{
	home_disk.blocks = blocks;
	home_disk.model = calloc(blocks, sizeof(uint32_t));
	home_disk.base = memfd_create("base", MFD_CLOEXEC);
	for (uint64_t i = 0; i < blocks * 3 / 4; i++) {
		if (i % 5)
			disk_write(home_disk.base, i, home_disk.model[i] = (uint32_t)i + 1);
	}
	for (unsigned k = 0; k < LAYERS; k++) {
		struct layer layer;
		uint8_t data[BLOCK];

		home_disk.layers[k] = test_layer_create(blocks * BLOCK);
		CU_ASSERT_EQUAL_FATAL(layer_open(&layer, blocks * BLOCK, home_disk.layers[k].file,
						 home_disk.layers[k].map), 0);
		for (uint64_t i = k; i < blocks; i += 7 + k) {
			home_disk.model[i] = i % 3 ? 0x10000u * (k + 1) + (uint32_t)i : 0;
			fill_block(data, home_disk.model[i]);
			CU_ASSERT_EQUAL(layer_write(&layer, i, 1, data), 0);
		}
		layer_close(&layer);
	}
}

static void disk_destroy(void)
{
	for (unsigned k = 0; k < LAYERS; k++)
		test_layer_destroy(&home_disk.layers[k]);
	cleanup_close(&home_disk.base);
	free(home_disk.model);
}

static int tell_layers(struct test_host *h, uint32_t file, uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_LAYERS, .flags = flags, .file = file, .vm = 1,
				    .arg = LAYERS, .snapshot = 40 };
	int fds[1 + 2 * LAYERS] = { home_disk.base };

	snapshot_key(40, r.key);
	for (unsigned k = 0; k < LAYERS; k++) {
		fds[1 + 2 * k] = home_disk.layers[k].file;
		fds[2 + 2 * k] = home_disk.layers[k].map;
	}
	return host_say(h, &r, fds, 1 + 2 * LAYERS, NULL);
}

/* A home, a host elsewhere, and a clone's disk there. */
struct world {
	struct test_host home, away;
	struct test_file store, cache;
	struct server server;
	struct test_layer top;
	int uffd;
	uint64_t base;
};

static void tell_home(struct world *w, uint32_t flags)
{
	CU_ASSERT_EQUAL(host_file(&w->home, &w->store, flags), 0);
	CU_ASSERT_EQUAL(tell_layers(&w->home, w->store.number, flags), 0);
}

static void tell_away(struct world *w, uint32_t flags)
{
	struct memtap_request r = { .op = MEMTAP_CLONE, .flags = flags, .file = w->cache.number,
				    .vm = 3, .base = w->base, .bytes = home_disk.blocks * BLOCK };

	CU_ASSERT_EQUAL(host_file(&w->away, &w->cache, flags), 0);
	CU_ASSERT_EQUAL(host_begin(&w->away, w->cache.number, 40, &w->home, flags), 0);
	CU_ASSERT_EQUAL(host_say(&w->away, &r, &w->uffd, 1, NULL), 0);
}

static void start_server(struct world *w)
{
	struct vdisk_request r = { .op = VDISK_INHERITED };
	_cleanup_fd_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct vdisk_reply reply;

	if (device < 0) {
		fprintf(stderr, "skipped: /dev/userfaultfd: %s\n", strerror(errno));
		exit(SKIP);
	}
	w->server = server_start(home_disk.blocks * BLOCK);
	server_send(&w->server, &r, sizeof(r), (int[]){ w->cache.page_fd, device }, 2);
	reply = server_reply(&w->server, &w->uffd);
	CU_ASSERT_EQUAL_FATAL(reply.error, 0);
	CU_ASSERT_EQUAL(reply.bytes, home_disk.blocks * BLOCK);
	CU_ASSERT_FATAL(w->uffd >= 0);
	w->base = reply.base;
	w->top = test_layer_create(home_disk.blocks * BLOCK);
	CU_ASSERT_EQUAL(server_layer(&w->server, &w->top), 0);
	CU_ASSERT_EQUAL(server_open(&w->server), 0);
}

static void check_blocks(const uint8_t *data, uint64_t block, unsigned count)
{
	uint8_t expected[BLOCK];

	for (unsigned i = 0; i < count; i++) {
		fill_block(expected, home_disk.model[block + i]);
		if (memcmp(data + i * BLOCK, expected, BLOCK))
			CU_FAIL("a block of the clone's disk is not the parent's");
	}
}

static struct world world_create(uint64_t blocks)
{
	struct world w = { .home = host_start(blocks, 0, NULL), .away = host_start(blocks, 0, NULL),
			   .store = test_file_create(1, blocks),
			   .cache = test_file_create(2, blocks) };

	static uint8_t data[REQUEST_BLOCKS * BLOCK];
	uint64_t cookie;

	disk_create(blocks);
	tell_home(&w, 0);
	start_server(&w);
	/* who reads before anybody serves the pages waits for them */
	nbd_send(&w.server, NBD_READ, 9, 100 * BLOCK, sizeof(data), NULL);
	tell_away(&w, 0);
	CU_ASSERT_EQUAL(nbd_answer(&w.server, &cookie), 0);
	nbd_data(&w.server, data, sizeof(data));
	check_blocks(data, 100, REQUEST_BLOCKS);
	return w;
}

static void world_destroy(struct world *w)
{
	CU_ASSERT_EQUAL(server_stop(&w->server), 0);
	CU_ASSERT_EQUAL(host_clone_gone(&w->away, 3), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w->away, w->cache.number), 0);
	CU_ASSERT_EQUAL(host_file_gone(&w->home, w->store.number), 0);
	CU_ASSERT_EQUAL(host_stop(&w->away), 0);
	CU_ASSERT_EQUAL(host_stop(&w->home), 0);
	close(w->uffd);
	test_layer_destroy(&w->top);
	test_file_destroy(&w->cache);
	test_file_destroy(&w->store);
	disk_destroy();
}

/* Reads [from, to) of the clone's disk, in a row. */
static void check_disk(struct world *w, uint64_t from, uint64_t to)
{
	static uint8_t data[REQUEST_BLOCKS * BLOCK];

	for (uint64_t block = from; block < to; block += REQUEST_BLOCKS) {
		unsigned count = to - block < REQUEST_BLOCKS ? (unsigned)(to - block) :
							       REQUEST_BLOCKS;

		CU_ASSERT_EQUAL_FATAL(
			nbd_do(&w->server, NBD_READ, block * BLOCK, count * BLOCK, data), 0);
		check_blocks(data, block, count);
	}
}

static void test_reads_the_parents(void)
{
	/* no multiple of anything */
	struct world w = world_create(5003);
	uint8_t data[BLOCK] = { 1 };

	check_disk(&w, 0, home_disk.blocks);
	CU_ASSERT_EQUAL(test_file_count(&w.cache, PAGE_ABSENT), 0);
	/* zeros take no room here */
	CU_ASSERT_EQUAL(test_file_blocks(w.cache.page_fd), test_file_count(&w.cache, PAGE_PRESENT));
	CU_ASSERT(test_file_count(&w.cache, PAGE_ZERO) > 1000);
	/* at home nothing is copied to serve others */
	CU_ASSERT_EQUAL(test_file_blocks(w.store.page_fd), 0);
	/* what the clone writes is its own */
	CU_ASSERT_EQUAL(nbd_do(&w.server, NBD_WRITE, 0, BLOCK, data), 0);
	CU_ASSERT_EQUAL(nbd_do(&w.server, NBD_READ, 0, BLOCK, data), 0);
	CU_ASSERT_EQUAL(data[0], 1);
	check_disk(&w, 1, 100);
	world_destroy(&w);
}

/* Both are killed while a request waits for pages of the other, and it goes on. */
static void test_killed(void)
{
	struct world w = world_create(4000);
	static uint8_t data[REQUEST_BLOCKS * BLOCK];
	uint64_t cookie;

	check_disk(&w, 0, 1000);
	host_kill(&w.home);
	nbd_send(&w.server, NBD_READ, 8, 2000 * BLOCK, sizeof(data), NULL);
	host_kill(&w.away);
	host_restart(&w.home, 0);
	tell_home(&w, MEMTAP_F_AGAIN);
	host_restart(&w.away, 0);
	tell_away(&w, MEMTAP_F_AGAIN);
	host_stats(&w.home, MEMTAP_ALL);
	host_stats(&w.away, MEMTAP_ALL);
	CU_ASSERT_EQUAL(nbd_answer(&w.server, &cookie), 0);
	nbd_data(&w.server, data, sizeof(data));
	check_blocks(data, 2000, REQUEST_BLOCKS);
	check_disk(&w, 0, home_disk.blocks);
	world_destroy(&w);
}

/* sfd ends while a request waits for a page that nobody brings. */
static void test_ends_in_a_fault(void)
{
	struct world w = world_create(1000);

	host_kill(&w.home);
	nbd_send(&w.server, NBD_READ, 8, 500 * BLOCK, BLOCK, NULL);
	/* the request has come to its fault when the away host has heard of it */
	while (!host_stats(&w.away, 3).faults)
		;
	CU_ASSERT_EQUAL(server_stop(&w.server), 0);
	host_restart(&w.home, 0);
	tell_home(&w, MEMTAP_F_AGAIN);
	host_stats(&w.home, MEMTAP_ALL);
	w.server = server_start(home_disk.blocks * BLOCK);
	world_destroy(&w);
}

static void test_bad_layers(void)
{
	struct test_host h = host_start(1000, 0, NULL);
	struct test_file file = test_file_create(1, 1000);
	struct memtap_request r = { .op = MEMTAP_LAYERS, .file = 1, .vm = 1, .arg = LAYERS };
	struct test_vm parent = vm_parent(1000);
	int fds[1 + 2 * LAYERS];

	disk_create(1000);
	CU_ASSERT_EQUAL(tell_layers(&h, 1, 0), ENOENT);
	CU_ASSERT_EQUAL(host_file(&h, &file, 0), 0);
	fds[0] = home_disk.base;
	for (unsigned k = 0; k < LAYERS; k++) {
		fds[1 + 2 * k] = home_disk.layers[k].file;
		fds[2 + 2 * k] = home_disk.layers[k].map;
	}
	for (unsigned n = 0; n < 1 + 2 * LAYERS; n++)
		CU_ASSERT_EQUAL(host_say(&h, &r, fds, n, NULL), EINVAL);
	r.vm = 2;
	CU_ASSERT_EQUAL(host_say(&h, &r, fds, 2 + 2 * LAYERS - 1, NULL), EINVAL);
	r.vm = 0;
	CU_ASSERT_EQUAL(host_say(&h, &r, fds, 2 * LAYERS, NULL), EINVAL);	/* shifted by one */
	r.vm = 1;
	r.arg = UINT32_MAX;
	CU_ASSERT_EQUAL(host_say(&h, &r, fds, 1, NULL), EINVAL);
	r.arg = MEMTAP_MAX_LAYERS + 1;
	CU_ASSERT_EQUAL(host_say(&h, &r, fds, 1, NULL), EINVAL);
	CU_ASSERT_EQUAL(tell_layers(&h, 1, 0), 0);
	CU_ASSERT_EQUAL(tell_layers(&h, 1, 0), EINVAL);
	/* one that serves disks has no parent */
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &h, 0), EINVAL);
	CU_ASSERT_EQUAL(host_file_gone(&h, 1), 0);
	CU_ASSERT_EQUAL(vm_give_parent(&parent, &h, 0), 0);
	CU_ASSERT_EQUAL(host_file(&h, &file, 0), 0);
	CU_ASSERT_EQUAL(tell_layers(&h, 1, 0), EINVAL);
	vm_end(&parent);
	CU_ASSERT_EQUAL(host_stop(&h), 0);
	test_file_destroy(&file);
	disk_destroy();
}

/* Not a test of its own: how fast a cold read in a row is. */
static void test_sequential(void)
{
	struct world w = world_create(51200);
	uint64_t start_ns = io_now_ns(), ns;

	check_disk(&w, 0, home_disk.blocks);
	ns = io_now_ns() - start_ns;
	printf("200 MB in %llu ms, %llu bytes/s ... ", (unsigned long long)ns / 1000000,
	       (unsigned long long)(home_disk.blocks * BLOCK * 1000000000.0 / (double)ns));
	world_destroy(&w);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "a clone's disk is the parent's", test_reads_the_parents },
		{ "both are killed", test_killed },
		{ "it ends in a fault", test_ends_in_a_fault },
		{ "bad layers", test_bad_layers },
		{ "200 MB in a row", test_sequential },
	};

	need_userfaultfd();
	need_nbdkit();
	signal(SIGPIPE, SIG_IGN);
	return run_tests("inherited", tests, ARRAY_SIZE(tests), argc, argv);
}
