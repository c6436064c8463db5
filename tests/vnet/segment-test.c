/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A segment across two hosts, with another one beside it: who hears what.
 *
 * That a frame does not come is shown by one that was sent after it and did come.
 */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vnet/embed.h"
#include "host/vnet/vnet.h"
#include "tests/vnet/frames.h"
#include "tests/vnet/world.h"

#define HOSTS 2
#define VNI 0xa1b2c3
#define BASE "10.61.0.1"
#define GATEWAY "10.61.0.254"
#define OTHER_VNI 7
#define OTHER_BASE "10.62.0.1"
#define OTHER_GATEWAY "10.62.0.254"

static struct vnet_segment *here, *there, *other_here, *other_there;
static struct vm parent = { .fd = -1 }, sibling = { .fd = -1 }, clone = { .fd = -1 };
static struct vm stranger = { .fd = -1 }, far_stranger = { .fd = -1 };

static void frames_pass_between_hosts(void)
{
	uint8_t mac[6];

	CU_ASSERT_TRUE(vm_say(&parent, &clone, "hello"));
	CU_ASSERT_TRUE(vm_hears(&clone, "hello", NULL));
	CU_ASSERT_TRUE(vm_say(&clone, &parent, "answer"));
	CU_ASSERT_TRUE(vm_hears(&parent, "answer", NULL));
	CU_ASSERT_TRUE(vm_say(&parent, &sibling, "near"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "near", NULL));
	CU_ASSERT_FALSE(vm_resolve(&parent, ip4("10.61.0.99"), mac));
}

/* Sends a frame that must not pass and one that must, and looks at who hears them. */
static void expect_dropped(const struct frame *bad, const char *text)
{
	CU_ASSERT_TRUE(vm_send(&parent, bad));
	CU_ASSERT_TRUE(vm_say(&parent, &clone, "after it"));
	CU_ASSERT_TRUE(vm_hears(&clone, "after it", text));
	CU_ASSERT_TRUE(vm_say(&parent, &sibling, "after it"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "after it", text));
}

static void a_wrong_mac_is_dropped(void)
{
	struct vm liar = parent;
	struct frame frame;

	memcpy(liar.mac, clone.mac, 6);
	frame_udp(&frame, &liar, clone.mac, clone.ip, 7, "wrong MAC", 0, false);
	expect_dropped(&frame, "wrong MAC");
	/* Frames that bridges keep to themselves do not teach them a wrong MAC either. */
	memcpy(frame.bytes, (uint8_t[]){ 0x01, 0x80, 0xc2, 0, 0, 0x0e }, 6);
	expect_dropped(&frame, "wrong MAC");
	CU_ASSERT_TRUE(vm_say(&sibling, &clone, "still there"));
	CU_ASSERT_TRUE(vm_hears(&clone, "still there", NULL));
}

static void a_wrong_address_is_dropped(void)
{
	struct vm liar = parent;
	struct frame frame;

	liar.ip = clone.ip;
	frame_udp(&frame, &liar, sibling.mac, sibling.ip, 7, "wrong IP", 0, false);
	expect_dropped(&frame, "wrong IP");
	liar.ip = ip4("0.0.0.0");
	frame_udp(&frame, &liar, clone.mac, ip4("255.255.255.255"), 67, "DHCP", 0, false);
	expect_dropped(&frame, "DHCP");
	frame_udp(&frame, &parent, clone.mac, clone.ip, 7, "IPv6", 0, false);
	frame.bytes[12] = 0x86;
	frame.bytes[13] = 0xdd;
	frame.bytes[14] = 0x60;
	CU_ASSERT_TRUE(vm_send(&parent, &frame));
}

/* Sends an ARP frame. Return: true if the clone sees it before a frame that was sent after it. */
static bool clone_sees_arp(const struct frame *arp, struct in_addr sender)
{
	struct frame frame;
	bool seen = false;

	CU_ASSERT_TRUE(vm_send(&parent, arp));
	CU_ASSERT_TRUE(vm_say(&parent, &clone, "after the ARP"));
	while (vm_recv(&clone, &frame, 2000)) {
		seen |= frame_is_arp(&frame, ARP_REQUEST, sender);
		if (frame_is_udp(&frame, "after the ARP"))
			return seen;
	}
	CU_FAIL("the frame after the ARP did not come");
	return seen;
}

static void arp_spoofing_is_dropped(void)
{
	struct vm liar = parent;
	struct frame frame;

	frame_arp_request(&frame, &parent, clone.ip);
	CU_ASSERT_TRUE(clone_sees_arp(&frame, parent.ip));
	liar.ip = sibling.ip;
	frame_arp_request(&frame, &liar, clone.ip);
	CU_ASSERT_FALSE(clone_sees_arp(&frame, sibling.ip));
	liar = parent;
	memcpy(liar.mac, sibling.mac, 6);
	frame_arp_request(&frame, &liar, clone.ip);
	memcpy(frame.bytes + 6, parent.mac, 6);
	CU_ASSERT_FALSE(clone_sees_arp(&frame, parent.ip));
	liar = parent;
	liar.ip = ip4(GATEWAY);
	frame_arp_request(&frame, &liar, clone.ip);
	CU_ASSERT_FALSE(clone_sees_arp(&frame, liar.ip));
}

static void another_segment_hears_nothing(void)
{
	struct vm wrong = clone;
	struct frame frame;

	frame_arp_request(&frame, &parent, ip4("10.61.0.77"));
	CU_ASSERT_TRUE(vm_send(&parent, &frame));
	wrong.ip = stranger.ip;
	memset(wrong.mac, 0xff, 6);
	CU_ASSERT_TRUE(vm_say(&parent, &wrong, "to everyone"));
	CU_ASSERT_TRUE(vm_hears(&clone, "to everyone", NULL));
	CU_ASSERT_TRUE(vm_say(&stranger, &far_stranger, "among us"));
	CU_ASSERT_TRUE(vm_recv(&far_stranger, &frame, 2000));
	CU_ASSERT_TRUE(frame_is_udp(&frame, "among us"));
	CU_ASSERT_TRUE(vm_say(&far_stranger, &stranger, "only us"));
	CU_ASSERT_TRUE(vm_recv(&stranger, &frame, 2000));
	CU_ASSERT_TRUE(frame_is_udp(&frame, "only us"));
}

static void each_gateway_answers_at_home_only(void)
{
	uint8_t mac[6], expected[6];
	struct frame frame;

	vnet_mac(VNI, 0xffff, expected);
	CU_ASSERT_TRUE(vm_resolve(&clone, ip4(GATEWAY), mac));
	CU_ASSERT_EQUAL(memcmp(mac, expected, 6), 0);
	CU_ASSERT_TRUE(vm_resolve(&parent, ip4(GATEWAY), mac));
	CU_ASSERT_EQUAL(memcmp(mac, expected, 6), 0);
	/* One answer, not one from each host; and the other host saw no question. */
	CU_ASSERT_TRUE(vm_say(&clone, &parent, "after the answer"));
	while (vm_recv(&parent, &frame, 2000) && !frame_is_udp(&frame, "after the answer"))
		CU_ASSERT_FALSE(frame_is_arp(&frame, ARP_REPLY, ip4(GATEWAY)));
	frame_arp_request(&frame, &parent, ip4(GATEWAY));
	CU_ASSERT_FALSE(clone_sees_arp(&frame, parent.ip));
	CU_ASSERT_TRUE(vm_resolve(&parent, ip4(GATEWAY), mac));
}

/* Says something to `to`:port, and looks for what the server there hears and the VM gets back. */
static void ask_outside(const struct vm *vm, int server, struct in_addr to, uint16_t port,
			struct in_addr seen_as)
{
	struct timeval limit = { .tv_sec = 2 };
	struct sockaddr_in from = { 0 };
	socklen_t len = sizeof(from);
	uint8_t gateway[6];
	struct frame frame;
	char text[32] = "";

	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	CU_ASSERT_TRUE_FATAL(vm_resolve(vm, ip4(GATEWAY), gateway));
	frame_udp(&frame, vm, gateway, to, port, "question", 0, false);
	CU_ASSERT_TRUE(vm_send(vm, &frame));
	CU_ASSERT_TRUE(recvfrom(server, text, sizeof(text), 0, (struct sockaddr *)&from, &len) > 0);
	CU_ASSERT_STRING_EQUAL(text, "question");
	CU_ASSERT_EQUAL(from.sin_addr.s_addr, seen_as.s_addr);
	CU_ASSERT_TRUE(sendto(server, "reply", 6, 0, (struct sockaddr *)&from, len) == 6);
	CU_ASSERT_TRUE(vm_hears(vm, "reply", NULL));
}

static void nat_reaches_the_wire(void)
{
	_cleanup_fd_ int server = -1;

	CU_ASSERT_TRUE_FATAL(world_enter(0));
	server = world_udp(4242);
	ask_outside(&parent, server, embed_address(254), 4242, embed_address(1));
	ask_outside(&clone, server, embed_address(254), 4242, embed_address(2));
	world_leave();
}

static void nat_reaches_the_outside(void)
{
	_cleanup_fd_ int server = -1;

	world_leave();
	server = world_udp(4343);
	ask_outside(&clone, server, ip4(WORLD_MACHINE), 4343, ip4(WORLD_MACHINE));
}

static void a_removed_peer_is_cut_off(void)
{
	CU_ASSERT_EQUAL(vnet_peer_remove(there, embed_address(1)), 0);
	CU_ASSERT_TRUE(vm_say(&parent, &clone, "to a stranger"));
	CU_ASSERT_TRUE(vm_say(&clone, &parent, "from a stranger"));
	CU_ASSERT_EQUAL(vnet_peer_remove(there, embed_address(1)), 0);
	CU_ASSERT_EQUAL(vnet_peer_add(there, embed_address(1)), 0);
	CU_ASSERT_EQUAL(vnet_peer_add(there, embed_address(1)), 0);
	CU_ASSERT_TRUE(vm_say(&parent, &clone, "to a friend"));
	CU_ASSERT_TRUE(vm_hears(&clone, "to a friend", "to a stranger"));
	CU_ASSERT_TRUE(vm_say(&clone, &parent, "from a friend"));
	CU_ASSERT_TRUE(vm_hears(&parent, "from a friend", "from a stranger"));
	CU_ASSERT_EQUAL(vnet_peer_add(there, embed_address(2)), -EINVAL);
}

static void a_closed_port_lets_nothing_in(void)
{
	struct vm held = { .fd = -1 }, again = { .fd = -1 };
	char why[256] = "";
	int fd;

	CU_ASSERT_TRUE_FATAL(world_port(here, 1, VNI, BASE, 9, &held));
	CU_ASSERT_EQUAL(vnet_port_open(here, 9, &fd, why, sizeof(why)), -EEXIST);
	CU_ASSERT_TRUE(vm_say(&held, &sibling, "open"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "open", NULL));
	vnet_port_close(here, 9);
	vm_say(&held, &sibling, "closed");
	CU_ASSERT_TRUE(vm_say(&parent, &sibling, "after closing"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "after closing", "closed"));
	/* The tap is still in someone's hands; the next owner of the ID gets a new one. */
	CU_ASSERT_TRUE_FATAL(world_port(here, 1, VNI, BASE, 9, &again));
	CU_ASSERT_FALSE(vm_say(&held, &sibling, "a ghost"));
	CU_ASSERT_TRUE(vm_say(&again, &sibling, "reborn"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "reborn", "a ghost"));
	close(held.fd);
	vnet_port_close(here, 9);
	vnet_port_close(here, 9);
	close(again.fd);
	CU_ASSERT_EQUAL(world_interfaces("sfta1b2c3-9"), 0);
	CU_ASSERT_TRUE_FATAL(world_port(here, 1, VNI, BASE, 9, &again));
	CU_ASSERT_TRUE(vm_say(&again, &sibling, "third life"));
	CU_ASSERT_TRUE(vm_hears(&sibling, "third life", NULL));
	vnet_port_close(here, 9);
	close(again.fd);
}

static void ports_are_quick(void)
{
	struct vm vms[32];
	uint64_t start_ns = io_now_ns(), each_ns;

	for (unsigned i = 0; i < ARRAY_SIZE(vms); i++)
		CU_ASSERT_TRUE_FATAL(world_port(here, 1, VNI, BASE, 100 + i, &vms[i]));
	each_ns = (io_now_ns() - start_ns) / ARRAY_SIZE(vms);
	printf("(a port opens in %.1f ms, ", (double)each_ns / 1e6);
	CU_ASSERT_TRUE(vm_say(&vms[31], &clone, "the last of them"));
	CU_ASSERT_TRUE(vm_hears(&clone, "the last of them", NULL));
	start_ns = io_now_ns();
	for (unsigned i = 0; i < ARRAY_SIZE(vms); i++)
		vnet_port_close(here, 100 + i);
	each_ns = (io_now_ns() - start_ns) / ARRAY_SIZE(vms);
	printf("shuts in %.1f ms) ", (double)each_ns / 1e6);
	for (unsigned i = 0; i < ARRAY_SIZE(vms); i++)
		close(vms[i].fd);
}

static void what_is_there_or_cannot_be_is_refused(void)
{
	struct vnet_config config = {
		.vni = VNI, .base = ip4("10.63.0.1"), .prefix = 24, .gateway = ip4("10.63.0.254"),
		.underlay = embed_address(1), .port = 4789,
	};
	struct vnet_segment *none = NULL;
	char why[256] = "";
	int fd;

	CU_ASSERT_TRUE_FATAL(world_enter(1));
#define TRY(result) \
	CU_ASSERT_EQUAL(vnet_segment_create(&config, &none, why, sizeof(why)), result); \
	CU_ASSERT_NOT_EQUAL(why[0], '\0');
	TRY(-EEXIST);
	config.vni = 0x1000000;
	TRY(-EINVAL);
	config.vni = 99;
	config.prefix = 31;
	TRY(-EINVAL);
	config.prefix = 24;
	config.gateway = ip4("10.64.0.1");
	TRY(-EINVAL);
	config.gateway = ip4("10.63.0.254");
	config.port = 0;
	TRY(-EINVAL);
	config.port = 4789;
	config.underlay = embed_address(2);
	TRY(-EADDRNOTAVAIL);
	config.underlay = embed_address(1);
	config.base = ip4("10.61.0.129");
	config.gateway = ip4("10.61.0.130");
	TRY(-EADDRINUSE);
#undef TRY
	CU_ASSERT_EQUAL(world_interfaces("sfb"), 2);
	CU_ASSERT_EQUAL(vnet_port_open(here, 253, &fd, why, sizeof(why)), -EINVAL);
	CU_ASSERT_EQUAL(vnet_port_open(here, 254, &fd, why, sizeof(why)), -EINVAL);
	CU_ASSERT_EQUAL(vnet_port_open(here, 0xffff, &fd, why, sizeof(why)), -EINVAL);
	CU_ASSERT_EQUAL(vnet_port_open(here, ~0u, &fd, why, sizeof(why)), -EINVAL);
}

/* '0' or '1' from the namespace the thread is in. */
static char forwarding(void)
{
	_cleanup_fd_ int fd = open("/proc/sys/net/ipv4/ip_forward", O_RDONLY | O_CLOEXEC);
	char digit = '?';

	CU_ASSERT_EQUAL(io_read_full(fd, &digit, 1), 0);
	return digit;
}

static void nothing_is_left(void)
{
	unsigned removed;

	vnet_segment_destroy(NULL);
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	CU_ASSERT_EQUAL(forwarding(), '1');
	vnet_segment_destroy(here);
	CU_ASSERT_EQUAL(forwarding(), '1');
	CU_ASSERT_TRUE(world_interfaces("sf") > 0);
	vnet_segment_destroy(other_here);
	CU_ASSERT_EQUAL(forwarding(), '0');
	CU_ASSERT_EQUAL(world_interfaces("sf"), 0);
	CU_ASSERT_TRUE(world_no_tables());
	CU_ASSERT_TRUE_FATAL(world_enter(2));
	CU_ASSERT_EQUAL(vnet_clean(&removed), 0);
	CU_ASSERT_TRUE(removed >= 8);
	CU_ASSERT_EQUAL(forwarding(), '0');
	CU_ASSERT_EQUAL(world_interfaces("sf"), 0);
	CU_ASSERT_TRUE(world_no_tables());
	vnet_segment_destroy(there);
	vnet_segment_destroy(other_there);
	CU_ASSERT_EQUAL(vnet_clean(&removed), 0);
	CU_ASSERT_EQUAL(removed, 0);
	world_leave();
}

static bool build(void)
{
	here = world_segment(1, HOSTS, VNI, BASE, GATEWAY);
	there = world_segment(2, HOSTS, VNI, BASE, GATEWAY);
	other_here = world_segment(1, HOSTS, OTHER_VNI, OTHER_BASE, OTHER_GATEWAY);
	other_there = world_segment(2, HOSTS, OTHER_VNI, OTHER_BASE, OTHER_GATEWAY);
	return world_port(here, 1, VNI, BASE, 0, &parent) &&
	       world_port(here, 1, VNI, BASE, 1, &sibling) &&
	       world_port(there, 2, VNI, BASE, 2, &clone) &&
	       world_port(other_here, 1, OTHER_VNI, OTHER_BASE, 0, &stranger) &&
	       world_port(other_there, 2, OTHER_VNI, OTHER_BASE, 1, &far_stranger);
}

int main(void)
{
	static const struct world_test tests[] = {
		{ "frames pass between hosts", frames_pass_between_hosts },
		{ "a wrong MAC is dropped", a_wrong_mac_is_dropped },
		{ "a wrong address is dropped", a_wrong_address_is_dropped },
		{ "ARP spoofing is dropped", arp_spoofing_is_dropped },
		{ "another segment hears nothing", another_segment_hears_nothing },
		{ "each gateway answers at home only", each_gateway_answers_at_home_only },
		{ "NAT reaches the wire", nat_reaches_the_wire },
		{ "NAT reaches the outside", nat_reaches_the_outside },
		{ "a removed peer is cut off", a_removed_peer_is_cut_off },
		{ "a closed port lets nothing in", a_closed_port_lets_nothing_in },
		{ "ports are quick", ports_are_quick },
		{ "what is there or cannot be is refused", what_is_there_or_cannot_be_is_refused },
		{ "nothing is left", nothing_is_left },
	};
	pid_t router;
	int result = 1;

	world_start();
	world_cluster(HOSTS, &router);
	if (build())
		result = world_run("segment", tests, ARRAY_SIZE(tests));
	world_end();
	return result;
}
