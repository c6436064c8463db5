/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vnet: the private network of one family of clones, the part of it that is on this host.
 *
 * A segment is a bridge, a VXLAN tunnel to the other hosts (one VNI per segment, frames for unknown
 * destinations go to every peer by unicast), a gateway address on the bridge that is the same on
 * every host and never crosses the tunnel, and NAT to the outside. A port is a tap, open in this
 * process; it accepts only frames from the MAC and addresses assigned to it, and it is gone when
 * its descriptors are closed. All in the calling thread's network namespace. Calls block for the
 * milliseconds netlink takes; none belongs in a clone's critical path. Not thread-safe.
 *
 * IPv6 is for the segment alone: no gateway, no way out, nothing of the host's. Each VM may have two
 * addresses, both known without asking anybody, so that they need no discovery of duplicates: one
 * of the segment's network (vnet_address6()), which is a unique local one (RFC 4193) with the VNI in
 * it, fd53:f1ac:VVVV:VV00::/64; and the link-local one of its MAC (vnet_link_local()).
 */
#ifndef HOST_VNET_VNET_H
#define HOST_VNET_VNET_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

struct vnet_segment;

#define VNET_MAC_BYTES 6
#define VNET_PREFIX6 64		/* length of the network vnet_address6() is in */
#define VNET_NAME_PREFIX "sf"	/* of every interface and nftables table made here */

struct vnet_config {
	uint32_t vni;			/* 1..2^24-1, unique in the cluster */
	struct in_addr base;		/* address of ID 0 */
	uint8_t prefix;			/* length */
	struct in_addr gateway;		/* on every host's bridge */
	struct in_addr underlay;	/* this host's address towards its peers */
	uint16_t port;			/* UDP port of the tunnel, host order */
};

/*
 * Makes a segment. Return: 0 and *segment (the caller's, to vnet_segment_destroy()), or -errno with
 * a sentence in `why`; nothing is left behind then. -EEXIST: this VNI is here already (or a crash
 * left it: vnet_clean()); -EADDRINUSE: its network overlaps one that this host is in, another
 * segment's for instance; -EADDRNOTAVAIL: `underlay` is not this host's; -EINVAL.
 */
int vnet_segment_create(const struct vnet_config *config, struct vnet_segment **segment,
			char *why, size_t why_bytes);

/*
 * The other hosts of the segment, the only ones it takes frames from. Adding one that is there, or
 * removing one that is not, is fine. Return: 0 or -errno.
 */
int vnet_peer_add(struct vnet_segment *segment, struct in_addr underlay);
int vnet_peer_remove(struct vnet_segment *segment, struct in_addr underlay);

/*
 * Makes the port of VM `id` (address base + id, MAC vnet_mac(vni, id), and the IPv6 addresses that
 * go with them). Return: 0 and *fd, the caller's, close-on-exec, with virtio-net headers
 * (IFF_VNET_HDR) on every frame; or -errno with a sentence in `why`. -EEXIST: open and not closed
 * yet; -EINVAL: the segment has no such address. Who hands *fd to another process does well to
 * close its own at once: removing a tap takes tens of milliseconds, which the last one to close it
 * waits for.
 */
int vnet_port_open(struct vnet_segment *segment, unsigned id, int *fd, char *why, size_t why_bytes);

/*
 * Nothing gets in at the port any more, whoever still has its descriptor; the tap goes with the
 * last of them, or when the ID is opened again. Takes no time worth naming.
 */
void vnet_port_close(struct vnet_segment *segment, unsigned id);

/* Takes everything away. NULL is fine. */
void vnet_segment_destroy(struct vnet_segment *segment);

/* A locally administered MAC, the same on every host for the same VNI and ID. */
void vnet_mac(uint32_t vni, unsigned id, uint8_t mac[VNET_MAC_BYTES]);

/* IPv6 address of VM `id` in its segment's network: the network's, + id + 1. */
void vnet_address6(uint32_t vni, unsigned id, struct in6_addr *address);

/* The link-local address of a MAC (RFC 4291, appendix A). */
void vnet_link_local(const uint8_t mac[VNET_MAC_BYTES], struct in6_addr *address);

/* Removes every interface and table of vnet's from this network namespace: what a crash left. */
int vnet_clean(unsigned *removed);

#endif
