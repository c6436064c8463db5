/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our side of the handshake in which QEMU's shim hands over the guest RAM (proto/uffd.h). */
#ifndef HOST_VMM_HANDOVER_H
#define HOST_VMM_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct handover;

struct handover_handler {
	/* RAM is mapped; `uffd` is the receiver's. Answer with handover_accept(). */
	void (*mapped)(void *arg, int uffd, uint64_t base, uint64_t length_bytes);
	/* The shim said something else; the socket is closed, and QEMU ends by itself. */
	void (*broken)(void *arg, const char *why);
};

/*
 * Awaits the shim's message on the socket `sock` (taken over). Return: NULL and errno if not even
 * that was possible (the socket is then not taken).
 */
struct handover *handover_create(struct event_base *base, int sock, uint64_t ram_bytes,
				 const struct handover_handler *handler, void *arg);

/* True once the RAM was handed over. */
bool handover_seen(const struct handover *handover);

/* Lets QEMU go on (ok) or end. */
void handover_accept(struct handover *handover, bool ok);

/* NULL is fine; QEMU ends if it still waits. */
void handover_destroy(struct handover *handover);

#endif
