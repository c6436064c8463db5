/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk is made of: grounds, layers, merges and exports.
 *
 * The stack here is changed when something is asked for, and taken back when it was refused: then
 * the disk is of no use any more, except after a merge, which leaves everything as it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/disk_internal.h"

/* The next layer is this one, above what is there. Return: 0 or -errno. */
static int push(struct disk *k, struct disk_layer *layer, disk_done *done, void *arg)
{
	struct demand *q = k->stack.count < VDISK_MAX_LAYERS - 1
				   ? demand_new(VDISK_LAYER, layer->file, layer->map)
				   : NULL;

	if (!q)
		return k->stack.count < VDISK_MAX_LAYERS - 1 ? -errno : -ENOSPC;
	q->done = done;
	q->arg = arg;
	layer->refs++;
	k->stack.layers[k->stack.count++] = layer;
	disk_ask(k, q);
	return 0;
}

int disk_stand_on(struct disk *k, const struct disk_stack *stack)
{
	struct demand *q = demand_new(VDISK_BASE, image_fd(stack->image), -1);
	int rc = 0;

	if (!q)
		return -errno;
	k->stack.image = image_get(stack->image);
	disk_ask(k, q);
	for (unsigned i = 0; i < stack->count && !rc; i++)
		rc = push(k, stack->layers[i], NULL, NULL);
	k->foreign = k->stack.count;
	return rc;
}

static void inherited(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	int error = reply->error ? -reply->error : fd < 0 || reply->bytes != k->bytes ? -EPROTO : 0;

	q->inherited(q->arg, error, fd, reply->base);
}

int disk_inherit(struct disk *k, int page_file, disk_inherited *done, void *arg)
{
	_cleanup_fd_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct demand *q = device < 0 ? NULL : demand_new(VDISK_INHERITED, page_file, device);

	if (!q)
		return -errno;
	q->answered = inherited;
	q->inherited = done;
	q->arg = arg;
	disk_ask(k, q);
	return 0;
}

int disk_prepare(struct disk *k)
{
	return k->spare ? 0 : layer_new(k->daemon, k->bytes, &k->spare);
}

int disk_freeze(struct disk *k, disk_done *done, void *arg)
{
	int rc = disk_prepare(k);

	if (!rc)
		rc = push(k, k->spare, done, arg);
	if (!rc)
		layer_put(steal_ptr(&k->spare));
	return rc;
}

int disk_open(struct disk *k, disk_done *done, void *arg)
{
	struct demand *q = demand_new(VDISK_OPEN, -1, -1);

	if (!q)
		return -errno;
	q->done = done;
	q->arg = arg;
	disk_ask(k, q);
	return 0;
}

void disk_frozen(const struct disk *k, struct disk_stack *stack)
{
	disk_stack_copy(stack, &k->stack, k->stack.count ? k->stack.count - 1 : 0);
}

/* ---- in the background ---- */

/* A merge or copy is over: who waited for that has its turn. */
static void job_ended(struct disk *k)
{
	k->busy = k->waiting;
	if (k->waiting)
		disk_ask(k, steal_ptr(&k->waiting));
}

/* The layers from the ground up to below those that came meanwhile are one now. */
static void merged(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	struct disk_stack *s = &k->stack;
	unsigned count = q->request.count;

	cleanup_close(&fd);
	if (!reply->error) {
		for (unsigned i = 0; i < count; i++)
			layer_put(s->layers[i]);
		s->layers[0] = steal_ptr(&q->merged);
		memmove(&s->layers[1], &s->layers[count],
			(s->count - count) * sizeof(s->layers[0]));
		s->count -= count - 1;
		k->foreign = 0;
		if (k->waiting)
			k->waiting->request.count -= count - 1;
		log_debug("%s: %u layers merged in %llu ms", k->name, count,
			  (unsigned long long)reply->elapsed_ns / 1000000);
	}
	job_ended(k);
}

void disk_tidy(struct disk *k)
{
	unsigned frozen = k->stack.count ? k->stack.count - 1 : 0;
	struct disk_layer *layer;
	struct demand *q;

	if (k->busy || !k->pid || frozen <= DISK_MAX_FROZEN ||
	    layer_new(k->daemon, k->bytes, &layer))
		return;
	q = demand_new(VDISK_MERGE, layer->file, layer->map);
	if (!q) {
		layer_put(layer);
		return;
	}
	q->request.first = 1; /* 0 is the ground */
	q->request.count = frozen;
	q->merged = layer;
	q->answered = merged;
	k->busy = true;
	disk_ask(k, q);
}

static void exported(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd)
{
	(void)q;
	(void)reply;
	cleanup_close(&fd);
	k->exporting = k->waiting; /* else it was this one */
	job_ended(k);
	disk_tidy(k);
}

int disk_export(struct disk *k, int file, void (*progress)(void *arg, uint64_t bytes),
		disk_done *done, void *arg)
{
	struct demand *q = k->exporting ? NULL : demand_new(VDISK_COPY, file, -1);
	int rc;

	if (!q)
		return k->exporting ? -EBUSY : -errno;
	rc = disk_freeze(k, NULL, NULL);
	if (rc) {
		demand_free(q);
		return rc;
	}
	q->progress = progress;
	q->done = done;
	q->answered = exported;
	q->arg = arg;
	q->request.count = k->stack.count; /* the ground, and all but the top */
	k->exporting = true;
	if (k->busy)
		k->waiting = q;
	else
		disk_ask(k, q);
	k->busy = true;
	return 0;
}

/* Nobody waits for the copy: it ends soon, and another may be asked for now. */
static void cancel_copy(struct disk *k)
{
	struct demand *q = demand_new(VDISK_CANCEL, -1, -1);

	k->exporting = false;
	if (q)
		disk_ask(k, q);
}

void disk_forget(struct disk *k, void *arg)
{
	bool copies = false;
	struct demand *q;

	if (k->waiting && k->waiting->arg == arg) {
		demand_free(steal_ptr(&k->waiting));
		k->exporting = false;
	}
	TAILQ_FOREACH(q, &k->demands, entry) {
		if (q->arg != arg)
			continue;
		copies |= q->request.op == VDISK_COPY;
		q->done = NULL;
		q->progress = NULL;
		q->arg = NULL;
	}
	if (copies)
		cancel_copy(k);
}

/* ---- what is told of it ---- */

uint64_t disk_bytes(const struct disk *k)
{
	return k->bytes;
}

unsigned disk_layers(const struct disk *k)
{
	return k->stack.count;
}

uint64_t disk_own_bytes(const struct disk *k)
{
	struct disk_stack own = { .count = k->stack.count - k->foreign };

	memcpy(own.layers, &k->stack.layers[k->foreign], own.count * sizeof(own.layers[0]));
	return disk_stack_bytes(&own);
}
