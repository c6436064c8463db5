/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits to be sent to the guest: answers and watch events, in order. */
#ifndef HOST_SFD_XS_OUT_H
#define HOST_SFD_XS_OUT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <xen/io/xs_wire.h>

struct xs_frame {
	TAILQ_ENTRY(xs_frame) link;
	struct xsd_sockmsg head;	/* in host order; little-endian once it is sent */
	char payload[];			/* right behind the head, as on the wire */
};

struct xs_out {
	TAILQ_HEAD(, xs_frame) frames;
	unsigned events;	/* watch events among them */
};

void xs_out_init(struct xs_out *out);
void xs_out_fini(struct xs_out *out);

/* Appends a frame; head->len bytes of payload are copied. Return: 0 or -ENOMEM. */
int xs_out_add(struct xs_out *out, const struct xsd_sockmsg *head, const void *payload);

/*
 * Appends a watch event. With `max_events` waiting, it is dropped if an equal one waits; else it is
 * told as one of the whole watch (`watch_path`, `token`), and dropped if an equal one waits. So a
 * guest misses no change, and no more than max_events and one per watch wait. An event too
 * long for the wire is told as one of the whole watch, too. Return: 0 or -ENOMEM.
 */
int xs_out_add_event(struct xs_out *out, const char *path, const char *watch_path,
		     const char *token, unsigned max_events);

/*
 * Takes the first frame out, or (events false) the first answer; it is in the byte order of the
 * wire, *len is that of head and payload. Return: it, the caller's to free(), or NULL.
 */
struct xs_frame *xs_out_take(struct xs_out *out, bool events, size_t *len);

#endif
