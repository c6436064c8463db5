/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's doorbell (proto/kmod.h): a socket on which QEMU sends a byte for each ring. */
#ifndef HOST_VMM_DOORBELL_H
#define HOST_VMM_DOORBELL_H

struct doorbell;
struct event_base;

/*
 * Listens at `sock` (taken over). `rung` is called once for one or more rings, at most a thousand
 * times in a second; it may destroy the doorbell. Return: the doorbell, or NULL (`sock` is then
 * not taken).
 */
struct doorbell *doorbell_create(struct event_base *base, int sock, void (*rung)(void *arg),
				 void *arg);

/* NULL is fine. */
void doorbell_destroy(struct doorbell *doorbell);

#endif
