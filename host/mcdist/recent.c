/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Direct-mapped: an entry for each hash, the last one wins. */
#include "host/mcdist/recent.h"

#define OWED_NS 1000000000ull	/* what is owed for longer may be asked for again */

static uint64_t key_of(const struct mc_address *to, uint64_t gfn)
{
	return (mc_address_hash(to) ^ gfn) * 0x9e3779b97f4a7c15ull | 1;
}

static void set(struct mc_recents *r, const struct mc_address *to, uint64_t gfn,
		const struct mc_recent *recent)
{
	uint64_t key = key_of(to, gfn);
	struct mc_recent *at = &r->of[(key >> 32) % MC_RECENTS];

	*at = *recent;
	at->key = key;
}

void mc_recent_owed(struct mc_recents *r, const struct mc_endpoint *ep, const struct mc_address *to,
		    uint64_t gfn)
{
	set(r, to, gfn, &(struct mc_recent){ .until_ns = mc_now_ns(ep) + OWED_NS });
}

void mc_recent_given(struct mc_recents *r, const struct mc_endpoint *ep,
		     const struct mc_address *to, uint64_t gfn)
{
	set(r, to, gfn, &(struct mc_recent){ .until_ns = mc_now_ns(ep) + MC_RECENT_NS,
					     .sent_bytes = ep->sent_bytes });
}

void mc_recent_forget(struct mc_recents *r, const struct mc_address *to, uint64_t gfn)
{
	set(r, to, gfn, &(struct mc_recent){ 0 });
}

bool mc_recent_is(const struct mc_recents *r, const struct mc_endpoint *ep,
		  const struct mc_address *to, uint64_t gfn)
{
	uint64_t key = key_of(to, gfn);
	const struct mc_recent *at = &r->of[(key >> 32) % MC_RECENTS];

	if (at->key != key || !at->until_ns)
		return false;
	return at->until_ns > mc_now_ns(ep) ||
	       ep->sent_bytes - at->sent_bytes < ep->transport->calls->unsent_bytes(ep->transport);
}
