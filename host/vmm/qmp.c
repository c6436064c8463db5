/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP: lines in, calls out, each answer to its caller. */
#define _GNU_SOURCE
#include "host/vmm/qmp.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

struct call {
	TAILQ_ENTRY(call) link;
	json_int_t id;
	char *line;
	size_t len;
	size_t sent;
	int fd;
	qmp_reply *reply;
	void *arg;
};

TAILQ_HEAD(calls, call);

struct qmp {
	int fd;
	struct event *readable;
	struct event *writable;
	const struct qmp_handler *handler;
	void *arg;
	bool greeted;
	bool closed;		/* no more input or output */
	bool destroyed;		/* by its owner, inside a callback */
	unsigned depth;		/* of event-loop callbacks; memory stays until 0 */
	json_int_t next_id;
	struct calls waiting;	/* to be sent */
	struct calls open;	/* sent, to be answered */
	char *input;		/* QMP_MAX_LINE bytes */
	size_t have;
};

static void call_free(struct call *call)
{
	if (call->fd >= 0)
		close(call->fd);
	free(call->line);
	free(call);
}

static void drop_calls(struct calls *calls)
{
	struct call *call;

	while ((call = TAILQ_FIRST(calls))) {
		TAILQ_REMOVE(calls, call, link);
		call_free(call);
	}
}

static void qmp_free(struct qmp *qmp)
{
	drop_calls(&qmp->waiting);
	drop_calls(&qmp->open);
	free(qmp->input);
	free(qmp);
}

static void stop_io(struct qmp *qmp)
{
	qmp->closed = true;
	if (qmp->readable)
		event_free(qmp->readable);
	if (qmp->writable)
		event_free(qmp->writable);
	qmp->readable = qmp->writable = NULL;
	if (qmp->fd >= 0)
		close(qmp->fd);
	qmp->fd = -1;
}

/* Answers every call in the list with -EPIPE, until the owner destroys the connection. */
static void fail_calls(struct qmp *qmp, struct calls *calls, const char *why)
{
	struct call *call;

	while (!qmp->destroyed && (call = TAILQ_FIRST(calls))) {
		TAILQ_REMOVE(calls, call, link);
		if (call->reply)
			call->reply(call->arg, -EPIPE, why, NULL);
		call_free(call);
	}
}

/* The connection is over. Inside a callback only (depth > 0). */
static void end(struct qmp *qmp, const char *why)
{
	if (qmp->closed)
		return;
	stop_io(qmp);
	fail_calls(qmp, &qmp->open, why);
	fail_calls(qmp, &qmp->waiting, why);
	if (!qmp->destroyed)
		qmp->handler->closed(qmp->arg, why);
}

/* Sends what is left of a call, its descriptor with the first byte. Return: 0 or -errno. */
static int send_call(struct qmp *qmp, struct call *call)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { call->line + call->sent, call->len - call->sent };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (call->fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &call->fd, sizeof(int));
	}
	sent = TEMP_FAILURE_RETRY(sendmsg(qmp->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (sent < 0)
		return -errno;
	if (call->fd >= 0)
		close(steal_fd(&call->fd));
	call->sent += (size_t)sent;
	return call->sent == call->len ? 0 : -EAGAIN;
}

/*
 * Sends waiting calls as far as the socket takes them. A broken socket is left to the reading
 * side, which also gets what QEMU said last.
 */
static void flush(struct qmp *qmp)
{
	struct call *call;

	while (qmp->greeted && !qmp->closed && (call = TAILQ_FIRST(&qmp->waiting))) {
		int ret = send_call(qmp, call);

		if (ret == -EAGAIN)
			event_add(qmp->writable, NULL);
		if (ret)
			return;
		TAILQ_REMOVE(&qmp->waiting, call, link);
		TAILQ_INSERT_TAIL(&qmp->open, call, link);
	}
}

static void handle_answer(struct qmp *qmp, const json_t *message, const json_t *ret)
{
	const json_t *id = json_object_get(message, "id");
	const json_t *error = json_object_get(message, "error");
	const char *why = json_string_value(json_object_get(error, "desc"));
	struct call *call;

	TAILQ_FOREACH(call, &qmp->open, link) {
		if (json_is_integer(id) && json_integer_value(id) == call->id)
			break;
	}
	if (!call) {
		end(qmp, why ? why : "QEMU answered a question nobody asked");
		return;
	}
	TAILQ_REMOVE(&qmp->open, call, link);
	if (call->reply)
		call->reply(call->arg, ret ? 0 : -EIO, ret ? "" : why ? why : "QEMU refused", ret);
	else if (!ret)
		log_warn("qmp: %.*s: %s", (int)strcspn(call->line, "\n"), call->line,
			 why ? why : "refused");
	call_free(call);
}

static void handle_message(struct qmp *qmp, const json_t *message)
{
	const json_t *ret = json_object_get(message, "return");
	const char *event = json_string_value(json_object_get(message, "event"));

	if (!qmp->greeted) {
		if (!json_object_get(message, "QMP")) {
			end(qmp, "QEMU did not greet");
			return;
		}
		qmp->greeted = true;
		flush(qmp);
		qmp->handler->greeted(qmp->arg);
	} else if (event) {
		qmp->handler->event(qmp->arg, event, json_object_get(message, "data"));
	} else if (ret || json_object_get(message, "error")) {
		handle_answer(qmp, message, ret);
	} else {
		end(qmp, "QEMU sent a message that is no QMP");
	}
}

static void handle_line(struct qmp *qmp, const char *line, size_t len)
{
	json_t *message = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(message))
		handle_message(qmp, message);
	else
		end(qmp, "QEMU sent a line that is no JSON object");
	json_decref(message);
}

/* Handles every complete line there is and keeps the rest. */
static void handle_input(struct qmp *qmp)
{
	size_t done = 0;
	char *newline;

	while (!qmp->closed && (newline = memchr(qmp->input + done, '\n', qmp->have - done))) {
		size_t len = (size_t)(newline - (qmp->input + done));

		handle_line(qmp, qmp->input + done, len);
		done += len + 1;
	}
	if (qmp->closed)
		return;
	qmp->have -= done;
	memmove(qmp->input, qmp->input + done, qmp->have);
	if (qmp->have == QMP_MAX_LINE)
		end(qmp, "QEMU sent a line that is too long");
}

static void leave(struct qmp *qmp)
{
	if (!--qmp->depth && qmp->destroyed)
		qmp_free(qmp);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct qmp *qmp = arg;
	ssize_t got;

	(void)what;
	qmp->depth++;
	got = recv(fd, qmp->input + qmp->have, QMP_MAX_LINE - qmp->have, MSG_DONTWAIT);
	if (got > 0) {
		qmp->have += (size_t)got;
		handle_input(qmp);
	} else if (!got || (errno != EAGAIN && errno != EINTR)) {
		end(qmp, "QEMU closed its control socket");
	}
	leave(qmp);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flush(arg);
}

struct qmp *qmp_create(struct event_base *base, int fd, const struct qmp_handler *handler,
		       void *arg)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		return NULL;
	TAILQ_INIT(&qmp->waiting);
	TAILQ_INIT(&qmp->open);
	qmp->fd = -1;
	qmp->handler = handler;
	qmp->arg = arg;
	qmp->input = malloc(QMP_MAX_LINE);
	qmp->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, qmp);
	qmp->writable = event_new(base, fd, EV_WRITE, on_writable, qmp);
	if (!qmp->input || !qmp->readable || !qmp->writable || event_add(qmp->readable, NULL) ||
	    qmp_call(qmp, "qmp_capabilities", NULL, -1, NULL, NULL)) {
		stop_io(qmp);
		qmp_free(qmp);
		errno = ENOMEM;
		return NULL;
	}
	qmp->fd = fd;
	return qmp;
}

/* The line of a call; takes the reference to `arguments`. Return: the caller's to free, or NULL. */
static char *format_call(const char *command, json_t *arguments, json_int_t id)
{
	json_t *message = json_pack("{s:s, s:I, s:o*}", "execute", command, "id", id, "arguments",
				    arguments);
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	char *line = NULL;

	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(message);
	return line;
}

int qmp_call(struct qmp *qmp, const char *command, json_t *arguments, int fd, qmp_reply *reply,
	     void *arg)
{
	struct call *call = calloc(1, sizeof(*call));

	if (qmp->closed || !call) {
		json_decref(arguments);
		free(call);
		return qmp->closed ? -EPIPE : -ENOMEM;
	}
	call->id = ++qmp->next_id;
	call->reply = reply;
	call->arg = arg;
	call->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	call->line = format_call(command, arguments, call->id);
	if (!call->line || (fd >= 0 && call->fd < 0)) {
		call_free(call);
		return -ENOMEM;
	}
	call->len = strlen(call->line);
	TAILQ_INSERT_TAIL(&qmp->waiting, call, link);
	flush(qmp);
	return 0;
}

void qmp_destroy(struct qmp *qmp)
{
	if (!qmp)
		return;
	stop_io(qmp);
	qmp->destroyed = true;
	if (!qmp->depth)
		qmp_free(qmp);
}
