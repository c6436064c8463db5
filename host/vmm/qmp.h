/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP, QEMU's control protocol, on the event loop: one JSON object per line.
 *
 * QEMU speaks first (a greeting); qmp_capabilities follows by itself, then the calls in the order
 * they were made, several under way at a time. Answers are matched by id. A line that is no QMP, or
 * longer than QMP_MAX_LINE, ends the connection.
 */
#ifndef HOST_VMM_QMP_H
#define HOST_VMM_QMP_H

#include <jansson.h>

#define QMP_MAX_LINE (256u * 1024u)

struct event_base;
struct qmp;

struct qmp_handler {
	/* QEMU's greeting came. */
	void (*greeted)(void *arg);
	/* An event; `data` is borrowed and may be NULL. */
	void (*event)(void *arg, const char *name, const json_t *data);
	/* The connection is over; every open call was answered before. */
	void (*closed)(void *arg, const char *why);
};

/* An answer: error 0 and `ret` (borrowed), or -errno and a sentence; -EPIPE: no answer comes. */
typedef void qmp_reply(void *arg, int error, const char *why, const json_t *ret);

/* Takes over the socket. Return: the connection, or NULL (errno; the socket is then not taken). */
struct qmp *qmp_create(struct event_base *base, int fd, const struct qmp_handler *handler,
		       void *arg);

/*
 * Calls a command. `arguments`: reference taken; NULL: none. `fd` (-1: none) goes along, borrowed.
 * `reply` may be NULL. Return: 0, or -errno and no reply will come.
 */
int qmp_call(struct qmp *qmp, const char *command, json_t *arguments, int fd, qmp_reply *reply,
	     void *arg);

/* Closes and frees; open calls get no answer. Safe in callbacks. NULL is fine. */
void qmp_destroy(struct qmp *qmp);

#endif
