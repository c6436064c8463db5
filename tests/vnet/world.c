/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Namespaces, clusters and ports for the tests. */
#define _GNU_SOURCE
#include "tests/vnet/world.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/vnet/embed.h"
#include "host/vnet/netif.h"
#include "host/vnet/vnet.h"
#include "tests/vnet/frames.h"

#define SKIP 77
#define TUNNEL_PORT 4789

static int machine = -1;	/* the namespace that stands for the machine's own */
static char cluster[EMBED_MAX_NAME + 1];

static void give_up(int status, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(status);
}

/* An interface with an address and a default route, as the machine would have. */
static void plug_machine(void)
{
	_cleanup_netif_ struct nl_sock *sock = NULL;

	if (netif_open(&sock) || netif_up(sock, "lo") ||
	    netif_add_bridge(sock, "lan0", NULL, 1500, 0) ||
	    netif_add_address(sock, "lan0", ip4(WORLD_MACHINE), 24) || netif_up(sock, "lan0"))
		give_up(SKIP, "cannot make an interface");
}

void world_start(void)
{
	cpu_set_t first;

	log_init("test", LOG_LVL_WARN);
	if (geteuid())
		exit(SKIP);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		give_up(SKIP, "/dev/net/tun");
	if (unshare(CLONE_NEWNET) < 0)
		give_up(SKIP, "unshare");
	machine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	CPU_ZERO(&first);
	CPU_SET(sched_getcpu(), &first);
	if (machine < 0 || sched_setaffinity(0, sizeof(first), &first) < 0)
		give_up(EXIT_FAILURE, "cannot start");
	plug_machine();
}

const char *world_cluster(unsigned hosts, pid_t *router)
{
	char why[256] = "";

	snprintf(cluster, sizeof(cluster), "test-%d", (int)getpid());
	if (embed_create(cluster, hosts, router, why, sizeof(why))) {
		fprintf(stderr, "embed_create: %s\n", why);
		exit(EXIT_FAILURE);
	}
	return cluster;
}

void world_end(void)
{
	world_leave();
	embed_destroy(cluster);
}

bool world_enter(unsigned k)
{
	return embed_enter(cluster, k) == 0;
}

bool world_leave(void)
{
	return setns(machine, CLONE_NEWNET) == 0;
}

struct vnet_segment *world_segment(unsigned k, unsigned hosts, uint32_t vni, const char *base,
				   const char *gateway)
{
	struct vnet_config config = {
		.vni = vni, .base = ip4(base), .prefix = 24, .gateway = ip4(gateway),
		.underlay = embed_address(k), .port = TUNNEL_PORT,
	};
	struct vnet_segment *segment;
	char why[256] = "";

	if (!world_enter(k) || vnet_segment_create(&config, &segment, why, sizeof(why))) {
		fprintf(stderr, "segment %u on host %u: %s\n", vni, k, why);
		return NULL;
	}
	for (unsigned other = 1; other <= hosts; other++) {
		if (other != k && vnet_peer_add(segment, embed_address(other)))
			fprintf(stderr, "segment %u: no peer %u\n", vni, other);
	}
	return segment;
}

bool world_port(struct vnet_segment *segment, unsigned k, uint32_t vni, const char *base,
		unsigned id, struct vm *vm)
{
	char why[256] = "";

	vnet_mac(vni, id, vm->mac);
	vm->ip.s_addr = htonl(ntohl(inet_addr(base)) + id);
	vnet_address6(vni, id, &vm->ip6);
	vnet_link_local(vm->mac, &vm->link_local);
	if (!segment || !world_enter(k) || vnet_port_open(segment, id, &vm->fd, why, sizeof(why))) {
		fprintf(stderr, "port %u of segment %u: %s\n", id, vni, why);
		return false;
	}
	return true;
}

struct prefix_count {
	const char *prefix;
	unsigned count;
};

static void count_interface(const char *name, void *arg)
{
	struct prefix_count *counted = arg;

	counted->count += !strncmp(name, counted->prefix, strlen(counted->prefix));
}

unsigned world_interfaces(const char *prefix)
{
	struct prefix_count counted = { .prefix = prefix };
	_cleanup_netif_ struct nl_sock *sock = NULL;

	if (netif_open(&sock) || netif_list(sock, count_interface, &counted))
		return ~0u;
	return counted.count;
}

bool world_no_tables(void)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	bool none;

	nft_ctx_buffer_output(nft);
	none = !nft_run_cmd_from_buffer(nft, "list tables\n") &&
	       !*nft_ctx_get_output_buffer(nft);
	nft_ctx_free(nft);
	return none;
}

unsigned world_refused(uint32_t vni, unsigned id)
{
	static const char counter[] = "counter packets ";
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	unsigned sum = 0;
	char command[64];

	snprintf(command, sizeof(command), "list chain netdev sf-%06x p%x\n", vni, id);
	nft_ctx_buffer_output(nft);
	if (nft_run_cmd_from_buffer(nft, command))
		give_up(EXIT_FAILURE, "no rules of a port");
	for (const char *at = nft_ctx_get_output_buffer(nft); (at = strstr(at, counter)); at++)
		sum += (unsigned)strtoul(at + strlen(counter), NULL, 10);
	nft_ctx_free(nft);
	return sum;
}

int world_udp(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		give_up(EXIT_FAILURE, "UDP socket");
	return fd;
}

int world_udp6(uint16_t port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct timeval limit = { .tv_sec = 2 };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		give_up(EXIT_FAILURE, "UDP socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

bool world_has_ipv6(void)
{
	return access("/proc/sys/net/ipv6", F_OK) == 0;
}

bool world_ipv6_is_off(const char *interface)
{
	char path[128], digit = '1';
	_cleanup_fd_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", interface);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		io_read_full(fd, &digit, 1);
	return digit == '1';
}

bool world_turn_on_ipv6(const char *interface, const struct in6_addr *address)
{
	_cleanup_netif_ struct nl_sock *sock = NULL;
	struct rtnl_addr *addr = rtnl_addr_alloc();
	struct nl_addr *local = nl_addr_build(AF_INET6, address, sizeof(*address));
	int error = -1;

	if (addr && local && !netif_open(&sock) &&
	    !netif_set_sysctl(1, "ipv6/conf/%s/addr_gen_mode", interface) &&
	    !netif_set_sysctl(0, "ipv6/conf/%s/disable_ipv6", interface)) {
		nl_addr_set_prefixlen(local, 64);
		rtnl_addr_set_ifindex(addr, (int)if_nametoindex(interface));
		rtnl_addr_set_local(addr, local);
		rtnl_addr_set_flags(addr, IFA_F_NODAD);
		error = rtnl_addr_add(sock, addr, NLM_F_CREATE | NLM_F_REPLACE);
	}
	nl_addr_put(local);
	rtnl_addr_put(addr);
	return !error;
}

int world_run(const char *suite, const struct world_test *tests, size_t count)
{
	CU_pSuite added;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return EXIT_FAILURE;
	added = CU_add_suite(suite, NULL, NULL);
	for (size_t i = 0; added && i < count; i++)
		CU_add_test(added, tests[i].name, tests[i].run);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures() + !added;
	CU_cleanup_registry();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
