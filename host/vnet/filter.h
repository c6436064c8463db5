/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * filter: the nftables rules of a network namespace, through libnftables.
 *
 * A handle belongs to the namespace in which it was opened. Functions return 0 or -errno and, where
 * they take a `why`, leave a sentence in it.
 */
#ifndef HOST_VNET_FILTER_H
#define HOST_VNET_FILTER_H

#include <netinet/in.h>
#include <stdint.h>

#include "host/vnet/vnet.h"
#include "host/vnet/why.h"

struct nft_ctx;

/* The caller's, for filter_close(). */
int filter_open(struct nft_ctx **nft);

/* NULL is fine. */
void filter_close(struct nft_ctx *nft);

static inline void filter_cleanup(struct nft_ctx **nft)
{
	filter_close(*nft);
}
#define _cleanup_filter_ __attribute__((cleanup(filter_cleanup)))

/* Puts the segment's rules in, in place of what a crash may have left. Its tunnel must exist. */
int filter_add_segment(struct nft_ctx *nft, const struct vnet_config *config,
		       const struct why *why);

/* Takes the segment's rules away; none there is fine. */
int filter_remove_segment(struct nft_ctx *nft, uint32_t vni);

/* Tunnel frames of the segment are accepted from this address, or no more. Repeating is fine. */
int filter_add_peer(struct nft_ctx *nft, uint32_t vni, struct in_addr peer);
int filter_remove_peer(struct nft_ctx *nft, uint32_t vni, struct in_addr peer);

/*
 * Lets frames of VM `id` in at its tap, which must exist, if they come from its MAC, and `address`
 * or one of its IPv6 addresses; everything else that comes in there is counted and dropped.
 */
int filter_open_port(struct nft_ctx *nft, uint32_t vni, unsigned id, struct in_addr address,
		     const struct why *why);

/* Lets nothing in at the tap any more, for as long as it exists. No port there is fine. */
int filter_shut_port(struct nft_ctx *nft, uint32_t vni, unsigned id);

/*
 * IP forwarding for our sake only: on() turns it on in this namespace, if it is not on already, and
 * keeps everything from being forwarded that is not a segment's; off() turns it off if it was on()
 * that turned it on. The memory of that is the table NAMES_FORWARD_TABLE in the kernel.
 */
int filter_forwarding_on(struct nft_ctx *nft, const struct why *why);
int filter_forwarding_off(struct nft_ctx *nft);

/* Hides the namespace's `network`/`prefix` behind the address of interface `outside`. */
int filter_add_router(struct nft_ctx *nft, struct in_addr network, uint8_t prefix,
		      const char *outside, const struct why *why);

/* Removes every table of ours and forwarding with them. *removed grows by how many. */
int filter_clean(struct nft_ctx *nft, unsigned *removed);

#endif
