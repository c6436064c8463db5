/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A segment on this host, and its ports.
 *
 *       VM 0   VM 3            VM 1
 *        tap    tap             tap       sft…  filtered before the bridge (filter.c)
 *         └──┬───┘               │
 *         bridge ── gateway   bridge      sfb…  the same address and MAC on every host
 *          │    └ routing, NAT   │
 *        vxlan ───────────────  vxlan     sfx…  floods to every peer, learns who is where
 *
 * Everything is in the kernel, named after VNI and ID (names.h); struct vnet_segment holds the
 * sockets to ask for changes and no state that the kernel could contradict. So a crash loses
 * nothing but the taps, and vnet_clean() finds the rest by its names.
 *
 * MTU. Guests have 1500, and so have tap, bridge and tunnel. The tunnel adds 50 bytes: with an MTU
 * of 1550 or more between the hosts (embedded hosts have 9000) frames travel whole. With 1500
 * there, a full frame does not fit, and the kernel's tunnel does what a router would: an IPv4
 * packet that forbids fragments is answered with "fragmentation needed, 1450", after which the
 * guest's TCP uses segments that fit; others travel as two fragments. It works, with no setting in
 * the guest; a larger MTU between the hosts is faster.
 *
 * On a real host, IP forwarding is turned on while there is a segment if it was off, for segments
 * only (filter.h). A firewall that drops what is forwarded must let through what comes from or goes
 * to sfb*. A segment's network must not overlap another network of the host, nor another segment's:
 * that is refused.
 */
#include "host/vnet/vnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/vnet/filter.h"
#include "host/vnet/names.h"
#include "host/vnet/netif.h"
#include "host/vnet/why.h"

#define GUEST_MTU_BYTES 1500
#define MIN_PREFIX 8
#define MAX_PREFIX 30
#define MAX_VNI 0xffffffu

struct vnet_segment {
	struct vnet_config config;
	struct names_segment names;
	struct nl_sock *netif;
	struct nft_ctx *filter;
	uint8_t open[(NAMES_GATEWAY_ID + 7) / 8];	/* bit per ID: given out, and not closed */
};

/* Host order, like everything that is calculated with. */
static uint32_t first_address(const struct vnet_config *config)
{
	return ntohl(config->base.s_addr) & (UINT32_MAX << (32 - config->prefix));
}

static uint32_t last_address(const struct vnet_config *config)
{
	return ntohl(config->base.s_addr) | (UINT32_MAX >> config->prefix);
}

/* True for an address that someone on the segment may have. */
static bool is_usable(const struct vnet_config *config, uint64_t address)
{
	return address > first_address(config) && address < last_address(config);
}

static int check_config(const struct vnet_config *config, const struct why *why)
{
	if (config->vni < 1 || config->vni > MAX_VNI)
		return why_set(why, EINVAL, "segment %u: not a 24-bit number", config->vni);
	if (config->prefix < MIN_PREFIX || config->prefix > MAX_PREFIX)
		return why_set(why, EINVAL, "segment %u: prefix length %u is not in %d to %d",
			       config->vni, config->prefix, MIN_PREFIX, MAX_PREFIX);
	if (!is_usable(config, ntohl(config->base.s_addr)) ||
	    !is_usable(config, ntohl(config->gateway.s_addr)))
		return why_set(why, EINVAL, "segment %u: base or gateway is not an address of its "
			       "network", config->vni);
	if (!config->port)
		return why_set(why, EINVAL, "segment %u: no port for the tunnel", config->vni);
	return 0;
}

/* Refuses what would work half: an underlay that is elsewhere, a network that is here already. */
static int check_addresses(struct vnet_segment *segment, const struct why *why)
{
	const struct vnet_config *config = &segment->config;
	char text[INET_ADDRSTRLEN];
	bool local, overlap;
	int error;

	error = netif_check_addresses(segment->netif, config->underlay, config->base,
				      config->prefix, &local, &overlap);
	if (error)
		return why_set(why, error, "cannot list this host's addresses");
	if (!local) {
		inet_ntop(AF_INET, &config->underlay, text, sizeof(text));
		return why_set(why, EADDRNOTAVAIL, "%s is not an address of this host", text);
	}
	if (overlap) {
		inet_ntop(AF_INET, &config->base, text, sizeof(text));
		return why_set(why, EADDRINUSE, "%s/%u overlaps a network that this host is in",
			       text, config->prefix);
	}
	return 0;
}

/* Keeps the host's IP from doing on a segment what only other interfaces are there for. */
static int harden(const struct vnet_segment *segment)
{
	static const struct {
		const char *path;
		int value;
	} settings[] = {
		{ "ipv6/conf/%s/disable_ipv6", 1 },	{ "ipv4/conf/%s/arp_ignore", 1 },
		{ "ipv4/conf/%s/arp_announce", 2 },	{ "ipv4/conf/%s/rp_filter", 1 },
		{ "ipv4/conf/%s/accept_redirects", 0 }, { "ipv4/conf/%s/send_redirects", 0 },
	};
	int error = netif_set_sysctl(1, "ipv6/conf/%s/disable_ipv6", segment->names.tunnel);

	for (size_t i = 0; i < ARRAY_SIZE(settings) && !error; i++)
		error = netif_set_sysctl(settings[i].value, settings[i].path,
					 segment->names.bridge);
	return error;
}

/* Turns on what build() made. */
static int bring_up(struct vnet_segment *segment)
{
	const struct vnet_config *config = &segment->config;
	const struct names_segment *names = &segment->names;
	int error = harden(segment);

	if (!error)
		error = netif_attach(segment->netif, names->tunnel, names->bridge, names->group);
	if (!error)
		error = netif_add_address(segment->netif, names->bridge, config->gateway,
					  config->prefix);
	return error ? error : netif_up(segment->netif, names->bridge);
}

/* netif_list() callback: *found if this is a segment's interface. */
static void note_ours(const char *name, void *found)
{
	if (names_is_interface(name, NULL))
		*(bool *)found = true;
}

/* Takes down what is there of the segment, as far as it goes. */
static void take_down(struct vnet_segment *segment)
{
	struct nl_sock *netif = segment->netif;
	bool others = false;
	int error = netif_delete_group(netif, segment->names.group);

	if (error && error != -ENODEV)
		log_warn("vnet %u: interfaces stay: %s", segment->config.vni, strerror(-error));
	error = filter_remove_segment(segment->filter, segment->config.vni);
	if (error)
		log_warn("vnet %u: rules stay: %s", segment->config.vni, strerror(-error));
	if (netif_list(netif, note_ours, &others) || others)
		return;
	error = filter_forwarding_off(segment->filter);
	if (error)
		log_warn("vnet: IP forwarding stays on: %s", strerror(-error));
}

/* Makes bridge, tunnel and rules. After an error take_down() is due, unless it is -EEXIST from the
 * bridge: that one is somebody else's, and *ours says so. */
static int build(struct vnet_segment *segment, bool *ours, const struct why *why)
{
	const struct vnet_config *config = &segment->config;
	const struct names_segment *names = &segment->names;
	uint8_t mac[VNET_MAC_BYTES];
	int error;

	vnet_mac(config->vni, NAMES_GATEWAY_ID, mac);
	error = netif_add_bridge(segment->netif, names->bridge, mac, GUEST_MTU_BYTES, names->group);
	*ours = !error;
	if (error)
		return why_set(why, error, "cannot make bridge %s", names->bridge);
	error = netif_add_vxlan(segment->netif, names->tunnel, config->vni, config->underlay,
				config->port, GUEST_MTU_BYTES, names->group);
	if (error)
		return why_set(why, error, "cannot make tunnel %s on port %u", names->tunnel,
			       config->port);
	error = filter_add_segment(segment->filter, config, why);
	if (!error)
		error = filter_forwarding_on(segment->filter, why);
	if (error)
		return error;
	error = bring_up(segment);
	return error ? why_set(why, error, "cannot bring up %s", names->bridge) : 0;
}

static void segment_free(struct vnet_segment *segment)
{
	filter_close(segment->filter);
	netif_close(segment->netif);
	free(segment);
}

int vnet_segment_create(const struct vnet_config *config, struct vnet_segment **segment,
			char *text, size_t text_bytes)
{
	const struct why why = { text, text_bytes };
	struct vnet_segment *fresh;
	bool ours = false;
	int error = check_config(config, &why);

	if (error)
		return error;
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return why_set(&why, ENOMEM, "segment %u", config->vni);
	fresh->config = *config;
	names_of_segment(config->vni, &fresh->names);
	error = netif_open(&fresh->netif);
	if (!error)
		error = filter_open(&fresh->filter);
	if (error)
		why_set(&why, error, "cannot talk to the kernel's network");
	if (!error)
		error = check_addresses(fresh, &why);
	if (!error)
		error = build(fresh, &ours, &why);
	if (error) {
		if (ours)
			take_down(fresh);
		segment_free(fresh);
		return error;
	}
	*segment = fresh;
	return 0;
}

void vnet_segment_destroy(struct vnet_segment *segment)
{
	if (!segment)
		return;
	take_down(segment);
	segment_free(segment);
}

int vnet_peer_add(struct vnet_segment *segment, struct in_addr underlay)
{
	int error;

	if (underlay.s_addr == segment->config.underlay.s_addr)
		return -EINVAL;
	error = filter_add_peer(segment->filter, segment->config.vni, underlay);
	return error ? error : netif_add_peer(segment->netif, segment->names.tunnel, underlay);
}

int vnet_peer_remove(struct vnet_segment *segment, struct in_addr underlay)
{
	int error = filter_remove_peer(segment->filter, segment->config.vni, underlay);
	int also = netif_remove_peer(segment->netif, segment->names.tunnel, underlay);

	return error ? error : also;
}

/* Makes a tap that goes with its descriptor. Return: 0 or -errno (-EBUSY: there is such a tap). */
static int tap_create(const char *name, int *fd)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	_cleanup_fd_ int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (tun < 0)
		return -errno;
	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(tun, TUNSETIFF, &request) < 0)
		return -errno;
	*fd = steal_fd(&tun);
	return 0;
}

/* Makes the tap of an ID that is not in use. One that a closed port left in some process's hands
 * is taken from it. */
static int tap_create_anew(struct vnet_segment *segment, const char *name, int *fd)
{
	int error = tap_create(name, fd);

	if (error != -EBUSY)
		return error;
	error = netif_delete(segment->netif, name);
	return error && error != -ENODEV ? error : tap_create(name, fd);
}

/* Puts rules on a new tap and then connects it, in this order. */
static int tap_connect(struct vnet_segment *segment, unsigned id, const char *tap,
		       const struct why *why)
{
	uint32_t base = ntohl(segment->config.base.s_addr);
	struct in_addr address = { .s_addr = htonl(base + id) };
	int error;

	error = filter_open_port(segment->filter, segment->config.vni, id, address, why);
	if (error)
		return error;
	error = netif_set_sysctl(1, "ipv6/conf/%s/disable_ipv6", tap);
	if (!error)
		error = netif_attach(segment->netif, tap, segment->names.bridge,
				     segment->names.group);
	return error ? why_set(why, error, "cannot connect %s", tap) : 0;
}

int vnet_port_open(struct vnet_segment *segment, unsigned id, int *fd, char *text,
		   size_t text_bytes)
{
	const struct vnet_config *config = &segment->config;
	const struct why why = { text, text_bytes };
	uint64_t address = (uint64_t)ntohl(config->base.s_addr) + id;
	_cleanup_fd_ int tun = -1;
	char tap[IF_NAMESIZE];
	int error;

	if (id >= NAMES_GATEWAY_ID || !is_usable(config, address) ||
	    address == ntohl(config->gateway.s_addr))
		return why_set(&why, EINVAL, "segment %u has no address for ID %u", config->vni,
			       id);
	names_of_tap(config->vni, id, tap);
	if (segment->open[id / 8] & 1u << id % 8)
		return why_set(&why, EEXIST, "port %s is open", tap);
	error = tap_create_anew(segment, tap, &tun);
	if (error)
		return why_set(&why, error, "cannot make %s", tap);
	error = tap_connect(segment, id, tap, &why);
	if (error) {
		filter_shut_port(segment->filter, config->vni, id);
		return error;
	}
	segment->open[id / 8] |= (uint8_t)(1u << id % 8);
	*fd = steal_fd(&tun);
	return 0;
}

void vnet_port_close(struct vnet_segment *segment, unsigned id)
{
	int error;

	if (id >= NAMES_GATEWAY_ID || !(segment->open[id / 8] & 1u << id % 8))
		return;
	segment->open[id / 8] &= (uint8_t)~(1u << id % 8);
	error = filter_shut_port(segment->filter, segment->config.vni, id);
	if (error)
		log_warn("vnet %u: port %u: %s", segment->config.vni, id, strerror(-error));
}
