/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Merging: frozen layers into one, run by run. */
#include "config.h"

#include "host/vdisk/merge.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"

#define CHUNK_BLOCKS 256u

/* Data that was read; what is zeros all the same becomes a hole. Return: 0 or -errno. */
static int put(struct layer *into, uint64_t block, uint64_t count, const uint8_t *data)
{
	int error = 0;

	while (count && !error) {
		bool zero;
		uint64_t run = layer_zero_run(data, count, &zero);

		error = zero ? layer_zero(into, block, run) : layer_write(into, block, run, data);
		block += run;
		count -= run;
		data += run * VDISK_BLOCK_BYTES;
	}
	return error;
}

int vdisk_merge(const struct layer *const layers[], unsigned count, struct layer *into)
{
	_cleanup_free_ uint8_t *chunk = malloc(CHUNK_BLOCKS * VDISK_BLOCK_BYTES);
	uint64_t blocks = into->bytes / VDISK_BLOCK_BYTES, run;
	int error = chunk ? 0 : -ENOMEM;

	for (uint64_t block = 0; block < blocks && !error; block += run) {
		bool data;
		int which;

		run = layers_data_run(layers, count, block, blocks - block, &which, &data);
		if (which < 0)
			continue;
		if (!data) {
			error = layer_zero(into, block, run);
			continue;
		}
		if (run > CHUNK_BLOCKS)
			run = CHUNK_BLOCKS;
		error = layer_read(layers[which], block, run, chunk);
		if (!error)
			error = put(into, block, run, chunk);
	}
	return error;
}
