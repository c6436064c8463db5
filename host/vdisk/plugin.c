/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sf-vdisk: an nbdkit plugin, the disk of a VM. nbdkit speaks NBD with QEMU and has a thread for
 * each request; here are the requests.
 *
 *   nbdkit --foreground --single …/sf-vdisk.so control=FD bytes=N
 *
 * A request is whole blocks, which QEMU is told: it reads, modifies and writes where a guest has
 * smaller ones. A flush does nothing: the layers end with the host's daemon, and until then they
 * are in files whose content the kernel keeps whether this process lives or not. Only power lost
 * could lose it, and the VM with it.
 */
#include "config.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "host/vdisk/disk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define PREFERRED_BYTES 65536u
#define MAX_REQUEST_BYTES (32u << 20)

static struct disk disk;
static int control = -1;
static uint64_t bytes;

/* ── starting ── */

static void vdisk_load(void)
{
	log_init("sf-vdisk", LOG_LVL_WARN);
	/* a file at its limit is a full disk, not the end */
	signal(SIGXFSZ, SIG_IGN);
}

static int vdisk_config(const char *key, const char *value)
{
	if (!strcmp(key, "control"))
		return nbdkit_parse_int("control", value, &control);
	if (!strcmp(key, "bytes"))
		return nbdkit_parse_uint64_t("bytes", value, &bytes);
	nbdkit_error("unknown parameter '%s'", key);
	return -1;
}

static bool is_control_socket(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return fd >= 3 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       type == SOCK_SEQPACKET;
}

static int vdisk_config_complete(void)
{
	if (!is_control_socket(control)) {
		nbdkit_error("control=%d is not the descriptor of a SOCK_SEQPACKET socket",
			     control);
		return -1;
	}
	if (!layer_is_disk(bytes)) {
		nbdkit_error("bytes=%llu is not the size of a disk: a multiple of %u up to %llu",
			     (unsigned long long)bytes, VDISK_BLOCK_BYTES, VDISK_MAX_BYTES);
		return -1;
	}
	return 0;
}

static int vdisk_after_fork(void)
{
	int error = io_set_inherit(control, false);

	if (!error)
		error = io_set_nonblock(control, false);
	if (!error)
		error = disk_init(&disk, bytes, control);
	if (!error)
		error = control_start(&disk);
	if (error)
		nbdkit_error("cannot start: %s", strerror(-error));
	return error ? -1 : 0;
}

/* The threads of control.c run still, with code that nbdkit is about to take away. */
static void vdisk_cleanup(void)
{
	_exit(EXIT_SUCCESS);
}

/* ── what the disk can do ── */

static void *vdisk_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t vdisk_get_size(void *handle)
{
	(void)handle;
	return (int64_t)bytes;
}

static int vdisk_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
			    uint32_t *maximum)
{
	(void)handle;
	*minimum = VDISK_BLOCK_BYTES;
	*preferred = PREFERRED_BYTES;
	*maximum = MAX_REQUEST_BYTES;
	return 0;
}

static int vdisk_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int vdisk_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* ── requests ── */

/* Return: 0, or -1 as nbdkit wants it. */
static int end_request(int error)
{
	if (!error)
		return 0;
	nbdkit_set_error(-error);
	log_debug("a request fails: error %d", -error);
	return -1;
}

/* Whole blocks inside the disk? Waits until it is open. Return: 0 or -errno. */
static int begin_request(uint64_t offset, uint32_t count)
{
	if (!count || offset % VDISK_BLOCK_BYTES || count % VDISK_BLOCK_BYTES || offset > bytes ||
	    count > bytes - offset)
		return -EINVAL;
	disk_wait_open(&disk);
	return 0;
}

static int vdisk_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	int error = begin_request(offset, count);
	struct levels *levels;

	(void)handle;
	(void)flags;
	if (error)
		return end_request(error);
	levels = stack_get(disk.stack);
	error = layers_read(levels_layers(levels), levels->count, offset / VDISK_BLOCK_BYTES,
			    count / VDISK_BLOCK_BYTES, buf);
	stack_put(disk.stack, levels);
	disk.read_bytes += error ? 0 : count;
	return end_request(error);
}

/* Into the top layer: data, or zeros if `buf` is NULL. Return: 0, or -1 as nbdkit wants it. */
static int put_in_top(const void *buf, uint32_t count, uint64_t offset)
{
	uint64_t block = offset / VDISK_BLOCK_BYTES, blocks = count / VDISK_BLOCK_BYTES;
	int error = begin_request(offset, count);
	struct levels *levels;
	struct layer *top;

	if (error)
		return end_request(error);
	levels = stack_get_write(disk.stack);
	top = levels->layers[levels->count - 1];
	error = buf ? layer_write(top, block, blocks, buf) : layer_zero(top, block, blocks);
	stack_put_write(disk.stack, levels);
	disk.written_bytes += error || !buf ? 0 : count;
	return end_request(error);
}

static int vdisk_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			uint32_t flags)
{
	(void)handle;
	(void)flags;
	return put_in_top(buf, count, offset);
}

static int vdisk_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return put_in_top(NULL, count, offset);
}

static int vdisk_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return 0;
}

static int vdisk_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			 struct nbdkit_extents *extents)
{
	uint64_t block = offset / VDISK_BLOCK_BYTES;
	uint64_t end = (offset + count + VDISK_BLOCK_BYTES - 1) / VDISK_BLOCK_BYTES, run;
	struct levels *levels;
	int ret = 0;

	(void)handle;
	if (!count || offset > bytes || count > bytes - offset)
		return end_request(-EINVAL);
	disk_wait_open(&disk);
	levels = stack_get(disk.stack);
	for (; block < end && !ret; block += run) {
		bool data;
		int which;

		run = layers_data_run(levels_layers(levels), levels->count, block, end - block,
				      &which, &data);
		ret = nbdkit_add_extent(extents, block * VDISK_BLOCK_BYTES,
					run * VDISK_BLOCK_BYTES,
					data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	stack_put(disk.stack, levels);
	return ret;
}

static struct nbdkit_plugin plugin = {
	.name = "sf-vdisk",
	.longname = "Snowflock's disks",
	.version = PACKAGE_VERSION,
	.description = "The disk of a VM in layers. Started by sfd.",
	.load = vdisk_load,
	.config = vdisk_config,
	.config_complete = vdisk_config_complete,
	.config_help = "control=FD  (required) a SOCK_SEQPACKET socket to sfd\n"
		       "bytes=N     (required) the size of the disk",
	.after_fork = vdisk_after_fork,
	.cleanup = vdisk_cleanup,
	.open = vdisk_open,
	.get_size = vdisk_get_size,
	.block_size = vdisk_block_size,
	.can_write = vdisk_yes,
	.can_flush = vdisk_yes,
	.can_trim = vdisk_yes,
	.can_zero = vdisk_yes,
	.can_extents = vdisk_yes,
	.can_multi_conn = vdisk_yes,
	.can_fua = vdisk_can_fua,
	.pread = vdisk_pread,
	.pwrite = vdisk_pwrite,
	.zero = vdisk_zero,
	.trim = vdisk_zero,
	.flush = vdisk_flush,
	.extents = vdisk_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
