/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers, stacks, merging and copying, without nbdkit. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vdisk/merge.h"
#include "host/vdisk/stack.h"
#include "tests/memtap/harness.h"
#include "tests/vdisk/server.h"

#define BLOCKS 200u	/* no multiple of a map's word */
#define BYTES ((uint64_t)BLOCKS * BLOCK)

static struct layer open_layer(struct test_layer *fds)
{
	struct layer layer;

	*fds = test_layer_create(BYTES);
	CU_ASSERT_EQUAL_FATAL(layer_open(&layer, BYTES, fds->file, fds->map), 0);
	return layer;
}

static void write_value(struct layer *layer, uint64_t block, uint32_t value)
{
	uint8_t data[BLOCK];

	fill_block(data, value);
	CU_ASSERT_EQUAL(layer_write(layer, block, 1, data), 0);
}

static bool reads(const struct layer *const layers[], unsigned count, uint64_t block,
		  uint32_t value)
{
	uint8_t data[BLOCK], expected[BLOCK];

	fill_block(expected, value);
	return layers_read(layers, count, block, 1, data) == 0 && !memcmp(data, expected, BLOCK);
}

static void test_sizes(void)
{
	struct test_layer fds = test_layer_create(BYTES);
	struct test_layer other = test_layer_create(BYTES + 64 * BLOCK);
	_cleanup_fd_ int pipes = memfd_create("long", 0), null = open("/dev/null", O_RDWR);
	struct layer layer;

	CU_ASSERT_EQUAL(layer_map_bytes(BLOCK), 8);
	CU_ASSERT_EQUAL(layer_map_bytes(64 * BLOCK), 8);
	CU_ASSERT_EQUAL(layer_map_bytes(65 * BLOCK), 16);
	CU_ASSERT(!layer_is_disk(0) && !layer_is_disk(4095) && !layer_is_disk(BLOCK + 512));
	CU_ASSERT(layer_is_disk(VDISK_MAX_BYTES) && !layer_is_disk(VDISK_MAX_BYTES + BLOCK));
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, fds.file, other.map), -EINVAL);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, null, fds.map), -EINVAL);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, fds.file, null), -EINVAL);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, -1, fds.map), -EINVAL);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES + 1, fds.file, fds.map), -EINVAL);
	CU_ASSERT_EQUAL(ftruncate(pipes, (off_t)BYTES + 1), 0);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, pipes, fds.map), -EINVAL);
	CU_ASSERT_EQUAL(layer_open_base(&layer, BYTES, pipes), -EINVAL);
	CU_ASSERT_EQUAL(layer_open_base(&layer, BYTES, null), -EINVAL);
	test_layer_destroy(&fds);
	test_layer_destroy(&other);
}

static void test_base_end(void)
{
	_cleanup_fd_ int file = memfd_create("base", 0);
	uint8_t data[3 * BLOCK], zeros[BLOCK] = { 0 };
	struct layer base;

	memset(data, 7, sizeof(data));
	CU_ASSERT_EQUAL(pwrite(file, data, BLOCK + 100, 0), BLOCK + 100);
	CU_ASSERT_EQUAL(layer_open_base(&base, BYTES, file), 0);
	memset(data, 1, sizeof(data));
	CU_ASSERT_EQUAL(layer_read(&base, 0, 3, data), 0);
	CU_ASSERT(data[BLOCK + 99] == 7 && data[BLOCK + 100] == 0);
	CU_ASSERT(!memcmp(data + 2 * BLOCK, zeros, BLOCK));
	CU_ASSERT_EQUAL(layer_write(&base, 0, 1, data), -EROFS);
	layer_close(&base);
}

static void test_runs(void)
{
	struct test_layer fds;
	struct layer layer = open_layer(&fds);
	bool has;

	CU_ASSERT_EQUAL(layer_run(&layer, 0, BLOCKS, &has), BLOCKS);
	CU_ASSERT(!has);
	CU_ASSERT_EQUAL(layer_zero(&layer, 60, 70), 0);
	CU_ASSERT_EQUAL(layer_run(&layer, 3, BLOCKS - 3, &has), 57);
	CU_ASSERT(!has);
	CU_ASSERT_EQUAL(layer_run(&layer, 60, BLOCKS - 60, &has), 70);
	CU_ASSERT(has);
	CU_ASSERT_EQUAL(layer_run(&layer, 100, 20, &has), 20);
	CU_ASSERT_EQUAL(layer_run(&layer, 130, BLOCKS - 130, &has), BLOCKS - 130);
	CU_ASSERT(!has && !layer_has(&layer, BLOCKS - 1));
	write_value(&layer, BLOCKS - 1, 5);
	CU_ASSERT(layer_has(&layer, BLOCKS - 1) && layer_has(&layer, 129));
	/* another process, which may only read, sees the same */
	layer_close(&layer);
	CU_ASSERT_EQUAL(layer_open(&layer, BYTES, fds.file, fds.map), 0);
	CU_ASSERT(layer_has(&layer, 60) && !layer_has(&layer, 59));
	layer_close(&layer);
	test_layer_destroy(&fds);
}

/* ── stacks ── */

#define LAYERS 5u

static struct {
	struct test_layer fds[LAYERS];
	struct layer layers[LAYERS];
	const struct layer *stack[LAYERS];
	uint32_t model[BLOCKS];
} w;

/* Some layers with blocks here and there; model: what is read. */
static void world_create(void)
{
	srand(1);
	memset(w.model, 0, sizeof(w.model));
	for (unsigned i = 0; i < LAYERS; i++) {
		w.layers[i] = open_layer(&w.fds[i]);
		w.stack[i] = &w.layers[i];
		for (unsigned k = 0; k < 60; k++) {
			unsigned block = (unsigned)rand() % BLOCKS;
			uint32_t value = rand() % 3 ? (uint32_t)rand() | 1 : 0;

			if (value || k % 2) {
				write_value(&w.layers[i], block, value);
			} else {
				CU_ASSERT_EQUAL(layer_zero(&w.layers[i], block, 1), 0);
			}
			w.model[block] = value;
		}
	}
}

static void world_destroy(void)
{
	for (unsigned i = 0; i < LAYERS; i++) {
		layer_close(&w.layers[i]);
		test_layer_destroy(&w.fds[i]);
	}
}

static void check_model(const struct layer *const layers[], unsigned count)
{
	for (unsigned block = 0; block < BLOCKS; block++) {
		if (!reads(layers, count, block, w.model[block]))
			CU_FAIL("a block is not as it should be");
	}
}

static void test_highest_wins(void)
{
	_cleanup_free_ uint8_t *all = malloc(BYTES);
	uint8_t expected[BLOCK];

	world_create();
	check_model(w.stack, LAYERS);
	CU_ASSERT_EQUAL(layers_read(w.stack, LAYERS, 0, BLOCKS, all), 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		fill_block(expected, w.model[i]);
		CU_ASSERT(!memcmp(all + (size_t)i * BLOCK, expected, BLOCK));
	}
	world_destroy();
}

static void test_merge(void)
{
	struct test_layer fds;
	struct layer into = open_layer(&fds);
	const struct layer *merged[] = { NULL, &into, NULL };

	world_create();
	CU_ASSERT_EQUAL(vdisk_merge(w.stack + 1, 3, &into), 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		bool had = layer_has(w.stack[1], i) || layer_has(w.stack[2], i) ||
			   layer_has(w.stack[3], i);

		CU_ASSERT_EQUAL(layer_has(&into, i), had);
	}
	merged[0] = w.stack[0];
	merged[2] = w.stack[4];
	check_model(merged, 3);
	/* what is zeros takes no room */
	CU_ASSERT(layer_taken_bytes(&into) < layer_taken_bytes(w.stack[1]) +
						     layer_taken_bytes(w.stack[2]) +
						     layer_taken_bytes(w.stack[3]));
	layer_close(&into);
	test_layer_destroy(&fds);
	world_destroy();
}

static bool on_progress(void *arg, uint64_t done_bytes)
{
	*(uint64_t *)arg = done_bytes;
	return true;
}

static bool no_more(void *arg, uint64_t done_bytes)
{
	return !on_progress(arg, done_bytes);
}

static void test_copy(void)
{
	_cleanup_fd_ int file = memfd_create("image", 0), half = memfd_create("half", 0);
	struct layer image;
	const struct layer *alone[] = { &image };
	uint64_t done = 0, blocks = 0;

	world_create();
	CU_ASSERT_EQUAL(vdisk_copy(w.stack, LAYERS, BYTES, file, on_progress, &done), 0);
	CU_ASSERT_EQUAL(done, BYTES);
	CU_ASSERT_EQUAL(lseek(file, 0, SEEK_END), (off_t)BYTES);
	CU_ASSERT_EQUAL_FATAL(layer_open_base(&image, BYTES, file), 0);
	check_model(alone, 1);
	for (unsigned i = 0; i < BLOCKS; i++)
		blocks += w.model[i] != 0;
	CU_ASSERT_EQUAL(layer_taken_bytes(&image), blocks * BLOCK);
	CU_ASSERT_EQUAL(vdisk_copy(w.stack, LAYERS, BYTES, file, on_progress, &done), -EINVAL);
	CU_ASSERT_EQUAL(vdisk_copy(w.stack, LAYERS, BYTES, half, no_more, &done), -ECANCELED);
	CU_ASSERT(done < BYTES);
	layer_close(&image);
	world_destroy();
}

/* ── a stack in use ── */

static void *push(void *arg)
{
	struct test_layer fds;
	struct layer layer = open_layer(&fds);

	CU_ASSERT_EQUAL(stack_push(arg, &layer), 0);
	test_layer_destroy(&fds);
	return NULL;
}

static unsigned count_layers(struct stack *stack)
{
	struct levels *levels = stack_get(stack);
	unsigned count = levels->count;

	stack_put(stack, levels);
	return count;
}

/* Return: true if the thread ends. */
static bool ends(pthread_t thread, long wait_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += wait_ms % 1000 * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

static void test_freeze_waits(void)
{
	struct stack *stack = stack_create(BYTES);
	struct levels *writer, *reader;
	pthread_t thread;

	push(stack);
	writer = stack_get_write(stack);
	CU_ASSERT_EQUAL(pthread_create(&thread, NULL, push, stack), 0);
	CU_ASSERT(!ends(thread, 200));
	/* who comes now has the new one already */
	CU_ASSERT_EQUAL(count_layers(stack), 2);
	stack_put_write(stack, writer);
	CU_ASSERT(ends(thread, TEST_PATIENCE_MS));
	/* readers are not waited for */
	reader = stack_get(stack);
	push(stack);
	CU_ASSERT_EQUAL(count_layers(stack), 3);
	CU_ASSERT_EQUAL(reader->count, 2);
	stack_put(stack, reader);
	stack_destroy(stack);
}

/* A merge that ends while a writer is in the top: the next freeze waits for it all the same. */
static void test_freeze_waits_after_merge(void)
{
	struct stack *stack = stack_create(BYTES);
	struct levels *writer, *levels;
	struct test_layer fds;
	struct layer into;
	pthread_t thread;

	for (unsigned i = 0; i < 3; i++)
		push(stack);
	writer = stack_get_write(stack);
	into = open_layer(&fds);
	CU_ASSERT_EQUAL(stack_replace(stack, 0, 2, &into), 0);
	CU_ASSERT_EQUAL(count_layers(stack), 2);
	CU_ASSERT_EQUAL(pthread_create(&thread, NULL, push, stack), 0);
	CU_ASSERT(!ends(thread, 200));
	stack_put_write(stack, writer);
	CU_ASSERT(ends(thread, TEST_PATIENCE_MS));
	levels = stack_get(stack);
	CU_ASSERT(levels_frozen(levels, 0, 2) && !levels_frozen(levels, 0, 3));
	CU_ASSERT(!levels_frozen(levels, 3, UINT32_MAX) && !levels_frozen(levels, 2, 1));
	stack_put(stack, levels);
	test_layer_destroy(&fds);
	stack_destroy(stack);
}

static void test_too_many(void)
{
	struct stack *stack = stack_create(BYTES);
	struct test_layer fds;
	struct layer layer;

	for (unsigned i = 0; i < VDISK_MAX_LAYERS; i++)
		push(stack);
	layer = open_layer(&fds);
	CU_ASSERT_EQUAL(stack_push(stack, &layer), -ENOSPC);
	CU_ASSERT_EQUAL(stack_push_fixed(stack, &layer), -EINVAL);
	layer_close(&layer);
	test_layer_destroy(&fds);
	stack_destroy(stack);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "sizes", test_sizes },
		{ "behind the end of a base are zeros", test_base_end },
		{ "runs", test_runs },
		{ "the highest wins", test_highest_wins },
		{ "merge", test_merge },
		{ "copy", test_copy },
		{ "a freeze waits for writers", test_freeze_waits },
		{ "and after a merge", test_freeze_waits_after_merge },
		{ "too many layers", test_too_many },
	};

	return run_tests("layers", tests, ARRAY_SIZE(tests), argc, argv);
}
