/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers and stacks of them, counted. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfd/disk_internal.h"

static uint64_t map_bytes(uint64_t disk_bytes)
{
	uint64_t blocks = (disk_bytes + VDISK_BLOCK_BYTES - 1) / VDISK_BLOCK_BYTES;

	return (blocks + 63) / 64 * 8;
}

int layer_new(const struct daemon *d, uint64_t bytes, struct disk_layer **layer)
{
	_cleanup_free_ struct disk_layer *l = calloc(1, sizeof(*l));
	_cleanup_fd_ int file = data_file(d, bytes), map = -1;

	if (file < 0 || !l)
		return file < 0 ? file : -ENOMEM;
	map = memfd_create("sf-layer", MFD_CLOEXEC);
	if (map < 0 || ftruncate(map, (off_t)map_bytes(bytes)))
		return -errno;
	l->refs = 1;
	l->file = steal_fd(&file);
	l->map = steal_fd(&map);
	*layer = steal_ptr(&l);
	return 0;
}

void layer_put(struct disk_layer *l)
{
	if (!l || --l->refs)
		return;
	close(l->file);
	close(l->map);
	free(l);
}

void disk_stack_fini(struct disk_stack *s)
{
	image_put(steal_ptr(&s->image));
	while (s->count)
		layer_put(s->layers[--s->count]);
}

void disk_stack_copy(struct disk_stack *to, const struct disk_stack *from, unsigned count)
{
	*to = (struct disk_stack){ .image = from->image ? image_get(from->image) : NULL,
				   .count = count };
	for (unsigned i = 0; i < count; i++) {
		to->layers[i] = from->layers[i];
		to->layers[i]->refs++;
	}
}

uint64_t disk_stack_bytes(const struct disk_stack *s)
{
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned i = 0; i < s->count; i++) {
		if (!fstat(s->layers[i]->file, &st))
			bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}
