/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's full frame travels whole on the embedded wire, and by fragments on a narrow one. */
#include <CUnit/CUnit.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vnet/embed.h"
#include "host/vnet/vnet.h"
#include "tests/vnet/frames.h"
#include "tests/vnet/world.h"

#define HOSTS 2
#define VNI 31
#define BASE "10.81.0.1"
#define GATEWAY "10.81.0.254"
#define FULL_BYTES 1500
#define NARROW_MTU_BYTES 1500
#define ROOM_BYTES (NARROW_MTU_BYTES - 50)

static struct vnet_segment *here, *there;
static struct vm parent = { .fd = -1 }, clone = { .fd = -1 };

static bool say_much(const char *text, size_t ip_bytes, bool dont_fragment)
{
	struct frame frame;

	frame_udp(&frame, &parent, clone.mac, clone.ip, 7, text, ip_bytes, dont_fragment);
	return vm_send(&parent, &frame);
}

static bool set_uplink_mtu(unsigned host, int mtu_bytes)
{
	struct ifreq request = { .ifr_name = "eth0", .ifr_mtu = mtu_bytes };
	_cleanup_fd_ int fd = -1;

	if (!world_enter(host))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return ioctl(fd, SIOCSIFMTU, &request) == 0;
}

static void a_full_frame_travels_whole(void)
{
	CU_ASSERT_TRUE(say_much("whole", FULL_BYTES, true));
	CU_ASSERT_TRUE(vm_hears(&clone, "whole", NULL));
}

static void on_a_narrow_wire_fragments_travel(void)
{
	CU_ASSERT_TRUE_FATAL(set_uplink_mtu(1, NARROW_MTU_BYTES));
	CU_ASSERT_TRUE_FATAL(set_uplink_mtu(2, NARROW_MTU_BYTES));
	CU_ASSERT_TRUE(say_much("in pieces", FULL_BYTES, false));
	CU_ASSERT_TRUE(vm_hears(&clone, "in pieces", NULL));
}

static void on_a_narrow_wire_the_sender_is_told(void)
{
	struct frame frame;
	bool told = false;

	CU_ASSERT_TRUE(say_much("too large", FULL_BYTES, true));
	while (!told && vm_recv(&parent, &frame, 2000))
		told = frame_is_icmp(&frame, 3, 4);
	CU_ASSERT_TRUE_FATAL(told);
	CU_ASSERT_EQUAL(frame_icmp_mtu(&frame), ROOM_BYTES);
	CU_ASSERT_TRUE(say_much("it fits", ROOM_BYTES, true));
	CU_ASSERT_TRUE(vm_hears(&clone, "it fits", "too large"));
}

int main(void)
{
	static const struct world_test tests[] = {
		{ "a full frame travels whole", a_full_frame_travels_whole },
		{ "on a narrow wire fragments travel", on_a_narrow_wire_fragments_travel },
		{ "on a narrow wire the sender is told", on_a_narrow_wire_the_sender_is_told },
	};
	pid_t router;
	int result = 1;

	world_start();
	world_cluster(HOSTS, &router);
	here = world_segment(1, HOSTS, VNI, BASE, GATEWAY);
	there = world_segment(2, HOSTS, VNI, BASE, GATEWAY);
	if (world_port(here, 1, VNI, BASE, 0, &parent) &&
	    world_port(there, 2, VNI, BASE, 1, &clone))
		result = world_run("mtu", tests, ARRAY_SIZE(tests));
	world_enter(1);
	vnet_segment_destroy(here);
	world_enter(2);
	vnet_segment_destroy(there);
	world_end();
	return result;
}
