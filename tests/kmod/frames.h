/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest sends, gathered by a thread. */
#ifndef TESTS_KMOD_FRAMES_H
#define TESTS_KMOD_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BYTES 96	/* kept of each */

struct frame {
	uint32_t length;
	uint8_t bytes[FRAME_BYTES];
};

/* Reads QEMU's stream of frames (a length of four bytes, then the frame) until it ends. */
struct frames *frames_start(int fd);
void frames_stop(struct frames *frames);

/* Return: how many there were. */
size_t frames_count(struct frames *frames);
struct frame frames_get(struct frames *frames, size_t number);
/* Waits until the guest has sent nothing for `ms`. */
void frames_settle(struct frames *frames, int ms);

struct frames_who {
	uint8_t mac[6];
	uint32_t ip4;		/* network byte order */
	uint8_t ip6[2][16];
};

/* Return: true if the frame is from one of these addresses. */
bool frame_is_from(const struct frame *frame, const struct frames_who *who);
/* Return: how many frames from number `first` on are from it. */
size_t frames_from(struct frames *frames, size_t first, const struct frames_who *who);

#endif
