/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests to the host, as proto/xenstore-tree.h describes them: one node asks, another answers. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "proto/xenstore-tree.h"

#define FIRST_EVENT_MS 1000

/* A key that no process of this VM used before or will use. */
static void make_key(char key[SF_XS_KEY_MAX + 1])
{
	static atomic_uint counter;
	uint32_t salt = 0;

	/* without it the key is still unique until process numbers come round */
	if (getrandom(&salt, sizeof(salt), GRND_NONBLOCK) < 0)
		salt = (uint32_t)io_now_ns();
	snprintf(key, SF_XS_KEY_MAX + 1, "%d-%u-%08x", (int)getpid(), atomic_fetch_add(&counter, 1),
		 salt);
}

/* Splits "error ENAME sentence" into errno and sentence. */
static void fail_as_told(const char *request, const char *reply)
{
	const char *name = reply + strlen("error ");
	size_t len = strcspn(name, " ");

	if (strncmp(reply, "error ", strlen("error "))) {
		lsf_fail(EPROTO, "the host answered \"%s\" with \"%s\"", request, reply);
		return;
	}
	lsf_fail(lsf_errno_number(name, len), "%s",
		 name[len] && name[len + 1] ? name + len + 1
					    : "the host refused and did not say why");
}

/*
 * Waits for the node with the answer, or (`instant` may be NULL) for being told by the agent.
 * Return: the answer, the caller's to free(), or NULL.
 */
static char *await_reply(struct lsf_request *r, const char *request, int timeout_ms,
			 struct lsf_instant *instant)
{
	uint64_t end_ns = io_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;

	if (instant && lsf_chan_wait(r->chan, -1, false, NULL, NULL) < 0)
		return NULL;
	for (bool last = false;;) {
		int64_t left_ns;
		char *reply;
		int rc;

		if (instant && lsf_instant_told(instant))
			return NULL;
		if (instant && instant->sock < 0)
			lsf_chan_also(r->chan, -1); /* the agent ended: it is not waited for */
		reply = lsf_chan_read(r->chan, r->reply_path);
		left_ns = (int64_t)(end_ns - io_now_ns());
		if (reply || errno != ENOENT)
			return reply;
		if (last) {
			lsf_fail(ETIMEDOUT, "the host did not answer \"%s\" in %d seconds", request,
				 timeout_ms / 1000);
			return NULL;
		}
		rc = lsf_chan_wait(r->chan, timeout_ms < 0 ? -1 : (int)(left_ns / 1000000) + 1,
				   false, NULL, NULL);
		if (rc < 0)
			return NULL;
		/* once more after the time: it may be over only because the VM slept */
		last = !rc || (timeout_ms >= 0 && left_ns <= 0);
	}
}

int lsf_request_tell(struct chan *chan, const char *request)
{
	char key[SF_XS_KEY_MAX + 1], path[sizeof(SF_XS_REQUEST "/") + SF_XS_KEY_MAX];

	make_key(key);
	snprintf(path, sizeof(path), SF_XS_REQUEST "/%s", key);
	return lsf_chan_write(chan, path, request);
}

/*
 * A watch begins with an event. That one is taken here, so that the instant finds this process
 * waiting and not in the middle of an exchange with XenStore.
 */
static void prepare_instant(struct lsf_request *r, struct lsf_instant *instant, const char *key)
{
	lsf_chan_wait(r->chan, FIRST_EVENT_MS, false, NULL, NULL);
	lsf_instant_begin(instant, key);
	lsf_chan_also(r->chan, instant->sock);
}

static int send_request(struct lsf_request *r, const char *request, struct lsf_instant *instant)
{
	char key[SF_XS_KEY_MAX + 1], path[sizeof(SF_XS_REQUEST "/") + SF_XS_KEY_MAX];

	make_key(key);
	snprintf(path, sizeof(path), SF_XS_REQUEST "/%s", key);
	snprintf(r->reply_path, sizeof(r->reply_path), SF_XS_REPLY "/%s", key);
	if (lsf_chan_watch(r->chan, r->reply_path))
		return -1;
	if (instant)
		prepare_instant(r, instant, key);
	return lsf_chan_write(r->chan, path, request);
}

static char *begin(struct lsf_request *r, const char *request, int timeout_ms,
		   struct lsf_instant *instant)
{
	_cleanup_free_ char *reply = NULL;

	*r = (struct lsf_request){ .chan = lsf_chan_get() };
	if (!r->chan || send_request(r, request, instant))
		return NULL;
	reply = await_reply(r, request, timeout_ms, instant);
	if (!reply)
		return NULL;
	if (!strncmp(reply, "ok", 2) && (!reply[2] || reply[2] == ' '))
		return strdup(reply + 2);
	fail_as_told(request, reply);
	return NULL;
}

static char *request_vbegin(struct lsf_request *r, int timeout_ms, const char *format, va_list args)
{
	char request[SF_XS_REQUEST_MAX + 1];

	vsnprintf(request, sizeof(request), format, args);
	return begin(r, request, timeout_ms, NULL);
}

char *lsf_request_instant(struct lsf_request *r, struct lsf_instant *instant, const char *text)
{
	return begin(r, text, -1, instant);
}

char *lsf_request_begin(struct lsf_request *r, int timeout_ms, const char *format, ...)
{
	va_list args;
	char *reply;

	va_start(args, format);
	reply = request_vbegin(r, timeout_ms, format, args);
	va_end(args);
	return reply;
}

void lsf_request_end(struct lsf_request *r)
{
	int number = errno;

	if (r->chan)
		lsf_chan_also(r->chan, -1);
	if (r->chan && r->late) {
		lsf_chan_put_late(r->chan, r->reply_path);
		errno = number;
		return;
	}
	if (r->chan && r->reply_path[0])
		lsf_chan_remove(r->chan, r->reply_path);
	if (r->chan)
		lsf_chan_put(r->chan);
	errno = number;
}

int lsf_request_simple(const char *format, ...)
{
	struct lsf_request r;
	_cleanup_free_ char *reply = NULL;
	va_list args;

	va_start(args, format);
	reply = request_vbegin(&r, REQUEST_TIMEOUT_MS, format, args);
	va_end(args);
	lsf_request_end(&r);
	return reply ? 0 : -1;
}

int lsf_reply_numbers(const char *reply, int *numbers, unsigned count)
{
	const char *at = reply;

	for (unsigned i = 0; i < count; i++) {
		char *end;
		long number;

		errno = 0;
		number = strtol(at, &end, 10);
		if (errno || end == at || number < 0 || number > INT_MAX)
			return lsf_fail(EPROTO, "the host answered \"%s\", which lacks a number",
					reply);
		numbers[i] = (int)number;
		at = end;
	}
	return 0;
}
