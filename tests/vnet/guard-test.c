/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest, or a stranger on the hosts' network, must not reach: the host, other hosts, other
 * segments, the inside of a segment.
 */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vnet/embed.h"
#include "host/vnet/netif.h"
#include "host/vnet/vnet.h"
#include "tests/vnet/frames.h"
#include "tests/vnet/frames6.h"
#include "tests/vnet/world.h"

#define HOSTS 2			/* of the segments; a third host is a stranger */
#define VNI 21
#define BASE "10.71.0.1"
#define GATEWAY "10.71.0.254"
#define OTHER_VNI 22
#define OTHER_BASE "10.72.0.1"
#define OTHER_GATEWAY "10.72.0.254"
#define SERVICE 4444
#define TUNNEL_PORT 4789
#define HOST6 "fd00:1972::1"		/* of host 1 and of host 3, on the wire */
#define OTHER_HOST6 "fd00:1972::3"
#define VXLAN_HEADER_BYTES 8

static struct vnet_segment *here, *there, *other_here;
static struct vm guest = { .fd = -1 }, sibling = { .fd = -1 }, stranger = { .fd = -1 };
static uint8_t gateway[6];

/* Lets the guest send a frame, then say something to the wire, where it is heard. After this, the
 * frame has come where it comes to. */
static void send_and_be_heard(const struct frame *first)
{
	struct timeval limit = { .tv_sec = 2 };
	_cleanup_fd_ int wire = -1;
	struct frame frame;
	char heard[16] = "";

	CU_ASSERT_TRUE_FATAL(world_enter(0));
	wire = world_udp(SERVICE);
	setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	CU_ASSERT_TRUE(vm_send(&guest, first));
	frame_udp(&frame, &guest, gateway, embed_address(254), SERVICE, "heard", 0, false);
	CU_ASSERT_TRUE(vm_send(&guest, &frame));
	CU_ASSERT_TRUE(recv(wire, heard, sizeof(heard), 0) > 0);
	CU_ASSERT_STRING_EQUAL(heard, "heard");
}

static void say_and_be_heard(struct in_addr to, uint16_t port, const char *text)
{
	struct frame frame;

	frame_udp(&frame, &guest, gateway, to, port, text, 0, false);
	send_and_be_heard(&frame);
}

static bool heard_nothing(int socket)
{
	char byte;

	return recv(socket, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static void the_gateway_answers_a_ping(void)
{
	struct frame frame;
	bool answered = false;

	frame_ping(&frame, &guest, gateway, ip4(GATEWAY));
	CU_ASSERT_TRUE(vm_send(&guest, &frame));
	while (!answered && vm_recv(&guest, &frame, 2000))
		answered = frame_is_icmp(&frame, 0, 0);
	CU_ASSERT_TRUE(answered);
}

static void the_host_itself_is_closed(void)
{
	_cleanup_fd_ int service = -1;

	CU_ASSERT_TRUE_FATAL(world_enter(1));
	service = world_udp(SERVICE);
	say_and_be_heard(ip4(GATEWAY), SERVICE, "to the gateway");
	say_and_be_heard(embed_address(1), SERVICE, "to the host");
	say_and_be_heard(ip4(OTHER_GATEWAY), SERVICE, "to the other gateway");
	CU_ASSERT_TRUE(heard_nothing(service));
}

static void other_addresses_of_the_host_are_not_told(void)
{
	struct frame frame;

	frame_arp_request(&frame, &guest, embed_address(1));
	CU_ASSERT_TRUE(vm_send(&guest, &frame));
	CU_ASSERT_TRUE(vm_resolve(&guest, ip4(GATEWAY), gateway));
	frame_arp_request(&frame, &guest, embed_address(1));
	CU_ASSERT_TRUE(vm_send(&guest, &frame));
	CU_ASSERT_TRUE(vm_say(&sibling, &guest, "no answer"));
	while (vm_recv(&guest, &frame, 2000) && !frame_is_udp(&frame, "no answer"))
		CU_ASSERT_FALSE(frame_is_arp(&frame, ARP_REPLY, embed_address(1)));
}

static void other_hosts_of_the_cluster_are_closed(void)
{
	_cleanup_fd_ int service = -1;

	CU_ASSERT_TRUE_FATAL(world_enter(2));
	service = world_udp(SERVICE);
	say_and_be_heard(embed_address(2), SERVICE, "to a peer");
	CU_ASSERT_TRUE(heard_nothing(service));
}

/* NAT would make the guest's host the sender, which peers trust. */
static void no_guest_speaks_to_a_tunnel(void)
{
	_cleanup_fd_ int tunnel = -1;

	CU_ASSERT_TRUE_FATAL(world_enter(3));
	tunnel = world_udp(TUNNEL_PORT);
	say_and_be_heard(embed_address(3), TUNNEL_PORT, "into a segment");
	CU_ASSERT_TRUE(heard_nothing(tunnel));
}

static void segments_do_not_route_to_each_other(void)
{
	struct frame frame;
	uint8_t mac[6];

	CU_ASSERT_TRUE(vm_resolve(&stranger, ip4(OTHER_GATEWAY), mac));
	say_and_be_heard(stranger.ip, 7, "through the host");
	CU_ASSERT_TRUE(vm_resolve(&stranger, ip4(OTHER_GATEWAY), mac));
	while (vm_recv(&stranger, &frame, 0))
		CU_ASSERT_FALSE(frame_is_udp(&frame, "through the host"));
}

/* Sends a frame in a tunnel datagram to host 1 from where the thread is. */
static void inject(const struct frame *frame, uint32_t vni)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_addr = embed_address(1), .sin_port = htons(TUNNEL_PORT),
	};
	uint8_t datagram[VXLAN_HEADER_BYTES + FRAME_MAX_BYTES] = { 0x08 };
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	datagram[4] = (uint8_t)(vni >> 16);
	datagram[5] = (uint8_t)(vni >> 8);
	datagram[6] = (uint8_t)vni;
	memcpy(datagram + VXLAN_HEADER_BYTES, frame->bytes, frame->len);
	CU_ASSERT_TRUE(sendto(fd, datagram, VXLAN_HEADER_BYTES + frame->len, 0,
			      (struct sockaddr *)&to, sizeof(to)) > 0);
}

static void a_tunnel_hears_peers_only(void)
{
	struct vm ghost = sibling;
	struct frame frame;

	ghost.ip = ip4("10.71.0.50");
	vnet_mac(VNI, 50, ghost.mac);
	frame_udp(&frame, &ghost, guest.mac, guest.ip, 7, "from a stranger", 0, false);
	CU_ASSERT_TRUE_FATAL(world_enter(3));
	inject(&frame, VNI);
	CU_ASSERT_TRUE(vm_say(&sibling, &guest, "from a friend"));
	CU_ASSERT_TRUE(vm_hears(&guest, "from a friend", "from a stranger"));
	/* The same from a peer's address does come through: the datagram itself was right. */
	frame_udp(&frame, &ghost, guest.mac, guest.ip, 7, "from a peer", 0, false);
	CU_ASSERT_TRUE_FATAL(world_enter(2));
	inject(&frame, VNI);
	CU_ASSERT_TRUE(vm_hears(&guest, "from a peer", NULL));
}

static void a_peer_cannot_play_the_gateway(void)
{
	struct vm fake = { .fd = -1, .ip = sibling.ip };
	struct frame frame;

	vnet_mac(VNI, 0xffff, fake.mac);
	CU_ASSERT_TRUE_FATAL(world_enter(2));
	frame_udp(&frame, &fake, guest.mac, guest.ip, 7, "gateway MAC", 0, false);
	inject(&frame, VNI);
	memcpy(fake.mac, sibling.mac, 6);
	fake.ip = ip4(GATEWAY);
	frame_udp(&frame, &fake, guest.mac, guest.ip, 7, "gateway address", 0, false);
	inject(&frame, VNI);
	frame_arp_request(&frame, &fake, guest.ip);
	inject(&frame, VNI);
	CU_ASSERT_TRUE(vm_say(&sibling, &guest, "real"));
	while (vm_recv(&guest, &frame, 2000) && !frame_is_udp(&frame, "real")) {
		CU_ASSERT_FALSE(frame_is_udp(&frame, "gateway"));
		CU_ASSERT_FALSE(frame_is_arp(&frame, ARP_REQUEST, fake.ip) &&
				!memcmp(frame.bytes + 6, fake.mac, 6));
	}
	CU_ASSERT_TRUE(frame_is_udp(&frame, "real"));
}

static void a_peer_cannot_use_our_gateway(void)
{
	_cleanup_fd_ int wire = -1;
	struct frame frame;

	CU_ASSERT_TRUE_FATAL(world_enter(0));
	wire = world_udp(SERVICE + 1);
	CU_ASSERT_TRUE_FATAL(world_enter(2));
	frame_udp(&frame, &sibling, gateway, embed_address(254), SERVICE + 1, "route me", 0, false);
	inject(&frame, VNI);
	say_and_be_heard(embed_address(254), SERVICE + 2, "after it");
	CU_ASSERT_TRUE(heard_nothing(wire));
}

/* A packet socket on the host's uplink, and the uplink's MAC. Return: descriptor or -1. */
static int open_uplink(uint8_t mac[6])
{
	_cleanup_fd_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "eth0" };
	struct sockaddr_ll link = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0"),
	};

	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) < 0 ||
	    bind(fd, (struct sockaddr *)&link, sizeof(link)) < 0)
		return -1;
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	return steal_fd(&fd);
}

/* Turning IP forwarding on for segments must not make a router of the host. */
static void a_host_forwards_for_segments_only(void)
{
	_cleanup_fd_ int wire = -1, uplink = -1, own = -1;
	struct vm outsider = { .fd = -1, .ip = embed_address(3) };
	struct frame frame;
	uint8_t router[6];

	CU_ASSERT_TRUE_FATAL(world_enter(0));
	wire = world_udp(SERVICE + 1);
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	own = open_uplink(router);
	CU_ASSERT_TRUE_FATAL(world_enter(3));
	uplink = open_uplink(outsider.mac);
	CU_ASSERT_TRUE_FATAL(own >= 0 && uplink >= 0);
	frame_udp(&frame, &outsider, router, embed_address(254), SERVICE + 1, "forward me", 0,
		  false);
	CU_ASSERT_EQUAL(send(uplink, frame.bytes, frame.len, 0), (ssize_t)frame.len);
	say_and_be_heard(embed_address(254), SERVICE + 2, "after it");
	CU_ASSERT_TRUE(heard_nothing(wire));
}

/* Frames of a segment are not for the hosts' own IPv6. */
static void no_interface_of_a_segment_has_ipv6(void)
{
	static const char *const interfaces[] = { "sfb000015", "sfx000015", "sft000015-0" };

	CU_ASSERT_TRUE_FATAL(world_enter(1));
	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++)
		CU_ASSERT_TRUE(world_ipv6_is_off(interfaces[i]));
}

/* Turns IPv6 on in hosts 1 and 3, as a careless operator would, and gives them addresses. */
static bool turn_on_ipv6(void)
{
	const struct in6_addr host = ip6(HOST6), other = ip6(OTHER_HOST6);
	struct in6_addr link_local;

	vnet_link_local(gateway, &link_local);
	return world_enter(3) && world_turn_on_ipv6("eth0", &other) && world_enter(1) &&
	       world_turn_on_ipv6("eth0", &host) && world_turn_on_ipv6("sfb000015", &link_local) &&
	       !netif_set_sysctl(1, "ipv6/conf/all/forwarding");
}

/* What can be tried on the gateway by IPv6; none of it may be answered, or heard by the service. */
static void try_the_gateway(int service)
{
	const struct in6_addr host = ip6(HOST6);
	struct to6 to = { .mac = { 0 } };
	struct frame frame;

	memcpy(to.mac, gateway, sizeof(to.mac));
	vnet_link_local(gateway, &to.ip);
	frame_udp6(&frame, &guest, &to, SERVICE, "to the gateway");
	send_and_be_heard(&frame);
	frame_neighbour(&frame, &guest, &to, ND_NEIGHBOR_SOLICIT, &to.ip, guest.mac);
	send_and_be_heard(&frame);
	frame_ping6(&frame, &guest, &to);
	send_and_be_heard(&frame);
	to.ip = host;
	frame_udp6(&frame, &guest, &to, SERVICE, "to the host");
	send_and_be_heard(&frame);
	frame_neighbour(&frame, &guest, &everyone6, ND_NEIGHBOR_SOLICIT, &host, guest.mac);
	send_and_be_heard(&frame);
	CU_ASSERT_TRUE(heard_nothing(service));
	while (vm_recv(&guest, &frame, 0)) {
		CU_ASSERT_FALSE(frame_is_icmp6(&frame, ND_NEIGHBOR_ADVERT));
		CU_ASSERT_FALSE(frame_is_icmp6(&frame, ICMP6_ECHO_REPLY));
	}
}

/* The rules hold by themselves, should somebody turn on what the segment turned off. */
static void the_host_is_closed_to_ipv6(void)
{
	_cleanup_fd_ int service = -1;

	if (!world_has_ipv6())
		return;
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	service = world_udp6(SERVICE);
	try_the_gateway(service);
	CU_ASSERT_TRUE_FATAL(turn_on_ipv6());
	try_the_gateway(service);
}

static void no_ipv6_leaves_a_segment(void)
{
	struct sockaddr_in6 to = {
		.sin6_family = AF_INET6, .sin6_addr = ip6(OTHER_HOST6),
		.sin6_port = htons(SERVICE),
	};
	_cleanup_fd_ int there6 = -1, here6 = -1;
	struct to6 away = { .ip = to.sin6_addr };
	struct frame frame;
	char byte;

	if (!world_has_ipv6())
		return;
	CU_ASSERT_TRUE_FATAL(turn_on_ipv6());
	here6 = world_udp6(0);
	CU_ASSERT_TRUE_FATAL(world_enter(3));
	there6 = world_udp6(SERVICE);
	/* The host itself gets there; so would the guest, if it were let. */
	CU_ASSERT_EQUAL(sendto(here6, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	CU_ASSERT_EQUAL(recv(there6, &byte, 1, 0), 1);
	memcpy(away.mac, gateway, sizeof(away.mac));
	frame_udp6(&frame, &guest, &away, SERVICE, "to the outside");
	send_and_be_heard(&frame);
	CU_ASSERT_TRUE(heard_nothing(there6));
}

static bool build(void)
{
	here = world_segment(1, HOSTS, VNI, BASE, GATEWAY);
	there = world_segment(2, HOSTS, VNI, BASE, GATEWAY);
	other_here = world_segment(1, HOSTS, OTHER_VNI, OTHER_BASE, OTHER_GATEWAY);
	return world_port(here, 1, VNI, BASE, 0, &guest) &&
	       world_port(there, 2, VNI, BASE, 1, &sibling) &&
	       world_port(other_here, 1, OTHER_VNI, OTHER_BASE, 0, &stranger) &&
	       vm_resolve(&guest, ip4(GATEWAY), gateway);
}

int main(void)
{
	static const struct world_test tests[] = {
		{ "the gateway answers a ping", the_gateway_answers_a_ping },
		{ "the host itself is closed", the_host_itself_is_closed },
		{ "other addresses of the host are not told",
		  other_addresses_of_the_host_are_not_told },
		{ "other hosts of the cluster are closed", other_hosts_of_the_cluster_are_closed },
		{ "no guest speaks to a tunnel", no_guest_speaks_to_a_tunnel },
		{ "segments do not route to each other", segments_do_not_route_to_each_other },
		{ "a tunnel hears peers only", a_tunnel_hears_peers_only },
		{ "a peer cannot play the gateway", a_peer_cannot_play_the_gateway },
		{ "a peer cannot use our gateway", a_peer_cannot_use_our_gateway },
		{ "a host forwards for segments only", a_host_forwards_for_segments_only },
		{ "no interface of a segment has IPv6", no_interface_of_a_segment_has_ipv6 },
		{ "the host is closed to IPv6", the_host_is_closed_to_ipv6 },
		{ "no IPv6 leaves a segment", no_ipv6_leaves_a_segment },
	};
	pid_t router;
	int result = 1;

	world_start();
	world_cluster(HOSTS + 1, &router);
	if (build())
		result = world_run("guard", tests, ARRAY_SIZE(tests));
	world_enter(1);
	vnet_segment_destroy(here);
	vnet_segment_destroy(other_here);
	world_enter(2);
	vnet_segment_destroy(there);
	world_end();
	return result;
}
