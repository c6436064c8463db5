/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfd's messages (proto/vdisk.h): judged, carried out, answered. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/vdisk/disk.h"
#include "host/vdisk/merge.h"

#define MAX_FDS 2u

/* A VDISK_MERGE or VDISK_COPY, on its thread. One at a time. */
struct job {
	struct disk *disk;
	struct vdisk_request request;
	uint64_t start_ns, told_ns;
	struct levels *levels;	/* that it reads */
	struct layer into;	/* VDISK_MERGE */
	int file;		/* VDISK_COPY */
};

/* What a message is answered with at once. */
struct answer {
	struct vdisk_reply reply;
	int fd;			/* borrowed; -1: none */
	bool later;		/* not now: by its job */
};

/*
 * `fds`: borrowed; closed when it returns. Return: 0 or -errno, and then nothing has changed.
 */
typedef int handler(struct disk *disk, const struct vdisk_request *r, const int *fds,
		    struct answer *answer);

int disk_init(struct disk *disk, uint64_t bytes, int control)
{
	*disk = (struct disk){ .stack = stack_create(bytes), .control = control };
	pthread_mutex_init(&disk->lock, NULL);
	pthread_cond_init(&disk->opened, NULL);
	return disk->stack ? 0 : -ENOMEM;
}

void disk_wait_open(struct disk *disk)
{
	if (disk->open)
		return;
	pthread_mutex_lock(&disk->lock);
	while (!disk->open)
		pthread_cond_wait(&disk->opened, &disk->lock);
	pthread_mutex_unlock(&disk->lock);
}

/* Who cannot be told anything any more is gone. */
static void answer_send(struct disk *disk, struct answer *answer)
{
	struct vdisk_reply *reply = &answer->reply;
	struct levels *levels = stack_get(disk->stack);

	reply->layers = levels->count;
	stack_put(disk->stack, levels);
	reply->read_bytes = disk->read_bytes;
	reply->written_bytes = disk->written_bytes;
	reply->own_bytes = stack_own_bytes(disk->stack);
	if (io_send_fds(disk->control, reply, sizeof(*reply), &answer->fd, answer->fd >= 0))
		_exit(EXIT_FAILURE);
}

static struct answer answer_to(const struct vdisk_request *r, int error, uint64_t start_ns)
{
	struct vdisk_reply reply = { .op = r->op, .tag = r->tag, .error = -error,
				     .elapsed_ns = io_now_ns() - start_ns };

	return (struct answer){ .reply = reply, .fd = -1 };
}

/* ── jobs ── */

static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;
static bool job_runs, job_unwanted;	/* under job_lock */

static bool job_begin(void)
{
	bool begun;

	pthread_mutex_lock(&job_lock);
	begun = !job_runs;
	if (begun)
		job_unwanted = false;
	job_runs = true;
	pthread_mutex_unlock(&job_lock);
	return begun;
}

static void job_end(void)
{
	pthread_mutex_lock(&job_lock);
	job_runs = false;
	pthread_mutex_unlock(&job_lock);
}

static void job_cancel(void)
{
	pthread_mutex_lock(&job_lock);
	job_unwanted = true;
	pthread_mutex_unlock(&job_lock);
}

static bool job_is_wanted(void)
{
	bool wanted;

	pthread_mutex_lock(&job_lock);
	wanted = !job_unwanted;
	pthread_mutex_unlock(&job_lock);
	return wanted;
}

static void job_free(struct job *job)
{
	stack_put(job->disk->stack, job->levels);
	layer_close(&job->into);
	cleanup_close(&job->file);
	free(job);
}

static int job_merge(struct job *job, struct answer *answer)
{
	const struct vdisk_request *r = &job->request;
	int error = vdisk_merge(levels_layers(job->levels) + r->first, r->count, &job->into);

	(void)answer;
	if (!error)
		error = stack_replace(job->disk->stack, r->first, r->count, &job->into);
	if (!error)
		job->into = (struct layer)LAYER_NONE;
	return error;
}

static bool job_progress(void *arg, uint64_t done_bytes)
{
	struct job *job = arg;
	uint64_t now_ns = io_now_ns();
	struct answer answer;

	if (!job_is_wanted())
		return false;
	if (now_ns - job->told_ns < VDISK_PROGRESS_NS)
		return true;
	job->told_ns = now_ns;
	answer = answer_to(&job->request, -EINPROGRESS, job->start_ns);
	answer.reply.base = done_bytes;
	answer.reply.bytes = stack_bytes(job->disk->stack);
	answer_send(job->disk, &answer);
	return true;
}

static int job_copy(struct job *job, struct answer *answer)
{
	uint64_t bytes = stack_bytes(job->disk->stack);
	int error = vdisk_copy(levels_layers(job->levels), job->request.count, bytes, job->file,
			       job_progress, job);

	if (!error)
		answer->reply.base = answer->reply.bytes = bytes;
	return error;
}

static void *job_run(void *arg)
{
	struct job *job = arg;
	struct disk *disk = job->disk;
	bool merge = job->request.op == VDISK_MERGE;
	struct answer answer = answer_to(&job->request, 0, job->start_ns);
	int error = merge ? job_merge(job, &answer) : job_copy(job, &answer);

	answer.reply.error = -error;
	answer.reply.elapsed_ns = io_now_ns() - job->start_ns;
	/* what sfd knows to be done holds no descriptor any more, and another may begin */
	job_free(job);
	job_end();
	answer_send(disk, &answer);
	return NULL;
}

/* Takes `into` and `file` over if it works. Return: 0 or -errno. */
static int job_start(struct disk *disk, const struct vdisk_request *r, struct levels *levels,
		     const struct layer *into, int file)
{
	struct job *job = malloc(sizeof(*job));
	pthread_attr_t detached;
	pthread_t thread;
	int error;

	if (!job)
		return -ENOMEM;
	*job = (struct job){ .disk = disk, .request = *r, .start_ns = io_now_ns(),
			     .told_ns = io_now_ns(), .levels = levels, .into = *into,
			     .file = file };
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &detached, job_run, job);
	pthread_attr_destroy(&detached);
	if (error)
		free(job);
	return -error;
}

/* ── messages ── */

/* The layer is the disk's, or closed. */
static int push(struct disk *disk, struct layer *layer, int error,
		int (*how)(struct stack *stack, const struct layer *layer))
{
	if (!error)
		error = how(disk->stack, layer);
	if (error)
		layer_close(layer);
	return error;
}

static int handle_base(struct disk *disk, const struct vdisk_request *r, const int *fds,
		       struct answer *answer)
{
	struct layer layer;
	int error = layer_open_base(&layer, stack_bytes(disk->stack), fds[0]);

	(void)r;
	(void)answer;
	return push(disk, &layer, error, stack_push_fixed);
}

static int handle_inherited(struct disk *disk, const struct vdisk_request *r, const int *fds,
			    struct answer *answer)
{
	struct layer layer;
	uint64_t bytes = stack_bytes(disk->stack);
	int error = layer_open_inherited(&layer, bytes, fds[0], fds[1]);

	(void)r;
	error = push(disk, &layer, error, stack_push_fixed);
	if (error)
		return error;
	answer->reply.base = (uintptr_t)layer.mapping;
	answer->reply.bytes = bytes;
	answer->fd = layer.uffd;
	return 0;
}

static int handle_layer(struct disk *disk, const struct vdisk_request *r, const int *fds,
			struct answer *answer)
{
	struct layer layer;
	int error = layer_open(&layer, stack_bytes(disk->stack), fds[0], fds[1]);

	(void)r;
	(void)answer;
	/* a VM that runs must be able to write */
	if (!error && disk->open && !layer.writable)
		error = -EINVAL;
	return push(disk, &layer, error, stack_push);
}

static int handle_open(struct disk *disk, const struct vdisk_request *r, const int *fds,
		       struct answer *answer)
{
	struct levels *levels = stack_get(disk->stack);
	bool ready = levels_ready(levels);

	(void)r;
	(void)fds;
	(void)answer;
	stack_put(disk->stack, levels);
	if (!ready || disk->open)
		return -EINVAL;
	pthread_mutex_lock(&disk->lock);
	disk->open = true;
	pthread_cond_broadcast(&disk->opened);
	pthread_mutex_unlock(&disk->lock);
	return 0;
}

/* What is to be merged or copied. Return: 0 and levels to be put, or -errno. */
static int begin_long(struct disk *disk, unsigned first, unsigned count, struct levels **levels)
{
	if (!job_begin())
		return -EBUSY;
	*levels = stack_get(disk->stack);
	if (levels_frozen(*levels, first, count))
		return 0;
	stack_put(disk->stack, *levels);
	job_end();
	return -EINVAL;
}

static void abandon_long(struct disk *disk, struct levels *levels)
{
	stack_put(disk->stack, levels);
	job_end();
}

/* Opens a layer that must be new. Return: 0 or -errno. */
static int open_new(struct layer *layer, uint64_t bytes, const int *fds)
{
	uint64_t blocks = bytes / VDISK_BLOCK_BYTES;
	int error = layer_open(layer, bytes, fds[0], fds[1]);
	bool has;

	if (error)
		return error;
	if (layer->writable && layer_run(layer, 0, blocks, &has) == blocks && !has)
		return 0;
	layer_close(layer);
	return -EINVAL;
}

static int handle_merge(struct disk *disk, const struct vdisk_request *r, const int *fds,
			struct answer *answer)
{
	struct levels *levels;
	struct layer into = LAYER_NONE;
	int error;

	if (r->count < 2)
		return -EINVAL;
	error = begin_long(disk, r->first, r->count, &levels);
	if (error)
		return error;
	error = r->first < levels->fixed ? -EINVAL :
					   open_new(&into, stack_bytes(disk->stack), fds);
	if (!error)
		error = job_start(disk, r, levels, &into, -1);
	if (error) {
		layer_close(&into);
		abandon_long(disk, levels);
	}
	answer->later = !error;
	return error;
}

static int handle_copy(struct disk *disk, const struct vdisk_request *r, const int *fds,
		       struct answer *answer)
{
	const struct layer none = LAYER_NONE;
	struct levels *levels;
	int error, file = -1;

	if (r->first || !r->count)
		return -EINVAL;
	error = begin_long(disk, 0, r->count, &levels);
	if (error)
		return error;
	file = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
	error = file < 0 ? -errno : job_start(disk, r, levels, &none, file);
	if (error) {
		cleanup_close(&file);
		abandon_long(disk, levels);
	}
	answer->later = !error;
	return error;
}

static int handle_stats(struct disk *disk, const struct vdisk_request *r, const int *fds,
			struct answer *answer)
{
	(void)disk;
	(void)r;
	(void)fds;
	(void)answer;
	return 0;
}

static int handle_cancel(struct disk *disk, const struct vdisk_request *r, const int *fds,
			 struct answer *answer)
{
	(void)disk;
	(void)r;
	(void)fds;
	(void)answer;
	job_cancel();
	return 0;
}

static const struct {
	const char *name;
	handler *handle;
	unsigned fds;
} messages[] = {
	[VDISK_BASE] = { "base", handle_base, 1 },
	[VDISK_INHERITED] = { "inherited", handle_inherited, 2 },
	[VDISK_LAYER] = { "layer", handle_layer, 2 },
	[VDISK_OPEN] = { "open", handle_open, 0 },
	[VDISK_MERGE] = { "merge", handle_merge, 2 },
	[VDISK_COPY] = { "copy", handle_copy, 1 },
	[VDISK_STATS] = { "stats", handle_stats, 0 },
	[VDISK_CANCEL] = { "cancel", handle_cancel, 0 },
};
_Static_assert(ARRAY_SIZE(messages) == VDISK_CANCEL + 1, "a row for each message");

static bool takes_layers(uint32_t op)
{
	return op == VDISK_MERGE || op == VDISK_COPY;
}

static int judge(const struct vdisk_request *r, size_t len, unsigned nfds)
{
	if (len != sizeof(*r) || r->op < VDISK_BASE || r->op > VDISK_CANCEL)
		return -EINVAL;
	if (nfds != messages[r->op].fds || (!takes_layers(r->op) && (r->first || r->count)))
		return -EINVAL;
	return 0;
}

/* Return: false if sfd has let go. */
static bool handle_message(struct disk *disk)
{
	/* one byte more, so that a message that is too long is seen to be */
	union {
		struct vdisk_request request;
		uint8_t bytes[sizeof(struct vdisk_request) + 1];
	} message = { 0 };
	const struct vdisk_request *r = &message.request;
	int fds[MAX_FDS] = { -1, -1 }, error;
	unsigned nfds = 0;
	ssize_t len = io_recv_fds(disk->control, &message, sizeof(message.bytes), fds, MAX_FDS,
				  &nfds);
	uint64_t start_ns = io_now_ns();
	struct answer answer = { .fd = -1 };

	if (len == 0 || (len < 0 && len != -EMSGSIZE))
		return false;
	error = judge(r, len < 0 ? 0 : (size_t)len, nfds);
	if (!error)
		error = messages[r->op].handle(disk, r, fds, &answer);
	for (unsigned i = 0; i < nfds; i++)
		cleanup_close(&fds[i]);
	if (error)
		log_info("message %u: error %d", r->op, -error);
	if (answer.later)
		return true;
	answer.reply.op = r->op;
	answer.reply.tag = r->tag;
	answer.reply.error = -error;
	answer.reply.elapsed_ns = io_now_ns() - start_ns;
	answer_send(disk, &answer);
	return true;
}

static void *control_run(void *arg)
{
	while (handle_message(arg))
		;
	_exit(EXIT_SUCCESS);
}

int control_start(struct disk *disk)
{
	pthread_t thread;

	return -pthread_create(&thread, NULL, control_run, disk);
}
