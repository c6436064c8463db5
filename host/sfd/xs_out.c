/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits to be sent to the guest: answers and watch events, in order. */
#include "host/sfd/xs_out.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(offsetof(struct xs_frame, payload) ==
		       offsetof(struct xs_frame, head) + sizeof(struct xsd_sockmsg),
	       "head and payload are one piece");

void xs_out_init(struct xs_out *out)
{
	TAILQ_INIT(&out->frames);
	out->events = 0;
}

static void take(struct xs_out *out, struct xs_frame *frame)
{
	TAILQ_REMOVE(&out->frames, frame, link);
	out->events -= frame->head.type == XS_WATCH_EVENT;
}

void xs_out_fini(struct xs_out *out)
{
	struct xs_frame *frame;

	while ((frame = TAILQ_FIRST(&out->frames))) {
		take(out, frame);
		free(frame);
	}
}

int xs_out_add(struct xs_out *out, const struct xsd_sockmsg *head, const void *payload)
{
	struct xs_frame *frame = malloc(sizeof(*frame) + head->len);

	if (!frame)
		return -ENOMEM;
	frame->head = *head;
	if (head->len)
		memcpy(frame->payload, payload, head->len);
	TAILQ_INSERT_TAIL(&out->frames, frame, link);
	out->events += head->type == XS_WATCH_EVENT;
	return 0;
}

static bool event_waits(const struct xs_out *out, const char *payload, uint32_t len)
{
	const struct xs_frame *frame;

	TAILQ_FOREACH(frame, &out->frames, link)
		if (frame->head.type == XS_WATCH_EVENT && frame->head.len == len &&
		    !memcmp(frame->payload, payload, len))
			return true;
	return false;
}

/* Return: the length of an event's payload, or 0 if the wire does not take it. */
static uint32_t event_print(char payload[XENSTORE_PAYLOAD_MAX], const char *path, const char *token)
{
	size_t path_size = strlen(path) + 1;
	size_t token_size = strlen(token) + 1;

	if (path_size + token_size > XENSTORE_PAYLOAD_MAX)
		return 0;
	memcpy(payload, path, path_size);
	memcpy(payload + path_size, token, token_size);
	return (uint32_t)(path_size + token_size);
}

int xs_out_add_event(struct xs_out *out, const char *path, const char *watch_path,
		     const char *token, unsigned max_events)
{
	struct xsd_sockmsg head = { .type = XS_WATCH_EVENT };
	char payload[XENSTORE_PAYLOAD_MAX];
	bool full = out->events >= max_events;

	head.len = event_print(payload, path, token);
	if (head.len && full && event_waits(out, payload, head.len))
		return 0;
	if (!head.len || full) {
		head.len = event_print(payload, watch_path, token);
		if (!head.len || (full && event_waits(out, payload, head.len)))
			return 0;
	}
	return xs_out_add(out, &head, payload);
}

struct xs_frame *xs_out_take(struct xs_out *out, bool events, size_t *len)
{
	struct xs_frame *frame = TAILQ_FIRST(&out->frames);

	while (frame && !events && frame->head.type == XS_WATCH_EVENT)
		frame = TAILQ_NEXT(frame, link);
	if (!frame)
		return NULL;
	take(out, frame);
	*len = sizeof(frame->head) + frame->head.len;
	frame->head.type = htole32(frame->head.type);
	frame->head.req_id = htole32(frame->head.req_id);
	frame->head.tx_id = htole32(frame->head.tx_id);
	frame->head.len = htole32(frame->head.len);
	return frame;
}
