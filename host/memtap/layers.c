/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frozen layers as the source of a page file: pages read, and read ahead of. */
#include "host/memtap/layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/snapshot/pagefile.h"
#include "host/vdisk/layer.h"

#define STREAMS 16u
#define AHEAD_MIN_PAGES 32u
#define AHEAD_MAX_PAGES 1024u

_Static_assert(VDISK_MAX_BYTES <= MEMTAP_MAX_RAM_BYTES, "a disk travels as memory does");

/*
 * Somebody reads in a row: pages below `until` have been asked of the kernel. When those from
 * `mark` on are read, twice as many as the last time are.
 */
struct stream {
	uint64_t mark, until;
	uint64_t pages;		/* 0: there is none */
};

struct mem_layers {
	uint64_t pages;
	bool failed;		/* it was said */
	struct stream streams[STREAMS];
	unsigned next_stream;	/* the oldest */
	unsigned count;
	const struct layer *stack[1 + MEMTAP_MAX_LAYERS];	/* into `layers` */
	struct layer layers[1 + MEMTAP_MAX_LAYERS];
};

/* Return: 0 or -errno; what was opened is counted. */
static int open_all(struct mem_layers *l, const struct mem_layers_fds *from)
{
	uint64_t bytes = l->pages * MEMTAP_PAGE_BYTES;
	const int *fd = from->fds;
	int error = 0;

	if (from->base) {
		error = layer_open_base(&l->layers[0], bytes, *fd++);
		l->count += !error;
	}
	for (uint32_t i = 0; i < from->count && !error; i++, fd += 2) {
		error = layer_open(&l->layers[l->count], bytes, fd[0], fd[1]);
		l->count += !error;
	}
	return error;
}

int mem_layers_create(uint64_t pages, const struct mem_layers_fds *from,
		      struct mem_layers **layers)
{
	struct mem_layers *l;
	int error;

	if (from->count > MEMTAP_MAX_LAYERS)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->pages = pages;
	error = open_all(l, from);
	if (error) {
		mem_layers_destroy(l);
		return error;
	}
	for (unsigned i = 0; i < l->count; i++)
		l->stack[i] = &l->layers[i];
	*layers = l;
	return 0;
}

void mem_layers_destroy(struct mem_layers *layers)
{
	if (!layers)
		return;
	for (unsigned i = 0; i < layers->count; i++)
		layer_close(&layers->layers[i]);
	free(layers);
}

/* The one that goes on with this page, or a new one. */
static struct stream *stream_of(struct mem_layers *l, uint64_t gfn)
{
	struct stream *s;

	for (unsigned i = 0; i < STREAMS; i++) {
		s = &l->streams[i];
		if (s->pages && gfn <= s->until && gfn + s->pages >= s->mark)
			return s;
	}
	s = &l->streams[l->next_stream++ % STREAMS];
	*s = (struct stream){ .mark = gfn, .until = gfn, .pages = AHEAD_MIN_PAGES / 2 };
	return s;
}

static void read_ahead(struct mem_layers *l, uint64_t gfn)
{
	struct stream *s = stream_of(l, gfn);
	uint64_t pages = 2 * s->pages < AHEAD_MAX_PAGES ? 2 * s->pages : AHEAD_MAX_PAGES;

	if (gfn < s->mark || s->until >= l->pages)
		return;
	if (pages > l->pages - s->until)
		pages = l->pages - s->until;
	layers_expect(l->stack, l->count, s->until, pages);
	s->mark = s->until;
	s->until += pages;
	s->pages = pages;
}

int mem_layers_read(struct mem_layers *layers, uint64_t gfn, uint8_t page[MEMTAP_PAGE_BYTES])
{
	int which, error;

	layers_run(layers->stack, layers->count, gfn, 1, &which);
	if (which < 0) {
		memset(page, 0, MEMTAP_PAGE_BYTES);
		return PAGE_ZERO;
	}
	read_ahead(layers, gfn);
	error = layer_read(layers->stack[which], gfn, 1, page);
	if (!error)
		return snap_page_is_zero(page) ? PAGE_ZERO : PAGE_PRESENT;
	if (!layers->failed)
		log_err("page %#llx cannot be read from the disk's layers: error %d",
			(unsigned long long)gfn, -error);
	layers->failed = true;
	return error;
}
