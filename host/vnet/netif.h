/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netif: interfaces, addresses, routes and tunnel peers, by rtnetlink.
 *
 * A socket belongs to the network namespace in which it was opened, wherever the thread goes later.
 * Every function returns 0 or -errno. New interfaces are down.
 */
#ifndef HOST_VNET_NETIF_H
#define HOST_VNET_NETIF_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct nl_sock;

/* The caller's, for netif_close(). */
int netif_open(struct nl_sock **sock);

/* NULL is fine. */
void netif_close(struct nl_sock *sock);

static inline void netif_cleanup(struct nl_sock **sock)
{
	netif_close(*sock);
}
#define _cleanup_netif_ __attribute__((cleanup(netif_cleanup)))

/*
 * A bridge that sends multicast to every port, as it does broadcast. -EEXIST if the name is taken.
 * `mac`: 6 bytes, or NULL for a random one.
 */
int netif_add_bridge(struct nl_sock *sock, const char *name, const uint8_t *mac, unsigned mtu_bytes,
		     uint32_t group);

/* A tunnel that learns; it has no peers yet. -EEXIST if the name or the VNI is taken. */
int netif_add_vxlan(struct nl_sock *sock, const char *name, uint32_t vni, struct in_addr local,
		    uint16_t port, unsigned mtu_bytes, uint32_t group);

/* A pair: `name` here, `peer` in the namespace that `peer_netns` is a descriptor of. */
int netif_add_veth(struct nl_sock *sock, const char *name, const char *peer, int peer_netns,
		   unsigned mtu_bytes);

/* Turns it on. */
int netif_up(struct nl_sock *sock, const char *name);

/* Turns it on and makes it a port of a bridge, in a group (0 is everyone's). */
int netif_attach(struct nl_sock *sock, const char *name, const char *bridge, uint32_t group);

int netif_add_address(struct nl_sock *sock, const char *name, struct in_addr address,
		      uint8_t prefix);
int netif_add_default_route(struct nl_sock *sock, const char *name, struct in_addr gateway);

/*
 * What the addresses of this namespace say about a plan: *local if one is `own`, *overlap if one's
 * network and `network`/`prefix` have addresses in common.
 */
int netif_check_addresses(struct nl_sock *sock, struct in_addr own, struct in_addr network,
			  uint8_t prefix, bool *local, bool *overlap);

/* Frames for unknown destinations go to this peer too. Adding one twice is fine. */
int netif_add_peer(struct nl_sock *sock, const char *tunnel, struct in_addr peer);

/* Forgets a peer and everything learned from it. Removing one that is not there is fine. */
int netif_remove_peer(struct nl_sock *sock, const char *tunnel, struct in_addr peer);

/* One interface, or all of a group in one go, which costs no more; -ENODEV if there is none. */
int netif_delete(struct nl_sock *sock, const char *name);
int netif_delete_group(struct nl_sock *sock, uint32_t group);

/* Calls `each` for every interface, from a list taken before the first call. */
int netif_list(struct nl_sock *sock, void (*each)(const char *name, void *arg), void *arg);

/*
 * Writes a number to a file below /proc/sys/net, of the calling thread's namespace. One that the
 * kernel does not have is fine.
 */
int netif_set_sysctl(int value, const char *path_format, ...) __attribute__((format(printf, 2, 3)));

#endif
