/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest sends, gathered by a thread. */
#define _GNU_SOURCE
#include "frames.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"

struct frames {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;	/* of all below */
	struct frame *list;
	size_t count, room;
};

static void keep(struct frames *f, const struct frame *frame)
{
	pthread_mutex_lock(&f->lock);
	if (f->count == f->room) {
		f->room = f->room ? 2 * f->room : 1024;
		f->list = realloc(f->list, f->room * sizeof(*f->list));
		if (!f->list)
			abort();
	}
	f->list[f->count++] = *frame;
	pthread_mutex_unlock(&f->lock);
}

static void *gather(void *arg)
{
	struct frames *f = arg;
	uint8_t buf[65536 + 1024];
	uint32_t length;

	while (!io_read_full(f->fd, &length, sizeof(length))) {
		struct frame frame = { .length = ntohl(length) };

		if (frame.length > sizeof(buf) || io_read_full(f->fd, buf, frame.length))
			break;
		memcpy(frame.bytes, buf,
		       frame.length < FRAME_BYTES ? frame.length : FRAME_BYTES);
		keep(f, &frame);
	}
	return NULL;
}

struct frames *frames_start(int fd)
{
	struct frames *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->fd = fd;
	pthread_mutex_init(&f->lock, NULL);
	if (pthread_create(&f->thread, NULL, gather, f))
		abort();
	return f;
}

void frames_stop(struct frames *f)
{
	pthread_join(f->thread, NULL);
	pthread_mutex_destroy(&f->lock);
	free(f->list);
	free(f);
}

size_t frames_count(struct frames *f)
{
	size_t count;

	pthread_mutex_lock(&f->lock);
	count = f->count;
	pthread_mutex_unlock(&f->lock);
	return count;
}

struct frame frames_get(struct frames *f, size_t number)
{
	struct frame frame;

	pthread_mutex_lock(&f->lock);
	frame = f->list[number];
	pthread_mutex_unlock(&f->lock);
	return frame;
}

void frames_settle(struct frames *f, int ms)
{
	size_t before;

	do {
		before = frames_count(f);
		poll(NULL, 0, ms);
	} while (frames_count(f) != before);
}

bool frame_is_from(const struct frame *frame, const struct frames_who *who)
{
	const uint8_t *payload = frame->bytes + 14;
	uint16_t type = (uint16_t)(frame->bytes[12] << 8 | frame->bytes[13]);

	if (!memcmp(frame->bytes + 6, who->mac, 6))
		return true;
	switch (type) {
	case ETHERTYPE_ARP:
		return !memcmp(payload + 8, who->mac, 6) || !memcmp(payload + 14, &who->ip4, 4);
	case ETHERTYPE_IP:
		return !memcmp(payload + 12, &who->ip4, 4);
	case ETHERTYPE_IPV6:
		return !memcmp(payload + 8, who->ip6[0], 16) ||
		       !memcmp(payload + 8, who->ip6[1], 16);
	default:
		return false;
	}
}

size_t frames_from(struct frames *f, size_t first, const struct frames_who *who)
{
	size_t end = frames_count(f), found = 0;

	for (; first < end; first++) {
		struct frame frame = frames_get(f, first);

		found += frame_is_from(&frame, who);
	}
	return found;
}
