/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of segments and ports.
 *
 * A segment has two tables. The netdev one is on its own interfaces alone: on the tunnel it keeps
 * the gateway, which every host has with the same MAC and address, from being seen by the others;
 * on each tap it holds the VM to the MAC and addresses assigned to it. The hook is before the
 * bridge, so that not even the bridge's learning sees a frame that was refused. A port's chain has
 * the policy drop: a chain without rules is a port that is shut.
 *
 * Of ICMPv6 a port lets in errors, pings, and what ARP is to IPv4: solicitations and advertisements
 * of neighbours that have no other form than the ordinary one, that is the ICMPv6 message right
 * behind the IPv6 header, alone or with the one option that names the sender's MAC. So all of it
 * can be looked at, and must be the port's own; nothing hides behind other headers. (Linux takes no
 * such message out of fragments, RFC 6980.) A VM does not ask whether somebody has its address,
 * plays no router and redirects nobody. Reports of multicast groups are what every kernel sends
 * when it gets an address, and of no use here: they are dropped and not counted.
 *
 * The inet one guards the host and the way out. A guest gets an answer to a ping from the gateway,
 * what belongs to a connection that the host made, and the outside by NAT. Everything else is
 * dropped: all IPv6 (which is turned off on the bridge as well), the host itself, other segments
 * (each by the rules of the one it would come to), and the other hosts of the cluster. The latter,
 * and anything to the tunnel's port, because NAT would lend the guest its host's address there, and
 * with it the right to put frames into any segment. Tunnel frames are accepted from peers only.
 *
 * Frames that stay on one bridge come by the forward hook as well where br_netfilter is at work;
 * hence the rules there that let them pass.
 */
#define _GNU_SOURCE
#include "host/vnet/filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/vnet/names.h"

#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"

/* Arguments: table, bridge, tunnel, gateway MAC, gateway, network, prefix, port, VNI. */
static const char segment_rules[] =
	"add table netdev %1$s\n"
	"delete table netdev %1$s\n"
	"table netdev %1$s {\n"
	"	chain gateway_stays_here {\n"
	"		ether saddr %4$s drop\n"
	"		ether daddr %4$s drop\n"
	"		arp saddr ip %5$s drop\n"
	"		arp daddr ip %5$s drop\n"
	"		ip saddr %5$s drop\n"
	"	}\n"
	"	chain from_tunnel {\n"
	"		type filter hook ingress device \"%3$s\" priority 0; policy accept;\n"
	"		jump gateway_stays_here\n"
	"	}\n"
	"	chain to_tunnel {\n"
	"		type filter hook egress device \"%3$s\" priority 0; policy accept;\n"
	"		jump gateway_stays_here\n"
	"	}\n"
	"}\n"
	"add table inet %1$s\n"
	"delete table inet %1$s\n"
	"table inet %1$s {\n"
	"	set peers {\n"
	"		type ipv4_addr\n"
	"	}\n"
	"	chain input {\n"
	"		type filter hook input priority filter; policy accept;\n"
	"		udp dport %8$u @th,96,24 0x%9$06x ip saddr != @peers counter drop\n"
	"		iifname != \"%2$s\" accept\n"
	"		ct state established,related accept\n"
	"		ip daddr %5$s icmp type echo-request accept\n"
	"		counter drop\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy accept;\n"
	"		iifname \"%2$s\" oifname \"%2$s\" accept\n"
	"		iifname \"%2$s\" goto outbound\n"
	"		oifname != \"%2$s\" accept\n"
	"		ct state established,related accept\n"
	"		counter drop\n"
	"	}\n"
	"	chain outbound {\n"
	"		meta nfproto != ipv4 counter drop\n"
	"		ip saddr != %6$s/%7$u counter drop\n"
	"		ip daddr @peers counter drop\n"
	"		udp dport %8$u counter drop\n"
	"	}\n"
	"	chain nat {\n"
	"		type nat hook postrouting priority srcnat; policy accept;\n"
	"		ip saddr %6$s/%7$u oifname != \"" NAMES_BRIDGE_PREFIX "*\" masquerade\n"
	"	}\n"
	"}\n";

/*
 * Arguments: table, ID, tap, MAC, address, its two IPv6 addresses, both in hexadecimal, MAC in
 * hexadecimal. 24 bytes are a neighbour message without options, 32 one with a MAC.
 */
static const char port_rules[] =
	"create chain netdev %1$s p%2$x {"
	" type filter hook ingress device \"%3$s\" priority 0; policy drop; }\n"
	"add rule netdev %1$s p%2$x ether saddr != %4$s counter drop\n"
	"add rule netdev %1$s p%2$x ip saddr %5$s accept\n"
	"add rule netdev %1$s p%2$x arp hlen 6 arp plen 4"
	" arp saddr ether %4$s arp saddr ip %5$s accept\n"
	"add rule netdev %1$s p%2$x icmpv6 type { mld-listener-query, mld-listener-report,"
	" mld-listener-done, mld2-listener-report } drop\n"
	"add rule netdev %1$s p%2$x ip6 saddr != { %6$s } counter drop\n"
	"add rule netdev %1$s p%2$x meta protocol ip6 meta l4proto != icmpv6 accept\n"
	"add rule netdev %1$s p%2$x frag frag-off != 0 accept\n"
	"add rule netdev %1$s p%2$x icmpv6 type { destination-unreachable, packet-too-big,"
	" time-exceeded, parameter-problem, echo-request, echo-reply } accept\n"
	"add rule netdev %1$s p%2$x ip6 nexthdr icmpv6 ip6 length 32"
	" icmpv6 type nd-neighbor-solicit @th,192,64 0x0101%8$s accept\n"
	"add rule netdev %1$s p%2$x ip6 nexthdr icmpv6 ip6 length 24"
	" icmpv6 type nd-neighbor-solicit accept\n"
	"add rule netdev %1$s p%2$x ip6 nexthdr icmpv6 ip6 length 32"
	" icmpv6 type nd-neighbor-advert @th,64,128 { %7$s } @th,192,64 0x0201%8$s accept\n"
	"add rule netdev %1$s p%2$x ip6 nexthdr icmpv6 ip6 length 24"
	" icmpv6 type nd-neighbor-advert @th,64,128 { %7$s } accept\n"
	"add rule netdev %1$s p%2$x counter drop\n";

static const char forward_rules[] =
	"table inet " NAMES_FORWARD_TABLE " {\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy accept;\n"
	"		iifname != \"" NAMES_BRIDGE_PREFIX "*\""
	" oifname != \"" NAMES_BRIDGE_PREFIX "*\""
	" meta iifkind != \"bridge\" counter drop\n"
	"	}\n"
	"}\n";

/* Arguments: network, prefix, interface. */
static const char router_rules[] =
	"table ip " VNET_NAME_PREFIX "-wire {\n"
	"	chain nat {\n"
	"		type nat hook postrouting priority srcnat; policy accept;\n"
	"		ip saddr %1$s/%2$u oifname \"%3$s\" masquerade\n"
	"	}\n"
	"}\n";

/* libnftables says what went wrong in words only; these are the ones that decide something. */
static const int nft_errors[] = { EEXIST, ENOENT, EPERM, EOPNOTSUPP, EBUSY, ENOMEM, EINVAL };

static int error_in(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(nft_errors); i++) {
		if (strstr(text, strerror(nft_errors[i])))
			return -nft_errors[i];
	}
	return -EIO;
}

int filter_open(struct nft_ctx **nft)
{
	struct nft_ctx *fresh = nft_ctx_new(NFT_CTX_DEFAULT);

	if (!fresh)
		return -ENOMEM;
	if (nft_ctx_buffer_output(fresh) || nft_ctx_buffer_error(fresh)) {
		nft_ctx_free(fresh);
		return -ENOMEM;
	}
	*nft = fresh;
	return 0;
}

void filter_close(struct nft_ctx *nft)
{
	if (nft)
		nft_ctx_free(nft);
}

/* Runs commands as one transaction. Return: 0 or -errno; the log has nft's words at debug level. */
__attribute__((format(printf, 2, 3)))
static int run(struct nft_ctx *nft, const char *format, ...)
{
	_cleanup_free_ char *commands = NULL;
	const char *complaint;
	va_list args;
	int made;

	va_start(args, format);
	made = vasprintf(&commands, format, args);
	va_end(args);
	if (made < 0) {
		commands = NULL;
		return -ENOMEM;
	}
	nft_ctx_get_output_buffer(nft);		/* forgets what earlier commands said */
	if (!nft_run_cmd_from_buffer(nft, commands))
		return 0;
	complaint = nft_ctx_get_error_buffer(nft);
	log_debug("vnet: nftables: %s", complaint);
	return error_in(complaint);
}

/* Text of an address, in a buffer of INET_ADDRSTRLEN. */
static const char *text_of(struct in_addr address, char *text)
{
	return inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN);
}

int filter_add_segment(struct nft_ctx *nft, const struct vnet_config *config, const struct why *why)
{
	char mac[NAMES_MAC_TEXT_BYTES], gateway[INET_ADDRSTRLEN], network[INET_ADDRSTRLEN];
	uint32_t mask = UINT32_MAX << (32 - config->prefix);
	struct in_addr first = { .s_addr = config->base.s_addr & htonl(mask) };
	struct names_segment names;
	int error;

	names_of_segment(config->vni, &names);
	names_of_mac(config->vni, NAMES_GATEWAY_ID, mac);
	error = run(nft, segment_rules, names.table, names.bridge, names.tunnel, mac,
		    text_of(config->gateway, gateway), text_of(first, network),
		    (unsigned)config->prefix, (unsigned)config->port, config->vni);
	if (error)
		why_set(why, error, "cannot set the packet filter of segment %u (nftables with "
			"ingress, egress and NAT are needed)", config->vni);
	return error;
}

int filter_remove_segment(struct nft_ctx *nft, uint32_t vni)
{
	struct names_segment names;

	names_of_segment(vni, &names);
	return run(nft, "add table netdev %1$s\ndelete table netdev %1$s\n"
		   "add table inet %1$s\ndelete table inet %1$s\n", names.table);
}

int filter_add_peer(struct nft_ctx *nft, uint32_t vni, struct in_addr peer)
{
	char address[INET_ADDRSTRLEN];
	struct names_segment names;

	names_of_segment(vni, &names);
	return run(nft, "add element inet %s peers { %s }\n", names.table, text_of(peer, address));
}

int filter_remove_peer(struct nft_ctx *nft, uint32_t vni, struct in_addr peer)
{
	char address[INET_ADDRSTRLEN];
	struct names_segment names;

	names_of_segment(vni, &names);
	return run(nft, "add element inet %1$s peers { %2$s }\n"
		   "delete element inet %1$s peers { %2$s }\n",
		   names.table, text_of(peer, address));
}

/* What the rules of a port are about, as text. */
struct port_texts {
	char tap[IF_NAMESIZE];
	char mac[NAMES_MAC_TEXT_BYTES];
	char mac_digits[2 * VNET_MAC_BYTES + 1];
	char address[INET_ADDRSTRLEN];
	char addresses6[2 * INET6_ADDRSTRLEN + 2];
	char numbers6[2 * (2 + 2 * sizeof(struct in6_addr)) + 3];
};

/* Puts the hexadecimal digits of bytes, and a zero, at `text`. Return: where the zero is. */
static char *put_digits(char *text, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		text += sprintf(text, "%02x", bytes[i]);
	return text;
}

static void texts_of_port(uint32_t vni, unsigned id, struct in_addr address,
			  struct port_texts *texts)
{
	char link_local[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN], *number = texts->numbers6;
	struct in6_addr addresses[2];
	uint8_t mac[VNET_MAC_BYTES];

	names_of_tap(vni, id, texts->tap);
	names_of_mac(vni, id, texts->mac);
	text_of(address, texts->address);
	vnet_mac(vni, id, mac);
	put_digits(texts->mac_digits, mac, sizeof(mac));
	vnet_link_local(mac, &addresses[0]);
	vnet_address6(vni, id, &addresses[1]);
	inet_ntop(AF_INET6, &addresses[0], link_local, sizeof(link_local));
	inet_ntop(AF_INET6, &addresses[1], text, sizeof(text));
	snprintf(texts->addresses6, sizeof(texts->addresses6), "%s, %s", link_local, text);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		number = stpcpy(number, i ? ", 0x" : "0x");
		number = put_digits(number, addresses[i].s6_addr, sizeof(addresses[i]));
	}
}

static int add_port_rules(struct nft_ctx *nft, const char *table, unsigned id,
			  const struct port_texts *texts)
{
	return run(nft, port_rules, table, id, texts->tap, texts->mac, texts->address,
		   texts->addresses6, texts->numbers6, texts->mac_digits);
}

/* Newer kernels keep the chain of a tap that is gone; then it is made anew. */
int filter_open_port(struct nft_ctx *nft, uint32_t vni, unsigned id, struct in_addr address,
		     const struct why *why)
{
	struct names_segment names;
	struct port_texts texts;
	int error;

	names_of_segment(vni, &names);
	texts_of_port(vni, id, address, &texts);
	error = add_port_rules(nft, names.table, id, &texts);
	if (error == -EEXIST) {
		error = run(nft, "delete chain netdev %s p%x\n", names.table, id);
		if (!error)
			error = add_port_rules(nft, names.table, id, &texts);
	}
	if (error)
		why_set(why, error, "cannot set the packet filter of %s", texts.tap);
	return error;
}

int filter_shut_port(struct nft_ctx *nft, uint32_t vni, unsigned id)
{
	struct names_segment names;
	int error;

	names_of_segment(vni, &names);
	error = run(nft, "flush chain netdev %s p%x\n", names.table, id);
	return error == -ENOENT ? 0 : error;
}

/* Reads or writes the namespace's switch. Return: 0 or 1, or -errno. */
static int get_forwarding(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int error = io_read_file(IP_FORWARD, 16, &text, &len);

	return error ? error : text[0] == '1';
}

static int set_forwarding(bool on)
{
	_cleanup_fd_ int fd = open(IP_FORWARD, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_write_full(fd, on ? "1" : "0", 1);
}

int filter_forwarding_on(struct nft_ctx *nft, const struct why *why)
{
	int error = get_forwarding();

	if (error > 0)
		return 0;
	if (!error)
		error = run(nft, forward_rules);
	if (!error)
		error = set_forwarding(true);
	if (error)
		why_set(why, error, "cannot turn on IP forwarding");
	return error;
}

int filter_forwarding_off(struct nft_ctx *nft)
{
	int error = run(nft, "list table inet " NAMES_FORWARD_TABLE "\n");

	if (error)
		return error == -ENOENT ? 0 : error;
	error = set_forwarding(false);
	return error ? error : run(nft, "delete table inet " NAMES_FORWARD_TABLE "\n");
}

int filter_add_router(struct nft_ctx *nft, struct in_addr network, uint8_t prefix,
		      const char *outside, const struct why *why)
{
	char text[INET_ADDRSTRLEN];
	int error = run(nft, router_rules, text_of(network, text), (unsigned)prefix, outside);

	if (!error)
		error = set_forwarding(true);
	if (error)
		why_set(why, error, "cannot set up NAT to %s", outside);
	return error;
}

int filter_clean(struct nft_ctx *nft, unsigned *removed)
{
	_cleanup_free_ char *tables = NULL;
	char family[16], name[64], *rest;
	int error, first = filter_forwarding_off(nft);

	error = run(nft, "list tables\n");
	if (error)
		return error;
	tables = strdup(nft_ctx_get_output_buffer(nft));
	if (!tables)
		return -ENOMEM;
	for (char *line = strtok_r(tables, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (sscanf(line, "table %15s %63s", family, name) != 2 || !names_is_table(name))
			continue;
		error = run(nft, "delete table %s %s\n", family, name);
		if (!error)
			(*removed)++;
		else if (!first)
			first = error;
	}
	return first;
}
