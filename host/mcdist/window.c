/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replay windows, as in RFC 6479: a ring of bits, cleared as the newest counter moves on.
 *
 * A sender that was forgotten because there were too many, and comes again, gets a fresh window; a
 * replayed datagram can then be taken once more. That costs a needless answer and nothing else, as
 * the pages of a snapshot never change.
 */
#include "host/mcdist/window.h"

#include <string.h>

#define WORDS (MC_WINDOW_BITS / 64)

static bool window_accept(struct mc_window *w, uint64_t counter)
{
	uint64_t word = counter / 64, bit = 1ull << (counter % 64);

	/* one word of the ring is always being cleared, so the window is that much shorter */
	if (counter + MC_WINDOW_BITS - 64 <= w->newest)
		return false;
	if (counter > w->newest) {
		uint64_t moved = word - w->newest / 64;

		for (uint64_t i = 0; i < moved && i < WORDS; i++)
			w->seen[(word - i) % WORDS] = 0;
		w->newest = counter;
	}
	if (w->seen[word % WORDS] & bit)
		return false;
	w->seen[word % WORDS] |= bit;
	return true;
}

static struct mc_window *window_of(struct mc_windows *w, uint32_t sender)
{
	struct mc_window *oldest = &w->windows[0];

	for (unsigned i = 0; i < MC_SENDERS; i++) {
		struct mc_window *at = &w->windows[i];

		if (at->newest && at->sender == sender)
			return at;
		if (at->used < oldest->used)
			oldest = at;
	}
	memset(oldest, 0, sizeof(*oldest));
	oldest->sender = sender;
	return oldest;
}

bool mc_windows_accept(struct mc_windows *w, uint32_t sender, uint64_t counter)
{
	struct mc_window *window;

	/* the highest counters would overflow the arithmetic, and no sender lives to reach them */
	if (!counter || counter > UINT64_MAX / 2)
		return false;
	window = window_of(w, sender);
	window->used = ++w->clock;
	return window_accept(window, counter);
}

bool mc_windows_had(const struct mc_windows *w, uint32_t sender, uint64_t counter)
{
	for (unsigned i = 0; i < MC_SENDERS; i++) {
		const struct mc_window *at = &w->windows[i];

		if (!at->newest || at->sender != sender)
			continue;
		if (counter + MC_WINDOW_BITS - 64 <= at->newest)
			return true;
		return counter <= at->newest &&
		       at->seen[counter / 64 % WORDS] >> counter % 64 & 1;
	}
	return true;
}
