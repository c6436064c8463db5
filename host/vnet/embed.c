/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts on one machine.
 *
 *     sf-C-h1          sf-C-h2           sf-C-wire                        the machine's own
 *       eth0 ───────────┐ eth0 ────────── h2 ┐
 *                       └──────────────── h1 ┴ br0 ── NAT ── tap0 ─────── slirp4netns
 *     198.18.0.1       198.18.0.2         198.18.0.254
 *
 * The addresses are from the range for benchmarks (RFC 2544), which no network at home or at work
 * uses; every cluster has the same ones, as none sees another. The wire's MTU is large, so that a
 * guest's full frame fits into the tunnel between hosts, and a page into one datagram. Guests reach
 * what the machine itself could reach by the network, but not the services on its loopback.
 *
 * Nothing is remembered outside the kernel: a cluster is what has its name in NETNS_FOLDER.
 */
#include "host/vnet/embed.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/vnet/filter.h"
#include "host/vnet/netif.h"
#include "host/vnet/netns.h"
#include "host/vnet/router.h"
#include "host/vnet/why.h"

#define SUBNET 0xc6120000u	/* 198.18.0.0 */
#define SUBNET_PREFIX 24
#define WIRE_HOST 254
#define WIRE_MTU_BYTES 9000
#define BRIDGE "br0"
#define UPLINK "eth0"
#define NAME_PREFIX "sf-"
#define WIRE_SUFFIX "wire"
#define NAME_BYTES (sizeof(NAME_PREFIX) + EMBED_MAX_NAME + sizeof("-" WIRE_SUFFIX))

struct in_addr embed_address(unsigned k)
{
	return (struct in_addr){ .s_addr = htonl(SUBNET | k) };
}

static bool is_cluster_name(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > EMBED_MAX_NAME)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* Name of the namespace of host `k`, or of the wire for 0. */
static void name_of(const char *cluster, unsigned k, char name[NAME_BYTES])
{
	if (k)
		snprintf(name, NAME_BYTES, NAME_PREFIX "%s-h%u", cluster, k);
	else
		snprintf(name, NAME_BYTES, NAME_PREFIX "%s-" WIRE_SUFFIX, cluster);
}

/* Splits a namespace's name. Return: true if it is one of ours; *cluster gets whose. */
static bool parse_name(const char *name, char cluster[EMBED_MAX_NAME + 1])
{
	const char *dash = strrchr(name, '-');
	size_t prefix_bytes = strlen(NAME_PREFIX), len;

	if (strncmp(name, NAME_PREFIX, prefix_bytes) || dash < name + prefix_bytes)
		return false;
	len = (size_t)(dash - name) - prefix_bytes;
	if (len > EMBED_MAX_NAME)
		return false;
	memcpy(cluster, name + prefix_bytes, len);
	cluster[len] = '\0';
	if (!is_cluster_name(cluster))
		return false;
	if (!strcmp(dash + 1, WIRE_SUFFIX))
		return true;
	return dash[1] == 'h' && isdigit((unsigned char)dash[2]) &&
	       strspn(dash + 2, "0123456789") == strlen(dash + 2);
}

/* Frames that a bridge passes on are no business of the namespace's IP filter. */
static int plain_bridges(void)
{
	static const char *const tables[] = { "ip", "ip6", "arp" };
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tables) && !error; i++)
		error = netif_set_sysctl(0, "bridge/bridge-nf-call-%stables", tables[i]);
	return error;
}

/* Sets the new namespace up that the thread is in, for the wire. */
static int set_up_wire(struct nl_sock *wire, const struct why *why)
{
	_cleanup_filter_ struct nft_ctx *filter = NULL;
	int error = plain_bridges();

	if (!error)
		error = netif_up(wire, "lo");
	if (!error)
		error = netif_add_bridge(wire, BRIDGE, NULL, WIRE_MTU_BYTES, 0);
	if (!error)
		error = netif_add_address(wire, BRIDGE, embed_address(WIRE_HOST), SUBNET_PREFIX);
	if (!error)
		error = netif_up(wire, BRIDGE);
	if (!error)
		error = filter_open(&filter);
	if (error)
		return why_set(why, error, "cannot set up the wire between the hosts");
	return filter_add_router(filter, embed_address(0), SUBNET_PREFIX, ROUTER_TAP, why);
}

/* Makes host `k` and plugs it into the wire; moves the thread into it. */
static int add_host(const char *cluster, unsigned k, struct nl_sock *wire)
{
	_cleanup_netif_ struct nl_sock *own = NULL;
	_cleanup_fd_ int netns = -1;
	char name[NAME_BYTES], plug[8];
	int error;

	name_of(cluster, k, name);
	snprintf(plug, sizeof(plug), "h%u", k);
	error = netns_create(name, &netns);
	if (!error)
		error = plain_bridges();
	if (!error)
		error = netif_open(&own);
	if (!error)
		error = netif_add_veth(wire, plug, UPLINK, netns, WIRE_MTU_BYTES);
	if (!error)
		error = netif_attach(wire, plug, BRIDGE, 0);
	if (!error)
		error = netif_up(own, "lo");
	if (!error)
		error = netif_add_address(own, UPLINK, embed_address(k), SUBNET_PREFIX);
	if (!error)
		error = netif_up(own, UPLINK);
	if (!error)
		error = netif_add_default_route(own, UPLINK, embed_address(WIRE_HOST));
	return error;
}

/* Makes all namespaces; the thread is back where it was afterwards. *ours: the wire was made, so
 * that after an error there is something to take down. */
static int make_namespaces(const char *cluster, unsigned hosts, bool *ours, const struct why *why)
{
	_cleanup_netns_ int home = -1;
	_cleanup_netif_ struct nl_sock *wire = NULL;
	_cleanup_fd_ int netns = -1;
	char name[NAME_BYTES];
	int error = netns_current(&home);

	name_of(cluster, 0, name);
	if (!error)
		error = netns_create(name, &netns);
	if (error == -EEXIST)
		return why_set(why, error, "there is a cluster \"%s\" on this machine", cluster);
	*ours = !error;
	if (!error)
		error = netif_open(&wire);
	if (error)
		return why_set(why, error, "cannot make network namespace %s", name);
	error = set_up_wire(wire, why);
	for (unsigned k = 1; k <= hosts && !error; k++) {
		error = add_host(cluster, k, wire);
		if (error)
			why_set(why, error, "cannot make host %u of cluster \"%s\"", k, cluster);
	}
	return error;
}

/* Starts the way to the outside. Not having the program for it is fine. */
static int start_router(const char *cluster, pid_t *router, const struct why *why)
{
	char name[NAME_BYTES];
	int error;

	name_of(cluster, 0, name);
	error = router_start(name, router, why);
	if (error != -ENOENT)
		return error;
	log_warn("cluster %s: no way to the outside, as slirp4netns is not installed", cluster);
	*router = 0;
	return 0;
}

int embed_create(const char *cluster, unsigned hosts, pid_t *router, char *text, size_t text_bytes)
{
	const struct why why = { text, text_bytes };
	bool ours = false;
	int error;

	if (!is_cluster_name(cluster))
		return why_set(&why, EINVAL, "a cluster's name is 1 to %d of a-z, 0-9 and -",
			       EMBED_MAX_NAME);
	if (hosts < 1 || hosts > EMBED_MAX_HOSTS)
		return why_set(&why, EINVAL, "a cluster on one machine has 1 to %d hosts",
			       EMBED_MAX_HOSTS);
	error = make_namespaces(cluster, hosts, &ours, &why);
	if (!error)
		error = start_router(cluster, router, &why);
	if (error && ours)
		embed_destroy(cluster);
	return error;
}

int embed_enter(const char *cluster, unsigned k)
{
	char name[NAME_BYTES];

	if (!is_cluster_name(cluster) || k > EMBED_MAX_HOSTS)
		return -EINVAL;
	name_of(cluster, k, name);
	return netns_enter(name);
}

/* One cluster's namespaces in a list of all. */
struct removal {
	const char *cluster;
	int count;
};

static void remove_if_member(const char *name, void *arg)
{
	struct removal *removal = arg;
	char cluster[EMBED_MAX_NAME + 1];
	int error;

	if (!parse_name(name, cluster) || strcmp(cluster, removal->cluster))
		return;
	error = netns_delete(name);
	if (error)
		log_warn("cluster %s: %s stays: %s", cluster, name, strerror(-error));
	else
		removal->count++;
}

int embed_destroy(const char *cluster)
{
	struct removal removal = { .cluster = cluster };
	char name[NAME_BYTES];

	if (!is_cluster_name(cluster))
		return 0;
	name_of(cluster, 0, name);
	router_stop(name);
	netns_list(remove_if_member, &removal);
	return removal.count;
}

/* Names of clusters, each once. */
struct clusters {
	char (*names)[EMBED_MAX_NAME + 1];
	size_t count;
	int error;
};

static void keep_cluster(const char *name, void *arg)
{
	struct clusters *clusters = arg;
	char cluster[EMBED_MAX_NAME + 1], (*larger)[EMBED_MAX_NAME + 1];

	if (!parse_name(name, cluster))
		return;
	for (size_t i = 0; i < clusters->count; i++) {
		if (!strcmp(clusters->names[i], cluster))
			return;
	}
	larger = reallocarray(clusters->names, clusters->count + 1, sizeof(*larger));
	if (!larger) {
		clusters->error = -ENOMEM;
		return;
	}
	clusters->names = larger;
	memcpy(clusters->names[clusters->count++], cluster, sizeof(cluster));
}

int embed_list(void (*each)(const char *cluster, void *arg), void *arg)
{
	struct clusters clusters = { .names = NULL };
	int error = netns_list(keep_cluster, &clusters);

	if (!error)
		error = clusters.error;
	for (size_t i = 0; i < clusters.count && !error; i++)
		each(clusters.names[i], arg);
	free(clusters.names);
	return error;
}
