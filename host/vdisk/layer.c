/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One layer of a disk: opened, looked up in its map, read, written. */
#include "config.h"

#include "host/vdisk/layer.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/snapshot/pagefile.h"
#include "host/snapshot/uffd.h"

#define WORD_BITS 64u
#define ZEROS_BYTES 65536u

_Static_assert(VDISK_BLOCK_BYTES == SNAP_PAGE_BYTES, "blocks travel as pages");

bool layer_is_disk(uint64_t bytes)
{
	return bytes && bytes % VDISK_BLOCK_BYTES == 0 && bytes <= VDISK_MAX_BYTES;
}

uint64_t layer_map_bytes(uint64_t disk_bytes)
{
	uint64_t blocks = disk_bytes / VDISK_BLOCK_BYTES;

	return (blocks + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

/* ── opening ── */

static bool can(int fd, bool write)
{
	int flags = fcntl(fd, F_GETFL);
	int mode = flags & O_ACCMODE;

	return flags >= 0 && (mode == O_RDWR || (!write && mode == O_RDONLY)) &&
	       !(write && (flags & O_APPEND)) && !(flags & O_PATH);
}

/* Return: a duplicate, or -errno. */
static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/* Starts a layer with the file alone. Return: 0 or -errno. */
static int layer_begin(struct layer *layer, uint64_t bytes, int file)
{
	*layer = (struct layer)LAYER_NONE;
	if (!layer_is_disk(bytes) || !can(file, false))
		return -EINVAL;
	layer->bytes = bytes;
	layer->file = duplicate(file);
	return layer->file < 0 ? layer->file : 0;
}

int layer_open_base(struct layer *layer, uint64_t bytes, int file)
{
	int error = layer_begin(layer, bytes, file);
	struct stat st;
	off_t end;

	if (error)
		return error;
	end = fstat(layer->file, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) ?
		      -1 : lseek(layer->file, 0, SEEK_END);
	if (end < 0 || (uint64_t)end > bytes) {
		layer_close(layer);
		return -EINVAL;
	}
	layer->file_bytes = (uint64_t)end;
	return 0;
}

static bool is_regular(int fd, uint64_t min_bytes, uint64_t max_bytes)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size >= min_bytes &&
	       (uint64_t)st.st_size <= max_bytes;
}

int layer_open(struct layer *layer, uint64_t bytes, int file, int map)
{
	int error = layer_begin(layer, bytes, file);
	bool writable = can(file, true) && can(map, true);
	void *at;

	if (error)
		return error;
	if (!is_regular(file, 0, bytes) || !can(map, false) ||
	    !is_regular(map, layer_map_bytes(bytes), layer_map_bytes(bytes))) {
		layer_close(layer);
		return -EINVAL;
	}
	at = mmap(NULL, layer_map_bytes(bytes), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED,
		  map, 0);
	if (at == MAP_FAILED) {
		error = -errno;
		layer_close(layer);
		return error;
	}
	layer->map = at;
	layer->writable = writable;
	return 0;
}

int layer_open_inherited(struct layer *layer, uint64_t bytes, int page_file, int device)
{
	int error = layer_begin(layer, bytes, page_file);
	struct snap_uffd u = { .pages = bytes / SNAP_PAGE_BYTES };
	void *at;

	if (error)
		return error;
	error = -EINVAL;
	if (!is_regular(page_file, bytes, bytes))
		goto err_close;
	/* private, as in QEMU: zeros that are given go into this mapping, not into the file */
	at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, page_file, 0);
	error = -errno;
	if (at == MAP_FAILED)
		goto err_close;
	layer->mapping = at;
	u.base = (uintptr_t)at;
	u.fd = layer->uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	error = u.fd < 0 ? -errno : snap_uffd_start(&u, SNAP_UFFD_MISSING);
	if (!error)
		return 0;
err_close:
	layer_close(layer);
	return error;
}

void layer_close(struct layer *layer)
{
	if (layer->map)
		munmap((void *)layer->map, layer_map_bytes(layer->bytes));
	if (layer->mapping)
		munmap((void *)layer->mapping, layer->bytes);
	cleanup_close(&layer->file);
	cleanup_close(&layer->uffd);
	*layer = (struct layer)LAYER_NONE;
}

/* ── the map ── */

static uint64_t map_word(const struct layer *layer, uint64_t at)
{
	return le64toh(atomic_load_explicit(&layer->map[at], memory_order_acquire));
}

bool layer_has(const struct layer *layer, uint64_t block)
{
	return !layer->map || map_word(layer, block / WORD_BITS) >> block % WORD_BITS & 1;
}

uint64_t layer_run(const struct layer *layer, uint64_t block, uint64_t count, bool *has)
{
	uint64_t end = block + count, at = block, flip;

	*has = layer_has(layer, block);
	if (!layer->map)
		return count;
	flip = *has ? UINT64_MAX : 0;
	while (at < end) {
		/* ones are what ends the run */
		uint64_t word = (map_word(layer, at / WORD_BITS) ^ flip) >> at % WORD_BITS;

		if (word) {
			at += (uint64_t)__builtin_ctzll(word);
			break;
		}
		at += WORD_BITS - at % WORD_BITS;
	}
	/* another thread may have written the first block since */
	if (at == block)
		return 1;
	return at < end ? at - block : count;
}

static void map_set(struct layer *layer, uint64_t block, uint64_t count)
{
	uint64_t end = block + count;

	while (block < end) {
		uint64_t shift = block % WORD_BITS, bits = WORD_BITS - shift;
		uint64_t mask = UINT64_MAX;

		if (bits > end - block)
			bits = end - block;
		mask = mask >> (WORD_BITS - bits) << shift;
		atomic_fetch_or_explicit(&layer->map[block / WORD_BITS], htole64(mask),
					 memory_order_release);
		block += bits;
	}
}

/* ── the file ── */

/* Return: bytes in a row from `at` on, that are data or not; what cannot be told is data. */
static uint64_t file_run(const struct layer *layer, uint64_t at, uint64_t end, bool *data)
{
	off_t first = lseek(layer->file, (off_t)at, SEEK_DATA);
	off_t hole;

	*data = false;
	if (first < 0 && errno == ENXIO)
		return end - at;
	if (first > (off_t)at)
		return (uint64_t)first < end ? (uint64_t)first - at : end - at;
	*data = true;
	hole = first < 0 ? -1 : lseek(layer->file, (off_t)at, SEEK_HOLE);
	return hole <= (off_t)at || (uint64_t)hole > end ? end - at : (uint64_t)hole - at;
}

uint64_t layer_data_run(const struct layer *layer, uint64_t block, uint64_t count, bool *data)
{
	uint64_t bytes;

	*data = true;
	if (layer->mapping)
		return count;
	bytes = file_run(layer, block * VDISK_BLOCK_BYTES, (block + count) * VDISK_BLOCK_BYTES,
			 data);
	/* a block that is partly data is data */
	if (*data)
		return (bytes + VDISK_BLOCK_BYTES - 1) / VDISK_BLOCK_BYTES;
	if (bytes >= VDISK_BLOCK_BYTES)
		return bytes / VDISK_BLOCK_BYTES;
	*data = true;
	return 1;
}

int layer_read(const struct layer *layer, uint64_t block, uint64_t count, void *to)
{
	uint64_t offset = block * VDISK_BLOCK_BYTES, bytes = count * VDISK_BLOCK_BYTES;
	uint8_t *at = to;

	if (layer->mapping) {
		memcpy(to, layer->mapping + offset, bytes);
		return 0;
	}
	while (bytes) {
		ssize_t got = pread(layer->file, at, bytes, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		at += got;
		offset += (uint64_t)got;
		bytes -= (uint64_t)got;
	}
	memset(at, 0, bytes);
	return 0;
}

int layer_pwrite(int fd, const uint8_t *from, uint64_t bytes, uint64_t offset)
{
	while (bytes) {
		ssize_t put = pwrite(fd, from, bytes, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 && errno != EFBIG ? -errno : -ENOSPC;
		from += put;
		offset += (uint64_t)put;
		bytes -= (uint64_t)put;
	}
	return 0;
}

int layer_write(struct layer *layer, uint64_t block, uint64_t count, const void *from)
{
	int error;

	if (!layer->writable)
		return -EROFS;
	error = layer_pwrite(layer->file, from, count * VDISK_BLOCK_BYTES, block * VDISK_BLOCK_BYTES);
	if (!error)
		map_set(layer, block, count);
	return error;
}

/* For file systems without holes. Return: 0 or -errno. */
static int write_zeros(int fd, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeros[ZEROS_BYTES];
	int error = 0;

	while (bytes && !error) {
		uint64_t some = bytes < ZEROS_BYTES ? bytes : ZEROS_BYTES;

		error = layer_pwrite(fd, zeros, some, offset);
		offset += some;
		bytes -= some;
	}
	return error;
}

static int punch(int fd, uint64_t offset, uint64_t bytes)
{
	int ret;

	do {
		ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				(off_t)bytes);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

int layer_zero(struct layer *layer, uint64_t block, uint64_t count)
{
	uint64_t offset = block * VDISK_BLOCK_BYTES, bytes = count * VDISK_BLOCK_BYTES;
	int error;

	if (!layer->writable)
		return -EROFS;
	error = punch(layer->file, offset, bytes);
	if (error == -EOPNOTSUPP || error == -ENOSYS)
		error = write_zeros(layer->file, offset, bytes);
	if (!error)
		map_set(layer, block, count);
	return error;
}

uint64_t layer_zero_run(const void *data, uint64_t count, bool *zero)
{
	const uint8_t *at = data;
	uint64_t run = 1;

	*zero = snap_page_is_zero(at);
	while (run < count && snap_page_is_zero(at + run * VDISK_BLOCK_BYTES) == *zero)
		run++;
	return run;
}

uint64_t layer_taken_bytes(const struct layer *layer)
{
	struct stat st;

	return fstat(layer->file, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

/* ── stacks ── */

uint64_t layers_run(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		    uint64_t count, int *which)
{
	for (unsigned i = layer_count; i-- > 0;) {
		bool has;

		count = layer_run(layers[i], block, count, &has);
		if (has) {
			*which = (int)i;
			return count;
		}
	}
	*which = -1;
	return count;
}

uint64_t layers_data_run(const struct layer *const layers[], unsigned layer_count, uint64_t block,
			 uint64_t count, int *which, bool *data)
{
	count = layers_run(layers, layer_count, block, count, which);
	*data = false;
	return *which < 0 ? count : layer_data_run(layers[*which], block, count, data);
}

int layers_read(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		uint64_t count, void *to)
{
	uint8_t *at = to;
	int error = 0;

	while (count && !error) {
		int which;
		uint64_t run = layers_run(layers, layer_count, block, count, &which);

		if (which < 0)
			memset(at, 0, run * VDISK_BLOCK_BYTES);
		else
			error = layer_read(layers[which], block, run, at);
		at += run * VDISK_BLOCK_BYTES;
		block += run;
		count -= run;
	}
	return error;
}

void layers_expect(const struct layer *const layers[], unsigned layer_count, uint64_t block,
		   uint64_t count)
{
	while (count) {
		int which;
		uint64_t run = layers_run(layers, layer_count, block, count, &which);

		if (which >= 0 && !layers[which]->mapping)
			posix_fadvise(layers[which]->file, (off_t)(block * VDISK_BLOCK_BYTES),
				      (off_t)(run * VDISK_BLOCK_BYTES), POSIX_FADV_WILLNEED);
		block += run;
		count -= run;
	}
}
