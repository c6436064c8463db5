/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replay windows: which counters of which senders have been seen. */
#ifndef MCDIST_WINDOW_H
#define MCDIST_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define MC_WINDOW_BITS 1024u	/* how far a datagram may be overtaken */
#define MC_SENDERS 128u		/* senders remembered per snapshot, the least recent go first */

struct mc_window {
	uint32_t sender;
	uint64_t newest;	/* highest counter seen; 0: free */
	uint64_t used;		/* when last, in datagrams of all senders */
	uint64_t seen[MC_WINDOW_BITS / 64];	/* bit counter % MC_WINDOW_BITS */
};

struct mc_windows {
	uint64_t clock;
	struct mc_window windows[MC_SENDERS];
};

/*
 * Notes an authentic datagram. Only authentic ones may come here: a forged one would move the
 * window. Return: true if it is new; false if it was seen, is too old, or has counter 0.
 */
bool mc_windows_accept(struct mc_windows *w, uint32_t sender, uint64_t counter);

/* Has that one been accepted? True as well if there is no telling: too old, unknown sender. */
bool mc_windows_had(const struct mc_windows *w, uint32_t sender, uint64_t counter);

#endif
