/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interfaces, addresses, routes and tunnel peers on libnl. */
#define _GNU_SOURCE
#include "host/vnet/netif.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/link/vxlan.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"

static void cleanup_link(struct rtnl_link **link)
{
	rtnl_link_put(*link);
}
#define _cleanup_link_ __attribute__((cleanup(cleanup_link)))

static void cleanup_addr(struct nl_addr **addr)
{
	nl_addr_put(*addr);
}
#define _cleanup_addr_ __attribute__((cleanup(cleanup_addr)))

static void cleanup_cache(struct nl_cache **cache)
{
	if (*cache)
		nl_cache_free(*cache);
}
#define _cleanup_cache_ __attribute__((cleanup(cleanup_cache)))

/* libnl's own error numbers, as far as a caller could want to tell them apart. */
static const struct {
	int nl, number;
} nl_errors[] = {
	{ NLE_EXIST, EEXIST },
	{ NLE_PERM, EPERM },
	{ NLE_NOACCESS, EACCES },
	{ NLE_OBJ_NOTFOUND, ENOENT },
	{ NLE_NODEV, ENODEV },
	{ NLE_BUSY, EBUSY },
	{ NLE_INVAL, EINVAL },
	{ NLE_RANGE, ERANGE },
	{ NLE_NOMEM, ENOMEM },
	{ NLE_OPNOTSUPP, EOPNOTSUPP },
	{ NLE_NOADDR, EADDRNOTAVAIL },
};

/* Return: 0 or -errno for what a libnl function returned. */
static int from_nl(int result)
{
	if (result >= 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(nl_errors); i++) {
		if (nl_errors[i].nl == -result)
			return -nl_errors[i].number;
	}
	return -EIO;
}

int netif_open(struct nl_sock **sock)
{
	struct nl_sock *fresh = nl_socket_alloc();
	int error;

	if (!fresh)
		return -ENOMEM;
	error = nl_connect(fresh, NETLINK_ROUTE);
	if (error) {
		nl_socket_free(fresh);
		return from_nl(error);
	}
	*sock = fresh;
	return 0;
}

void netif_close(struct nl_sock *sock)
{
	if (sock)
		nl_socket_free(sock);
}

/* Index of an interface in the socket's namespace. Return: 0 or -errno (-ENODEV). */
static int index_of(struct nl_sock *sock, const char *name, int *index)
{
	_cleanup_link_ struct rtnl_link *link = NULL;
	int error = rtnl_link_get_kernel(sock, 0, name, &link);

	if (error == -NLE_OBJ_NOTFOUND || error == -NLE_NODEV)
		return -ENODEV;
	if (error)
		return from_nl(error);
	*index = rtnl_link_get_ifindex(link);
	return 0;
}

static struct nl_addr *ipv4_addr(struct in_addr address)
{
	return nl_addr_build(AF_INET, &address, sizeof(address));
}

/* Adds what kind of interface a bridge is: one that sends multicast to every port, unasked. */
static int put_bridge_kind(struct nl_msg *msg)
{
	struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO), *data;

	if (!info || nla_put_string(msg, IFLA_INFO_KIND, "bridge"))
		return -NLE_NOMEM;
	data = nla_nest_start(msg, IFLA_INFO_DATA);
	if (!data || nla_put_u8(msg, IFLA_BR_MCAST_SNOOPING, 0))
		return -NLE_NOMEM;
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return 0;
}

/* By hand, as libnl 3.7 knows nothing of a bridge's own settings. */
int netif_add_bridge(struct nl_sock *sock, const char *name, const uint8_t *mac, unsigned mtu_bytes,
		     uint32_t group)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	int error;

	if (!msg)
		return -ENOMEM;
	error = nlmsg_append(msg, &header, sizeof(header), NLMSG_ALIGNTO);
	if (!error)
		error = nla_put_string(msg, IFLA_IFNAME, name);
	if (!error)
		error = nla_put_u32(msg, IFLA_MTU, mtu_bytes);
	if (!error)
		error = nla_put_u32(msg, IFLA_GROUP, group);
	if (!error && mac)
		error = nla_put(msg, IFLA_ADDRESS, 6, mac);
	if (!error)
		error = put_bridge_kind(msg);
	if (error) {
		nlmsg_free(msg);
		return from_nl(error);
	}
	return from_nl(nl_send_sync(sock, msg));	/* frees msg */
}

int netif_add_vxlan(struct nl_sock *sock, const char *name, uint32_t vni, struct in_addr local,
		    uint16_t port, unsigned mtu_bytes, uint32_t group)
{
	_cleanup_link_ struct rtnl_link *link = rtnl_link_vxlan_alloc();
	_cleanup_addr_ struct nl_addr *from = ipv4_addr(local);

	if (!link || !from)
		return -ENOMEM;
	rtnl_link_set_name(link, name);
	rtnl_link_set_mtu(link, mtu_bytes);
	rtnl_link_set_group(link, group);
	rtnl_link_vxlan_set_id(link, vni);
	rtnl_link_vxlan_set_local(link, from);
	rtnl_link_vxlan_set_port(link, port);
	rtnl_link_vxlan_enable_learning(link);
	rtnl_link_vxlan_set_udp_csum(link, 1);
	return from_nl(rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL));
}

int netif_add_veth(struct nl_sock *sock, const char *name, const char *peer, int peer_netns,
		   unsigned mtu_bytes)
{
	_cleanup_link_ struct rtnl_link *link = rtnl_link_veth_alloc();
	struct rtnl_link *other;
	int error;

	if (!link)
		return -ENOMEM;
	other = rtnl_link_veth_get_peer(link);
	rtnl_link_set_name(link, name);
	rtnl_link_set_mtu(link, mtu_bytes);
	rtnl_link_set_name(other, peer);
	rtnl_link_set_mtu(other, mtu_bytes);
	rtnl_link_set_ns_fd(other, peer_netns);
	error = from_nl(rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL));
	rtnl_link_put(other);
	return error;
}

/* Sends what `changes` holds to the interface `name`. */
static int change(struct nl_sock *sock, const char *name, struct rtnl_link *changes)
{
	_cleanup_link_ struct rtnl_link *link = rtnl_link_alloc();
	int index, error;

	if (!link)
		return -ENOMEM;
	error = index_of(sock, name, &index);
	if (error)
		return error;
	rtnl_link_set_ifindex(link, index);
	return from_nl(rtnl_link_change(sock, link, changes, 0));
}

int netif_up(struct nl_sock *sock, const char *name)
{
	_cleanup_link_ struct rtnl_link *changes = rtnl_link_alloc();

	if (!changes)
		return -ENOMEM;
	rtnl_link_set_flags(changes, IFF_UP);
	return change(sock, name, changes);
}

int netif_attach(struct nl_sock *sock, const char *name, const char *bridge, uint32_t group)
{
	_cleanup_link_ struct rtnl_link *changes = rtnl_link_alloc();
	int index, error;

	if (!changes)
		return -ENOMEM;
	error = index_of(sock, bridge, &index);
	if (error)
		return error;
	rtnl_link_set_master(changes, index);
	rtnl_link_set_flags(changes, IFF_UP);
	rtnl_link_set_group(changes, group);
	return change(sock, name, changes);
}

int netif_add_address(struct nl_sock *sock, const char *name, struct in_addr address,
		      uint8_t prefix)
{
	_cleanup_addr_ struct nl_addr *local = ipv4_addr(address);
	struct rtnl_addr *addr;
	int index, error;

	error = index_of(sock, name, &index);
	if (error)
		return error;
	addr = rtnl_addr_alloc();
	if (!local || !addr) {
		rtnl_addr_put(addr);
		return -ENOMEM;
	}
	nl_addr_set_prefixlen(local, prefix);
	rtnl_addr_set_ifindex(addr, index);
	rtnl_addr_set_local(addr, local);
	error = from_nl(rtnl_addr_add(sock, addr, NLM_F_CREATE | NLM_F_EXCL));
	rtnl_addr_put(addr);
	return error;
}

int netif_add_default_route(struct nl_sock *sock, const char *name, struct in_addr gateway)
{
	_cleanup_addr_ struct nl_addr *via = ipv4_addr(gateway);
	_cleanup_addr_ struct nl_addr *everything = ipv4_addr((struct in_addr){ 0 });
	struct rtnl_nexthop *hop;
	struct rtnl_route *route;
	int index, error;

	error = index_of(sock, name, &index);
	if (error)
		return error;
	hop = rtnl_route_nh_alloc();
	route = rtnl_route_alloc();
	if (!via || !everything || !hop || !route) {
		if (hop)
			rtnl_route_nh_free(hop);
		rtnl_route_put(route);
		return -ENOMEM;
	}
	nl_addr_set_prefixlen(everything, 0);
	rtnl_route_set_dst(route, everything);
	rtnl_route_nh_set_ifindex(hop, index);
	rtnl_route_nh_set_gateway(hop, via);
	rtnl_route_add_nexthop(route, hop);
	error = from_nl(rtnl_route_add(sock, route, NLM_F_CREATE));
	rtnl_route_put(route);
	return error;
}

static uint32_t mask_of(unsigned prefix)
{
	return prefix ? UINT32_MAX << (32 - prefix) : 0;
}

int netif_check_addresses(struct nl_sock *sock, struct in_addr own, struct in_addr network,
			  uint8_t prefix, bool *local, bool *overlap)
{
	_cleanup_cache_ struct nl_cache *cache = NULL;
	int error = rtnl_addr_alloc_cache(sock, &cache);

	if (error)
		return from_nl(error);
	*local = *overlap = false;
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		struct nl_addr *addr = rtnl_addr_get_local((struct rtnl_addr *)o);
		struct in_addr found;
		unsigned shorter;

		if (!addr || nl_addr_get_family(addr) != AF_INET)
			continue;
		memcpy(&found, nl_addr_get_binary_addr(addr), sizeof(found));
		*local |= found.s_addr == own.s_addr;
		shorter = nl_addr_get_prefixlen(addr);
		if (shorter > prefix)
			shorter = prefix;
		*overlap |= !((ntohl(found.s_addr) ^ ntohl(network.s_addr)) & mask_of(shorter));
	}
	return 0;
}

/* The forwarding entry of `tunnel` that leads `mac` to `peer`; the caller's. NULL: no memory. */
static struct rtnl_neigh *forwarding_entry(int index, struct nl_addr *mac, struct nl_addr *peer)
{
	struct rtnl_neigh *entry = rtnl_neigh_alloc();

	if (!entry)
		return NULL;
	rtnl_neigh_set_dst(entry, peer);
	rtnl_neigh_set_family(entry, AF_BRIDGE);	/* after the address, which has another */
	rtnl_neigh_set_ifindex(entry, index);
	rtnl_neigh_set_flags(entry, NTF_SELF);
	rtnl_neigh_set_state(entry, NUD_PERMANENT | NUD_NOARP);
	rtnl_neigh_set_lladdr(entry, mac);
	return entry;
}

int netif_add_peer(struct nl_sock *sock, const char *tunnel, struct in_addr peer)
{
	static const uint8_t unknown[6];
	_cleanup_addr_ struct nl_addr *mac = nl_addr_build(AF_LLC, unknown, sizeof(unknown));
	_cleanup_addr_ struct nl_addr *to = ipv4_addr(peer);
	struct rtnl_neigh *entry;
	int index, error;

	error = index_of(sock, tunnel, &index);
	if (error)
		return error;
	entry = mac && to ? forwarding_entry(index, mac, to) : NULL;
	if (!entry)
		return -ENOMEM;
	error = from_nl(rtnl_neigh_add(sock, entry, NLM_F_CREATE | NLM_F_APPEND));
	rtnl_neigh_put(entry);
	return error == -EEXIST ? 0 : error;
}

/* A dump of forwarding entries, narrowed down to those of one tunnel and one peer. */
struct peer_dump {
	int index;
	struct in_addr peer;
	struct rtnl_neigh **entries;	/* ours */
	size_t count, room;
	int error;
};

/* libnl gives the address of a forwarding entry the family of bridges, so its bytes must do. */
static bool leads_to(struct rtnl_neigh *entry, const struct peer_dump *dump)
{
	struct nl_addr *to = rtnl_neigh_get_dst(entry);

	return rtnl_neigh_get_ifindex(entry) == dump->index && to &&
	       nl_addr_get_len(to) == sizeof(dump->peer) &&
	       !memcmp(nl_addr_get_binary_addr(to), &dump->peer, sizeof(dump->peer));
}

/* nl_recvmsgs() callback: keeps an entry of the dump if it is one to keep. */
static int keep_entry(struct nl_msg *msg, void *arg)
{
	struct peer_dump *dump = arg;
	struct rtnl_neigh *entry, **larger;

	if (rtnl_neigh_parse(nlmsg_hdr(msg), &entry))
		return NL_SKIP;
	if (!leads_to(entry, dump)) {
		rtnl_neigh_put(entry);
		return NL_SKIP;
	}
	if (dump->count == dump->room) {
		larger = reallocarray(dump->entries, dump->room + 64, sizeof(*larger));
		if (!larger) {
			dump->error = -ENOMEM;
			rtnl_neigh_put(entry);
			return NL_SKIP;
		}
		dump->entries = larger;
		dump->room += 64;
	}
	dump->entries[dump->count++] = entry;
	return NL_OK;
}

/* Fills `dump`; its entries are the caller's to put, whatever is returned. */
static int dump_peer(struct nl_sock *sock, struct peer_dump *dump)
{
	struct ifinfomsg request = { .ifi_family = AF_BRIDGE };
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int error;

	if (!cb)
		return -ENOMEM;
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, keep_entry, dump);
	error = nl_send_simple(sock, RTM_GETNEIGH, NLM_F_DUMP, &request, sizeof(request));
	if (error >= 0)
		error = nl_recvmsgs(sock, cb);
	nl_cb_put(cb);
	return error < 0 ? from_nl(error) : dump->error;
}

int netif_remove_peer(struct nl_sock *sock, const char *tunnel, struct in_addr peer)
{
	_cleanup_addr_ struct nl_addr *to = ipv4_addr(peer);
	struct peer_dump dump = { .peer = peer };
	int error;

	if (!to)
		return -ENOMEM;
	error = index_of(sock, tunnel, &dump.index);
	if (!error)
		error = dump_peer(sock, &dump);
	for (size_t i = 0; i < dump.count; i++) {
		struct rtnl_neigh *entry = forwarding_entry(
			dump.index, rtnl_neigh_get_lladdr(dump.entries[i]), to);
		int gone = entry ? from_nl(rtnl_neigh_delete(sock, entry, 0)) : -ENOMEM;

		if (gone && gone != -ENOENT && !error)
			error = gone;
		if (entry)
			rtnl_neigh_put(entry);
		rtnl_neigh_put(dump.entries[i]);
	}
	free(dump.entries);
	return error;
}

int netif_delete(struct nl_sock *sock, const char *name)
{
	_cleanup_link_ struct rtnl_link *link = rtnl_link_alloc();
	int index, error;

	if (!link)
		return -ENOMEM;
	error = index_of(sock, name, &index);
	if (error)
		return error;
	rtnl_link_set_ifindex(link, index);
	return from_nl(rtnl_link_delete(sock, link));
}

int netif_delete_group(struct nl_sock *sock, uint32_t group)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_DELLINK, 0);
	int error;

	if (!msg)
		return -ENOMEM;
	error = nlmsg_append(msg, &header, sizeof(header), NLMSG_ALIGNTO);
	if (!error)
		error = nla_put_u32(msg, IFLA_GROUP, group);
	if (error) {
		nlmsg_free(msg);
		return from_nl(error);
	}
	error = from_nl(nl_send_sync(sock, msg));	/* frees msg */
	return error == -ENOENT ? -ENODEV : error;
}

int netif_list(struct nl_sock *sock, void (*each)(const char *name, void *arg), void *arg)
{
	_cleanup_cache_ struct nl_cache *cache = NULL;
	int error = rtnl_link_alloc_cache(sock, AF_UNSPEC, &cache);

	if (error)
		return from_nl(error);
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		const char *name = rtnl_link_get_name((struct rtnl_link *)o);

		if (name)
			each(name, arg);
	}
	return 0;
}

int netif_set_sysctl(int value, const char *path_format, ...)
{
	char below[96], path[128], text[16];
	_cleanup_fd_ int fd = -1;
	va_list args;

	va_start(args, path_format);
	vsnprintf(below, sizeof(below), path_format, args);
	va_end(args);
	snprintf(path, sizeof(path), "/proc/sys/net/%s", below);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return io_write_full(fd, text, (size_t)snprintf(text, sizeof(text), "%d", value));
}
