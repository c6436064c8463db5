/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfd's messages: read, judged, carried out, answered. */
#ifndef MEMTAP_CONTROL_H
#define MEMTAP_CONTROL_H

#include <stddef.h>

#include "host/memtap/layers.h"
#include "host/memtap/memtap.h"

#define MEM_CONTROL_FDS (1u + MEM_LAYERS_FDS)	/* most descriptors in one message */

struct mem_control;

/*
 * Carries one message out, whatever it is. Takes the descriptors over (or closes them), and leaves
 * -1 in their places. Return: the length of the answer, which is in `stats` from its start (a
 * struct memtap_reply, or all of it).
 */
size_t mem_control_handle(struct memtap *m, const void *message, size_t len, int *fds,
			  unsigned nfds, struct memtap_stats *stats);

/*
 * Listens to sfd on a SOCK_SEQPACKET socket (taken over if it works); when it closes, the event
 * loop ends. Return: the caller's to destroy before the memtap, or NULL (errno).
 */
struct mem_control *mem_control_create(struct memtap *m, int sock);
void mem_control_destroy(struct mem_control *control);

#endif
