/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying: what a disk was at one moment, as a raw image. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vdisk/merge.h"

#define CHUNK_BLOCKS 256u

/* Makes it as long as the disk, all of it a hole. Return: 0 or -errno. */
static int prepare(int file, uint64_t bytes)
{
	int flags = fcntl(file, F_GETFL);
	struct stat st;

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || (flags & (O_APPEND | O_PATH)) ||
	    fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size)
		return -EINVAL;
	if (ftruncate(file, (off_t)bytes) == 0)
		return 0;
	return errno == EFBIG ? -ENOSPC : -errno;
}

/* Return: 0 or -errno. */
static int put(int file, uint64_t block, uint64_t count, const uint8_t *data)
{
	int error = 0;

	while (count && !error) {
		bool zero;
		uint64_t run = layer_zero_run(data, count, &zero);

		if (!zero)
			error = layer_pwrite(file, data, run * VDISK_BLOCK_BYTES,
					  block * VDISK_BLOCK_BYTES);
		block += run;
		count -= run;
		data += run * VDISK_BLOCK_BYTES;
	}
	return error;
}

int vdisk_copy(const struct layer *const layers[], unsigned count, uint64_t bytes, int file,
	       vdisk_progress *progress, void *arg)
{
	_cleanup_free_ uint8_t *chunk = malloc(CHUNK_BLOCKS * VDISK_BLOCK_BYTES);
	uint64_t blocks = bytes / VDISK_BLOCK_BYTES, run;
	int error = chunk ? prepare(file, bytes) : -ENOMEM;

	for (uint64_t block = 0; block < blocks && !error; block += run) {
		bool data;
		int which;

		run = layers_data_run(layers, count, block, blocks - block, &which, &data);
		if (data) {
			if (run > CHUNK_BLOCKS)
				run = CHUNK_BLOCKS;
			error = layer_read(layers[which], block, run, chunk);
			if (!error)
				error = put(file, block, run, chunk);
		}
		if (!error && !progress(arg, (block + run) * VDISK_BLOCK_BYTES))
			error = -ECANCELED;
	}
	return error;
}
