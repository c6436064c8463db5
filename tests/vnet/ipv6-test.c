/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPv6 on a segment across two hosts: a port lets in its own two addresses, and of neighbour
 * discovery what is true of them.
 */
#include <CUnit/CUnit.h>
#include <netinet/icmp6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vnet/embed.h"
#include "host/vnet/vnet.h"
#include "tests/vnet/frames.h"
#include "tests/vnet/frames6.h"
#include "tests/vnet/kernel.h"
#include "tests/vnet/world.h"

#define HOSTS 2
#define VNI 0x31c6a7
#define BASE "10.66.0.1"
#define GATEWAY "10.66.0.254"
#define MLD2_REPORT 143
#define ADVERTISED ND_NEIGHBOR_ADVERT
#define SOLICITED ND_NEIGHBOR_SOLICIT

static struct vnet_segment *here, *there;
static struct vm guest = { .fd = -1 }, near = { .fd = -1 }, far = { .fd = -1 };

/* True if the frame comes to the VM before the text does that was sent after it. */
static bool comes_to(const struct vm *vm, const struct frame *awaited, const char *end)
{
	struct frame frame;
	bool came = false;

	while (vm_recv(vm, &frame, 2000)) {
		came |= frame_same(&frame, awaited);
		if (frame_is_udp(&frame, end))
			return came;
	}
	CU_FAIL("the frame after it did not come");
	return came;
}

/* Sends a frame from the guest. Return: true if both others get it, false if neither does. */
static bool passes(const struct frame *frame)
{
	bool to_near, to_far;

	CU_ASSERT_TRUE(vm_send(&guest, frame));
	CU_ASSERT_TRUE(vm_say(&guest, &near, "near end"));
	CU_ASSERT_TRUE(vm_say(&guest, &far, "far end"));
	to_near = comes_to(&near, frame, "near end");
	to_far = comes_to(&far, frame, "far end");
	CU_ASSERT_EQUAL(to_near, to_far);
	return to_near || to_far;
}

/* The guest under another address. */
static struct vm guest_as(const struct in6_addr *address)
{
	struct vm liar = guest;

	liar.ip6 = *address;
	return liar;
}

static bool neighbour_passes(const struct vm *from, uint8_t type, const struct in6_addr *target,
			     const uint8_t *mac)
{
	struct frame frame;

	frame_neighbour(&frame, from, &everyone6, type, target, mac);
	return passes(&frame);
}

static void two_kernels_find_each_other(void)
{
	struct kernel one, other;

	if (!world_has_ipv6())
		return;
	CU_ASSERT_TRUE_FATAL(kernel_start(&one, &guest));
	CU_ASSERT_TRUE_FATAL(kernel_start(&other, &far));
	CU_ASSERT_TRUE(kernel_say(&one, &other, &far.ip6, 100));
	CU_ASSERT_TRUE(kernel_say(&other, &one, &guest.ip6, 3000));
	CU_ASSERT_TRUE(kernel_say(&other, &one, &guest.link_local, 100));
	CU_ASSERT_TRUE(kernel_say(&one, &other, &far.link_local, 3000));
	kernel_stop(&one);
	kernel_stop(&other);
}

static void both_addresses_pass(void)
{
	const struct vm as[] = { guest, guest_as(&guest.link_local) };
	static const uint8_t second[7] = { 0, 5, 0xa8, 0, 0, 0, 1 };
	struct frame frame;

	for (size_t i = 0; i < ARRAY_SIZE(as); i++) {
		frame_udp6(&frame, &as[i], &everyone6, 7, "hello");
		CU_ASSERT_TRUE(passes(&frame));
		frame_ping6(&frame, &as[i], &everyone6);
		CU_ASSERT_TRUE(passes(&frame));
		frame_insert_header(&frame, IPPROTO_FRAGMENT, second);
		CU_ASSERT_TRUE(passes(&frame));
		frame_icmp6(&frame, &as[i], &everyone6, ICMP6_ECHO_REPLY, "\0\x4d\0\x01", 4);
		CU_ASSERT_TRUE(passes(&frame));
		frame_icmp6(&frame, &as[i], &everyone6, ICMP6_PACKET_TOO_BIG, "\0\0\x05\0", 4);
		CU_ASSERT_TRUE(passes(&frame));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], SOLICITED, &far.ip6, guest.mac));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], SOLICITED, &far.ip6, NULL));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], ADVERTISED, &guest.ip6, guest.mac));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], ADVERTISED, &guest.ip6, NULL));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], ADVERTISED, &guest.link_local, guest.mac));
		CU_ASSERT_TRUE(neighbour_passes(&as[i], ADVERTISED, &guest.link_local, NULL));
	}
}

static void other_sources_are_dropped(void)
{
	struct in6_addr of_another_segment, nobody = ip6("fd53:f1ac:31c6:a700::4d"), none = ip6("::");
	const struct in6_addr *const others[] = { &near.ip6, &near.link_local, &none, &nobody,
						  &of_another_segment };
	struct frame frame;
	unsigned before;

	vnet_address6(VNI + 1, 0, &of_another_segment);
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct vm liar = guest_as(others[i]);

		before = world_refused(VNI, 0);
		frame_udp6(&frame, &liar, &everyone6, 7, "wrong source");
		CU_ASSERT_FALSE(passes(&frame));
		frame_ping6(&frame, &liar, &everyone6);
		CU_ASSERT_FALSE(passes(&frame));
		CU_ASSERT_FALSE(neighbour_passes(&liar, SOLICITED, &far.ip6, guest.mac));
		CU_ASSERT_FALSE(neighbour_passes(&liar, SOLICITED, &guest.ip6, NULL));
		CU_ASSERT_FALSE(neighbour_passes(&liar, ADVERTISED, &guest.ip6, guest.mac));
		CU_ASSERT_EQUAL(world_refused(VNI, 0), before + 5);
	}
}

static void a_wrong_mac_is_dropped(void)
{
	struct vm liar = guest;
	struct frame frame;

	memcpy(liar.mac, near.mac, sizeof(liar.mac));
	frame_udp6(&frame, &liar, &everyone6, 7, "wrong MAC");
	CU_ASSERT_FALSE(passes(&frame));
	CU_ASSERT_FALSE(neighbour_passes(&liar, ADVERTISED, &guest.ip6, guest.mac));
}

/* An advertisement, or a solicitation's option, is what neighbours remember. */
static void neighbours_are_not_deceived(void)
{
	const struct in6_addr *const theirs[] = { &near.ip6, &near.link_local, &far.ip6 };

	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
		CU_ASSERT_FALSE(neighbour_passes(&guest, ADVERTISED, theirs[i], guest.mac));
		CU_ASSERT_FALSE(neighbour_passes(&guest, ADVERTISED, theirs[i], NULL));
	}
	CU_ASSERT_FALSE(neighbour_passes(&guest, ADVERTISED, &guest.ip6, near.mac));
	CU_ASSERT_FALSE(neighbour_passes(&guest, SOLICITED, &far.ip6, near.mac));
}

static void nothing_hides_behind_what_is_unusual(void)
{
	static const uint8_t padding[7] = { 0, 1, 4 }, first[7] = { 0, 0, 1, 0, 0, 0, 1 };
	uint8_t body[20 + 2 * 8] = { 0 };
	struct frame frame;

	frame_neighbour(&frame, &guest, &everyone6, ADVERTISED, &near.ip6, guest.mac);
	frame_insert_header(&frame, IPPROTO_DSTOPTS, padding);
	CU_ASSERT_FALSE(passes(&frame));
	frame_neighbour(&frame, &guest, &everyone6, ADVERTISED, &near.ip6, guest.mac);
	frame_insert_header(&frame, IPPROTO_FRAGMENT, first);
	CU_ASSERT_FALSE(passes(&frame));
	/* Two options, of which the second is a lie. */
	memcpy(body + 4, &guest.ip6, 16);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *option = body + 20 + 8 * i;

		option[0] = ND_OPT_TARGET_LINKADDR;
		option[1] = 1;
		memcpy(option + 2, i ? near.mac : guest.mac, 6);
	}
	frame_icmp6(&frame, &guest, &everyone6, ADVERTISED, body, sizeof(body));
	CU_ASSERT_FALSE(passes(&frame));
}

static void a_guest_is_no_router(void)
{
	const struct vm as[] = { guest, guest_as(&guest.link_local) };
	static const uint8_t hop_by_hop[7] = { 0, 5, 2, 0, 0, 1 };
	static const uint8_t types[] = { ND_ROUTER_ADVERT, ND_REDIRECT, ND_ROUTER_SOLICIT };
	uint8_t body[36] = { 64, 0, 0x07, 0x08 };
	struct frame frame;

	for (size_t i = 0; i < ARRAY_SIZE(as) * ARRAY_SIZE(types); i++) {
		frame_icmp6(&frame, &as[i % 2], &everyone6, types[i / 2], body, sizeof(body));
		CU_ASSERT_FALSE(passes(&frame));
		frame_insert_header(&frame, IPPROTO_HOPOPTS, hop_by_hop);
		CU_ASSERT_FALSE(passes(&frame));
	}
}

/* Every kernel sends these when it gets an address; it is no sign of a guest that does wrong. */
static void reports_of_groups_are_dropped_silently(void)
{
	const struct in6_addr none = ip6("::");
	const struct vm as[] = { guest_as(&none), guest_as(&guest.link_local) };
	static const uint8_t hop_by_hop[7] = { 0, 5, 2, 0, 0, 1 };
	static const uint8_t types[] = { MLD_LISTENER_REPORT, MLD2_REPORT, MLD_LISTENER_REDUCTION };
	unsigned before;
	struct frame frame;

	CU_ASSERT_TRUE_FATAL(world_enter(1));
	before = world_refused(VNI, 0);
	for (size_t i = 0; i < ARRAY_SIZE(as) * ARRAY_SIZE(types); i++) {
		frame_icmp6(&frame, &as[i % 2], &everyone6, types[i / 2], (uint8_t[20]){ 0 }, 20);
		frame_insert_header(&frame, IPPROTO_HOPOPTS, hop_by_hop);
		CU_ASSERT_FALSE(passes(&frame));
	}
	CU_ASSERT_EQUAL(world_refused(VNI, 0), before);
}

static bool build(void)
{
	here = world_segment(1, HOSTS, VNI, BASE, GATEWAY);
	there = world_segment(2, HOSTS, VNI, BASE, GATEWAY);
	return world_port(here, 1, VNI, BASE, 0, &guest) &&
	       world_port(here, 1, VNI, BASE, 1, &near) &&
	       world_port(there, 2, VNI, BASE, 2, &far);
}

int main(void)
{
	static const struct world_test tests[] = {
		{ "two kernels find each other", two_kernels_find_each_other },
		{ "both addresses pass", both_addresses_pass },
		{ "other sources are dropped", other_sources_are_dropped },
		{ "a wrong MAC is dropped", a_wrong_mac_is_dropped },
		{ "neighbours are not deceived", neighbours_are_not_deceived },
		{ "nothing hides behind what is unusual", nothing_hides_behind_what_is_unusual },
		{ "a guest is no router", a_guest_is_no_router },
		{ "reports of groups are dropped silently", reports_of_groups_are_dropped_silently },
	};
	pid_t router;
	int result = 1;

	world_start();
	world_cluster(HOSTS, &router);
	if (build())
		result = world_run("ipv6", tests, ARRAY_SIZE(tests));
	world_enter(1);
	vnet_segment_destroy(here);
	world_enter(2);
	vnet_segment_destroy(there);
	world_end();
	return result;
}
