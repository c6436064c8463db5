/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections to XenStore, by libxenstore.
 *
 * A call takes a connection for as long as it lasts, so that it alone gets the events of its
 * watches; idle ones wait in a pool, because the first watch of each costs a thread, and closing
 * one makes glibc load libgcc, which is no thing to do in a VM whose every page comes over the
 * network. A connection whose other end went away (the agent was started again) is made anew, with
 * its watches.
 *
 * libxenstore sets SIGPIPE aside around each exchange for the whole process; two exchanges at
 * once could put back each other's setting. So there is one at a time (talk_lock). Waiting for
 * events is outside of it.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "proto/xenstore-tree.h"

#define LIVENESS_MS	1000 /* a silent connection is looked at so often: its end makes no event */
#define REVIVE_MS	5000 /* how long a lost connection is tried to be made again */
#define REVIVE_PAUSE_MS 20
#define TRIES		3
#define PATH_BYTES	160

struct chan {
	struct xs_handle *xs; /* NULL: to be opened */
	bool busy;
	int also_fd;		/* -1: none */
	char late[PATH_BYTES];	/* to be removed by the next user, with all watches */
	unsigned watches;
	char watched[CHAN_WATCHES][PATH_BYTES];
	struct chan *next;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER; /* pool, and busy in each */
static pthread_mutex_t talk_lock = PTHREAD_MUTEX_INITIALIZER; /* exchanges; taken last */
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;
static struct chan *pool;
static unsigned fork_generation;

static void before_fork(void)
{
	pthread_mutex_lock(&pool_lock);
	pthread_mutex_lock(&talk_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&talk_lock);
	pthread_mutex_unlock(&pool_lock);
}

/* The connections are the parent process's: the child lets go of them and begins anew. */
static void after_fork_child(void)
{
	while (pool) {
		struct chan *chan = pool;

		pool = chan->next;
		if (chan->xs)
			xs_daemon_destroy_postfork(chan->xs);
		free(chan);
	}
	fork_generation++;
	pthread_mutex_init(&talk_lock, NULL);
	pthread_mutex_init(&pool_lock, NULL);
}

static void pool_prepare(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

unsigned lsf_fork_generation(void)
{
	pthread_once(&pool_once, pool_prepare);
	return fork_generation;
}

/* True if an exchange failed because there is no connection any more. */
static bool is_lost(int number)
{
	/* a reader thread that ended shows as EINVAL; we never ask anything that is answered so */
	return number == EINVAL || number == EBADF || number == EPIPE || number == ECONNRESET ||
	       number == ENOTCONN || number == EIO;
}

/* Looks whether someone makes clones behind this XenStore. */
static int check_version(struct xs_handle *xs)
{
	_cleanup_free_ char *version = NULL;
	unsigned len;

	version = xs_read(xs, XBT_NULL, SF_XS_ROOT "/version", &len);
	if (!version && is_lost(errno))
		return lsf_fail(ECONNRESET, "XenStore closed the connection");
	if (!version)
		return lsf_fail(ENOSYS, "XenStore has no " SF_XS_ROOT "/version: "
					"the host of this VM does not make clones");
	if (strcmp(version, SF_XS_VERSION))
		return lsf_fail(ENOSYS, "the host speaks version %s, this library " SF_XS_VERSION,
				version);
	return 0;
}

/* Opens the connection and sets its watches again; under talk_lock. */
static int open_locked(struct chan *chan)
{
	struct xs_handle *xs = xs_open(0);

	if (!xs)
		return lsf_fail(ENODEV, "this is not a Snowflock VM: no XenStore (%s)",
				strerror(errno));
	if (check_version(xs)) {
		int number = errno;

		xs_close(xs);
		errno = number;
		return -1;
	}
	for (unsigned i = 0; i < chan->watches; i++) {
		if (xs_watch(xs, chan->watched[i], chan->watched[i]))
			continue;
		lsf_fail(errno, "cannot watch %s in XenStore: %s", chan->watched[i],
			 strerror(errno));
		xs_close(xs);
		return -1;
	}
	chan->xs = xs;
	return 0;
}

static int chan_open(struct chan *chan)
{
	int rc;

	pthread_mutex_lock(&talk_lock);
	rc = open_locked(chan);
	pthread_mutex_unlock(&talk_lock);
	return rc;
}

static void chan_close(struct chan *chan)
{
	pthread_mutex_lock(&talk_lock);
	xs_close(chan->xs);
	chan->xs = NULL;
	pthread_mutex_unlock(&talk_lock);
}

/*
 * Makes a lost connection again. Return: 0; -1 with ECONNRESET if that did not work in REVIVE_MS.
 */
static int chan_revive(struct chan *chan)
{
	uint64_t end_ns = io_now_ns() + REVIVE_MS * 1000000ull;

	chan_close(chan);
	while (chan_open(chan)) {
		if (io_now_ns() > end_ns)
			return lsf_fail(ECONNRESET,
					"the connection to XenStore broke and is not coming back");
		poll(NULL, 0, REVIVE_PAUSE_MS);
	}
	return 0;
}

static struct chan *pool_take(void)
{
	struct chan *chan;

	pthread_once(&pool_once, pool_prepare);
	pthread_mutex_lock(&pool_lock);
	for (chan = pool; chan && chan->busy; chan = chan->next)
		;
	if (!chan) {
		chan = calloc(1, sizeof(*chan));
		if (chan) {
			chan->also_fd = -1;
			chan->next = pool;
			pool = chan;
		}
	}
	if (chan)
		chan->busy = true;
	pthread_mutex_unlock(&pool_lock);
	return chan;
}

static void tidy_late(struct chan *chan)
{
	lsf_chan_remove(chan, chan->late);
	lsf_chan_unwatch_all(chan);
	chan->late[0] = 0;
}

struct chan *lsf_chan_get(void)
{
	struct chan *chan = pool_take();

	if (!chan) {
		lsf_fail(ENOMEM, "no memory for a connection to XenStore");
		return NULL;
	}
	if (!chan->xs && chan_open(chan)) {
		lsf_chan_put(chan);
		return NULL;
	}
	if (chan->late[0])
		tidy_late(chan);
	return chan;
}

void lsf_chan_put_late(struct chan *chan, const char *path)
{
	snprintf(chan->late, sizeof(chan->late), "%s", path);
	pthread_mutex_lock(&pool_lock);
	chan->busy = false;
	pthread_mutex_unlock(&pool_lock);
}

void lsf_chan_put(struct chan *chan)
{
	int number = errno;

	if (chan->watches)
		lsf_chan_unwatch_all(chan);
	pthread_mutex_lock(&pool_lock);
	chan->busy = false;
	pthread_mutex_unlock(&pool_lock);
	errno = number;
}

/* False, with errno, for a connection that was lost and could not be made again. */
static bool alive(const struct chan *chan)
{
	if (!chan->xs)
		errno = EBADF;
	return chan->xs;
}

/* After a failed exchange, errno set: is it worth another try? Sets the sentence if not. */
static bool try_again(struct chan *chan, unsigned *tries, const char *path)
{
	int number = errno;

	if (is_lost(number) && ++*tries < TRIES)
		return !chan_revive(chan);
	if (number == ENOENT)
		lsf_fail(number, "XenStore has no %s", path);
	else
		lsf_fail(number, "XenStore: %s: %s", path, strerror(number));
	return false;
}

char *lsf_chan_read(struct chan *chan, const char *path)
{
	unsigned tries = 0, len;
	char *value;

	do {
		pthread_mutex_lock(&talk_lock);
		value = alive(chan) ? xs_read(chan->xs, XBT_NULL, path, &len) : NULL;
		pthread_mutex_unlock(&talk_lock);
	} while (!value && try_again(chan, &tries, path));
	return value;
}

char **lsf_chan_list(struct chan *chan, const char *path, unsigned *count)
{
	unsigned tries = 0;
	char **names;

	do {
		pthread_mutex_lock(&talk_lock);
		names = alive(chan) ? xs_directory(chan->xs, XBT_NULL, path, count) : NULL;
		pthread_mutex_unlock(&talk_lock);
	} while (!names && try_again(chan, &tries, path));
	return names;
}

int lsf_chan_write(struct chan *chan, const char *path, const char *value)
{
	bool ok;

	pthread_mutex_lock(&talk_lock);
	ok = alive(chan) && xs_write(chan->xs, XBT_NULL, path, value, (unsigned)strlen(value));
	pthread_mutex_unlock(&talk_lock);
	if (ok)
		return 0;
	if (is_lost(errno))
		return lsf_fail(ECONNRESET,
				"the connection to XenStore broke while asking the host");
	if (errno == ENOSPC || errno == EDQUOT)
		return lsf_fail(EDQUOT,
				"XenStore takes no more of this VM: too many requests at once");
	return lsf_fail(errno, "XenStore: cannot write %s: %s", path, strerror(errno));
}

void lsf_chan_remove(struct chan *chan, const char *path)
{
	pthread_mutex_lock(&talk_lock);
	if (alive(chan))
		xs_rm(chan->xs, XBT_NULL, path);
	pthread_mutex_unlock(&talk_lock);
}

int lsf_chan_watch(struct chan *chan, const char *path)
{
	unsigned tries = 0;
	bool ok;

	if (chan->watches == CHAN_WATCHES || strlen(path) >= PATH_BYTES)
		return lsf_fail(EINVAL, "cannot watch %s too", path);
	do {
		pthread_mutex_lock(&talk_lock);
		ok = alive(chan) && xs_watch(chan->xs, path, path);
		pthread_mutex_unlock(&talk_lock);
	} while (!ok && try_again(chan, &tries, path));
	if (!ok)
		return -1;
	strcpy(chan->watched[chan->watches++], path);
	return 0;
}

void lsf_chan_unwatch_all(struct chan *chan)
{
	char **event;

	while (chan->watches) {
		const char *path = chan->watched[--chan->watches];

		pthread_mutex_lock(&talk_lock);
		if (alive(chan))
			xs_unwatch(chan->xs, path, path);
		pthread_mutex_unlock(&talk_lock);
	}
	while (alive(chan) && (event = xs_check_watch(chan->xs)))
		free(event);
}

/* Hands over the events that are there. Return: how many; -1 if the connection is lost. */
static int take_events(struct chan *chan, chan_event *each, void *arg)
{
	char **event;
	int count = 0;

	while ((event = xs_check_watch(chan->xs))) {
		if (each)
			each(arg, event[XS_WATCH_PATH]);
		free(event);
		count++;
	}
	return errno == EAGAIN ? count : -1;
}

void lsf_chan_also(struct chan *chan, int fd)
{
	chan->also_fd = fd;
}

int lsf_chan_wait(struct chan *chan, int timeout_ms, bool interruptible, chan_event *each,
		  void *arg)
{
	uint64_t end_ns = io_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;

	for (;;) {
		struct pollfd ready[] = { { .fd = xs_fileno(chan->xs), .events = POLLIN },
					  { .fd = chan->also_fd, .events = POLLIN } };
		int count = take_events(chan, each, arg), slice_ms = LIVENESS_MS;
		uint64_t now_ns = io_now_ns();

		if (count > 0)
			return 1;
		if (count < 0) {
			if (chan_revive(chan))
				return -1;
			if (each)
				each(arg, NULL);
			return 1;
		}
		if (timeout_ms >= 0 && now_ns >= end_ns)
			return 0;
		if (timeout_ms >= 0 && end_ns - now_ns < LIVENESS_MS * 1000000ull)
			slice_ms = (int)((end_ns - now_ns + 999999) / 1000000);
		if (poll(ready, 2, slice_ms) >= 0 || (errno == EINTR && !interruptible)) {
			if (ready[1].revents)
				return 1;
			continue;
		}
		return lsf_fail(errno, "waiting for XenStore: %s", strerror(errno));
	}
}

static int number_of(const char *path, const char *value)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(value, &end, 10);
	if (errno || end == value || *end || number < 0 || number > INT_MAX)
		return lsf_fail(EPROTO, "XenStore: %s is \"%s\", not a number", path, value);
	return (int)number;
}

static int chan_vnumber(struct chan *chan, const char *format, va_list args)
{
	_cleanup_free_ char *value = NULL;
	char path[PATH_BYTES];

	vsnprintf(path, sizeof(path), format, args);
	value = lsf_chan_read(chan, path);
	return value ? number_of(path, value) : -1;
}

int lsf_chan_number(struct chan *chan, const char *format, ...)
{
	va_list args;
	int number;

	va_start(args, format);
	number = chan_vnumber(chan, format, args);
	va_end(args);
	return number;
}

int lsf_read_number(const char *format, ...)
{
	struct chan *chan = lsf_chan_get();
	va_list args;
	int number;

	if (!chan)
		return -1;
	va_start(args, format);
	number = chan_vnumber(chan, format, args);
	va_end(args);
	lsf_chan_put(chan);
	return number;
}
