/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opens images: looks at the file, asks qemu-img what it is, unpacks it if it has to.
 *
 *   LOOK     the file, by itself: is it there, is it packed by something else?   → INFO, done
 *   INFO     qemu-img info: format, size, corruption, backing files              → CHECK, done
 *   CHECK    a qcow2: does it hold together, and is all of it there?             → MEASURE
 *   MEASURE  is there room for what is in it?                           → UNPACK
 *   UNPACK   qemu-img convert                                                    → done
 */
#define _GNU_SOURCE
#include "host/sfd/image.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/tool.h"
#include "proto/vdisk.h"

#define CACHE_UNUSED 4 /* unpacked images that are kept without a VM */
/* QEMU's locks on an image file, a byte for each permission (its block/file-posix.c). */
#define LOCK_HAS    100 /* somebody has this permission */
#define LOCK_DENIES 200 /* somebody lets nobody else have it */
enum permission { READ_CONSISTENT = 0, WRITE = 1, RESIZE = 3 };

struct image {
	unsigned refs; /* 0: kept for who may come */
	int fd;
	uint64_t bytes;
	char path[PATH_MAX];
	struct stat was; /* the file, when it was opened */
	bool unpacked;
	TAILQ_ENTRY(image) entry; /* most recently used first */
};

static TAILQ_HEAD(images, image) images = TAILQ_HEAD_INITIALIZER(images);

struct image_opening {
	struct daemon *daemon;
	struct image_events events;
	void *arg;
	char path[PATH_MAX];
	int fd; /* the file */
	struct stat was;
	struct event *look;
	struct tool *tool;
	int to; /* it is unpacked into, -1: not yet */
	uint64_t bytes;
	unsigned percent;
};

/* ---- images ---- */

static void image_free(struct image *i)
{
	TAILQ_REMOVE(&images, i, entry);
	close(i->fd);
	free(i);
}

/* Keeps the last few of those nobody uses: all raw ones can be opened again at no cost. */
static void trim_cache(unsigned keep)
{
	struct image *i, *next;

	for (i = TAILQ_FIRST(&images); i; i = next) {
		next = TAILQ_NEXT(i, entry);
		if (!i->refs && (!i->unpacked || !keep))
			image_free(i);
		else if (!i->refs)
			keep--;
	}
}

struct image *image_get(struct image *i)
{
	i->refs++;
	return i;
}

void image_put(struct image *i)
{
	if (i && !--i->refs)
		trim_cache(CACHE_UNUSED);
}

int image_fd(const struct image *i)
{
	return i->fd;
}

uint64_t image_bytes(const struct image *i)
{
	return i->bytes;
}

const char *image_path(const struct image *i)
{
	return i->path;
}

void image_forget_all(void)
{
	trim_cache(0);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* ---- the end of an opening ---- */

static void opening_free(struct image_opening *o)
{
	if (o->look)
		event_free(o->look);
	cleanup_close(&o->fd);
	cleanup_close(&o->to);
	free(o);
}

void image_cancel(struct image_opening *o)
{
	if (!o)
		return;
	tool_stop(o->tool);
	opening_free(o);
}

static void opening_fail(struct image_opening *o, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void opening_fail(struct image_opening *o, int error, const char *format, ...)
{
	char what[WHY_BYTES], why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(why, sizeof(why), "image %.95s: %.150s", o->path, what);
	o->events.opened(o->arg, error, why, NULL);
	opening_free(o);
}

/* It is ready, as the content of `fd` (taken). */
static void opening_done(struct image_opening *o, int *fd, uint64_t bytes, bool unpacked)
{
	struct image *i = calloc(1, sizeof(*i));

	if (!i) {
		opening_fail(o, -ENOMEM, "out of memory");
		return;
	}
	i->refs = 1;
	i->fd = steal_fd(fd);
	i->bytes = (bytes + VDISK_BLOCK_BYTES - 1) / VDISK_BLOCK_BYTES * VDISK_BLOCK_BYTES;
	i->was = o->was;
	i->unpacked = unpacked;
	memcpy(i->path, o->path, sizeof(i->path));
	TAILQ_INSERT_HEAD(&images, i, entry);
	log_info("image %s: %s, %llu bytes", i->path, unpacked ? "unpacked" : "raw",
		 (unsigned long long)i->bytes);
	o->events.opened(o->arg, 0, NULL, i);
	opening_free(o);
}

/* The first line of what a program complained of, without its name. */
static const char *complaint(const char *trouble, char text[WHY_BYTES])
{
	const char *colon = strncmp(trouble, "qemu-img: ", 10) ? trouble : trouble + 10;

	snprintf(text, WHY_BYTES, "%.*s", (int)strcspn(colon, "\n"), colon);
	return *text ? text : "qemu-img ended without a word";
}

/* ---- UNPACK ---- */

static void unpack_printed(void *arg, const char *text)
{
	struct image_opening *o = arg;
	const char *last = strrchr(text, '('); /* "    (12.34/100%)\r" */
	double percent = last ? strtod(last + 1, NULL) : 0;

	if (percent < o->percent + 1 || percent > 100)
		return;
	o->percent = (unsigned)percent;
	o->events.progress(o->arg, o->percent);
}

static void unpack_ended(void *arg, int status, const char *text, const char *trouble)
{
	struct image_opening *o = arg;
	_cleanup_fd_ int fd = -1;
	char why[WHY_BYTES];

	(void)text;
	o->tool = NULL;
	if (status) {
		opening_fail(o, strstr(trouble, "No space") ? -ENOSPC : -EIO,
			     "it could not be unpacked into %s: %.100s", o->daemon->config.data_dir,
			     complaint(trouble, why));
		return;
	}
	fd = data_reopen(o->to);
	if (fd < 0)
		opening_fail(o, fd, "it was unpacked and cannot be read: %s", strerror(-fd));
	else
		opening_done(o, &fd, o->bytes, true);
}

static void unpack(struct image_opening *o)
{
	static const struct tool_events events = { .printed = unpack_printed,
						   .ended = unpack_ended };
	const char *const argv[] = { "qemu-img", "convert", "-p", "-n", "--target-is-zero", "-f",
				     "qcow2", "-O", "raw", o->path, "/proc/self/fd/3", NULL };

	_Static_assert(TOOL_FD == 3, "where it is unpacked to");
	o->to = data_file(o->daemon, o->bytes);
	if (o->to < 0) {
		opening_fail(o, o->to, "no file to unpack it into in %s: %s",
			     o->daemon->config.data_dir, strerror(-o->to));
		return;
	}
	o->events.progress(o->arg, 0);
	o->tool = tool_start(o->daemon->base, argv, o->to, &events, o);
	if (!o->tool)
		opening_fail(o, -errno, "cannot run qemu-img: %s", strerror(errno));
}

/* ---- MEASURE ---- */

static void measured(void *arg, int status, const char *text, const char *trouble)
{
	struct image_opening *o = arg;
	char why[WHY_BYTES];
	json_t *sizes = status ? NULL : json_loads(text, 0, NULL);
	json_int_t bytes = json_integer_value(json_object_get(sizes, "required"));
	int rc;

	o->tool = NULL;
	json_decref(sizes);
	if (!sizes) {
		opening_fail(o, -EIO, "%.150s", complaint(trouble, why));
		return;
	}
	trim_cache(CACHE_UNUSED);
	rc = data_room(o->daemon, (uint64_t)bytes, why);
	if (rc) {
		trim_cache(0);
		rc = data_room(o->daemon, (uint64_t)bytes, why);
	}
	if (rc)
		opening_fail(o, rc, "%.150s", why);
	else
		unpack(o);
}

static void measure(struct image_opening *o)
{
	static const struct tool_events events = { .ended = measured };
	const char *const argv[] = { "qemu-img", "measure", "--output=json", "-f", "qcow2", "-O",
				     "raw", o->path, NULL };

	o->tool = tool_start(o->daemon->base, argv, -1, &events, o);
	if (!o->tool)
		opening_fail(o, -errno, "cannot run qemu-img: %s", strerror(errno));
}

/* ---- CHECK ---- */

static void checked(void *arg, int status, const char *text, const char *trouble)
{
	struct image_opening *o = arg;

	(void)text;
	(void)trouble;
	o->tool = NULL;
	if (status == 0 || status == 3) /* 3: clusters that nobody needs, which harm nobody */
		measure(o);
	else
		opening_fail(o, -EILSEQ, "it is damaged or cut short: look at it with  qemu-img check");
}

/* qemu-img convert would take what lies behind the end of a file that was cut short for zeros. */
static void check(struct image_opening *o)
{
	static const struct tool_events events = { .ended = checked };
	const char *const argv[] = { "qemu-img", "check", "-f", "qcow2", o->path, NULL };

	o->tool = tool_start(o->daemon->base, argv, -1, &events, o);
	if (!o->tool)
		opening_fail(o, -errno, "cannot run qemu-img: %s", strerror(errno));
}

/* ---- INFO ---- */

static int lock_byte(int fd, int command, short type, off_t at, struct flock *lock)
{
	*lock = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
	return fcntl(fd, command, lock) ? -errno : 0;
}

/* Takes a reader's locks, as QEMU does. Return: 0, -EBUSY if somebody may write, or -errno. */
static int lock_for_reading(int fd)
{
	static const off_t taken[] = { LOCK_HAS + READ_CONSISTENT, LOCK_DENIES + WRITE,
				       LOCK_DENIES + RESIZE };
	static const off_t foreign[] = { LOCK_DENIES + READ_CONSISTENT, LOCK_HAS + WRITE,
					 LOCK_HAS + RESIZE };
	struct flock lock;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(taken) && !rc; i++)
		rc = lock_byte(fd, F_OFD_SETLK, F_RDLCK, taken[i], &lock);
	for (size_t i = 0; i < ARRAY_SIZE(foreign) && !rc; i++) {
		rc = lock_byte(fd, F_OFD_GETLK, F_WRLCK, foreign[i], &lock);
		if (!rc && lock.l_type != F_UNLCK)
			rc = -EBUSY;
	}
	return rc == -EACCES || rc == -EAGAIN ? -EBUSY : rc;
}

static void opening_busy(struct image_opening *o)
{
	opening_fail(o, -EBUSY, "another program uses it and may write to it: end that first, or "
				"use a copy");
}

static void use_raw(struct image_opening *o)
{
	int rc = lock_for_reading(o->fd);

	if (rc == -EBUSY)
		opening_busy(o);
	else if (rc)
		opening_fail(o, rc, "it cannot be locked: %s", strerror(-rc));
	else
		opening_done(o, &o->fd, (uint64_t)o->was.st_size, false);
}

/* The file itself stands first, what is behind it after that. */
static void use_info(struct image_opening *o, const json_t *chain)
{
	const json_t *info = json_array_get(chain, 0), *entry;
	const char *format = json_string_value(json_object_get(info, "format"));
	size_t i;

	o->bytes = (uint64_t)json_integer_value(json_object_get(info, "virtual-size"));
	json_array_foreach(chain, i, entry) {
		const json_t *data = json_object_get(json_object_get(entry, "format-specific"),
						     "data");

		if (json_is_true(json_object_get(data, "corrupt"))) {
			opening_fail(o, -EILSEQ, "it is damaged: look at it with  qemu-img check");
			return;
		}
	}
	if (!format || !o->bytes)
		opening_fail(o, -EINVAL, "it is empty");
	else if (o->bytes > VDISK_MAX_BYTES)
		opening_fail(o, -EFBIG, "it is larger than %llu GB", VDISK_MAX_BYTES >> 30);
	else if (!strcmp(format, "raw"))
		use_raw(o);
	else if (!strcmp(format, "qcow2"))
		check(o);
	else
		opening_fail(o, -EINVAL, "its format is %.20s: make a qcow2 image of it with  "
					 "qemu-img convert -O qcow2", format);
}

static void info_ended(void *arg, int status, const char *text, const char *trouble)
{
	struct image_opening *o = arg;
	json_t *chain = status ? NULL : json_loads(text, 0, NULL);
	char why[WHY_BYTES];

	o->tool = NULL;
	if (chain)
		use_info(o, chain);
	else if (status == 127)
		opening_fail(o, -ENOENT, "qemu-img was not found: install the package qemu-utils");
	else if (strstr(trouble, "lock"))
		opening_busy(o);
	else
		opening_fail(o, -EIO, "%.150s", complaint(trouble, why));
	json_decref(chain);
}

/* ---- LOOK ---- */

/* Files that are no disk, though qemu-img would take anything it does not know for a raw one. */
static const struct {
	const char *magic;
	size_t len;
	const char *what;
} packed[] = {
	{ "\x1f\x8b", 2, "gzip" },	     { "\xfd" "7zXZ", 5, "xz" },
	{ "\x28\xb5\x2f\xfd", 4, "zstd" },   { "BZh", 3, "bzip2" },
	{ "PK\x03\x04", 4, "zip" },	     { "7z\xbc\xaf\x27\x1c", 6, "7-Zip" },
	{ "\x04\x22\x4d\x18", 4, "lz4" },
};

static const char *packed_by(int fd)
{
	char head[8] = "";

	if (pread(fd, head, sizeof(head), 0) != sizeof(head))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(packed); i++) {
		if (!memcmp(head, packed[i].magic, packed[i].len))
			return packed[i].what;
	}
	return NULL;
}

/* Return: the same, unchanged image, if it is here already. */
static struct image *find_image(const struct stat *st)
{
	struct image *i;

	TAILQ_FOREACH(i, &images, entry) {
		if (!same_file(&i->was, st))
			continue;
		TAILQ_REMOVE(&images, i, entry);
		TAILQ_INSERT_HEAD(&images, i, entry);
		return image_get(i);
	}
	return NULL;
}

static void ask_info(struct image_opening *o)
{
	static const struct tool_events events = { .ended = info_ended };
	const char *const argv[] = { "qemu-img", "info", "--output=json", "--backing-chain",
				     o->path, NULL };

	o->tool = tool_start(o->daemon->base, argv, -1, &events, o);
	if (!o->tool)
		opening_fail(o, -errno, "cannot run qemu-img: %s", strerror(errno));
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct image_opening *o = arg;
	struct image *here;
	const char *by;

	(void)fd;
	(void)what;
	/* a pipe of that name must not hold us up */
	o->fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (o->fd < 0 || fstat(o->fd, &o->was)) {
		opening_fail(o, -errno, "it cannot be opened: %s", strerror(errno));
		return;
	}
	if (!S_ISREG(o->was.st_mode)) {
		opening_fail(o, -EINVAL, "it is not a regular file");
		return;
	}
	here = find_image(&o->was);
	by = packed_by(o->fd);
	if (here) {
		o->events.opened(o->arg, 0, NULL, here);
		opening_free(o);
	} else if (by) {
		opening_fail(o, -EINVAL, "it is packed by %s: unpack it first", by);
	} else {
		ask_info(o);
	}
}

struct image_opening *image_open(struct daemon *d, const char *path,
				 const struct image_events *events, void *arg)
{
	struct image_opening *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct image_opening){ .daemon = d, .events = *events, .arg = arg, .fd = -1,
				     .to = -1 };
	snprintf(o->path, sizeof(o->path), "%s", path);
	o->look = evtimer_new(d->base, look, o);
	if (!o->look) {
		opening_free(o);
		return NULL;
	}
	event_active(o->look, EV_TIMEOUT, 0);
	return o;
}
