/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel behind a port: a namespace with a tap, between which and the port frames are carried. */
#define _GNU_SOURCE
#include "tests/vnet/kernel.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vnet/netif.h"
#include "tests/vnet/world.h"

#define NIC "net0"
#define WAIT_NS 2000000000ull
#define MAX_TEXT_BYTES 4000

/* The NIC as the agent would set it up: nothing the kernel does by itself. */
static bool set_up_nic(struct kernel *kernel, int socket)
{
	static const char *const off[] = { "accept_ra", "autoconf", "router_solicitations" };
	struct ifreq request = { .ifr_name = NIC };

	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, kernel->vm->mac, 6);
	if (ioctl(socket, SIOCSIFHWADDR, &request) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		if (netif_set_sysctl(0, "ipv6/conf/" NIC "/%s", off[i]))
			return false;
	}
	if (!world_turn_on_ipv6(NIC, &kernel->vm->ip6) ||
	    !world_turn_on_ipv6(NIC, &kernel->vm->link_local))
		return false;
	kernel->nic = if_nametoindex(NIC);
	request.ifr_flags = IFF_UP;
	return ioctl(socket, SIOCSIFFLAGS, &request) == 0;
}

/* Makes NIC and socket where the thread is. */
static bool plug_in(struct kernel *kernel)
{
	struct ifreq request = { .ifr_name = NIC, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(KERNEL_PORT) };
	_cleanup_fd_ int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	_cleanup_fd_ int udp = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (tap < 0 || udp < 0 || ioctl(tap, TUNSETIFF, &request) < 0 ||
	    !set_up_nic(kernel, udp) || bind(udp, (struct sockaddr *)&any, sizeof(any)) < 0)
		return false;
	kernel->tap = steal_fd(&tap);
	kernel->udp = steal_fd(&udp);
	return true;
}

bool kernel_start(struct kernel *kernel, const struct vm *vm)
{
	_cleanup_fd_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	*kernel = (struct kernel){ .vm = vm, .tap = -1, .udp = -1 };
	return home >= 0 && unshare(CLONE_NEWNET) == 0 && plug_in(kernel) &&
	       setns(home, CLONE_NEWNET) == 0;
}

void kernel_stop(struct kernel *kernel)
{
	close(kernel->tap);
	close(kernel->udp);
}

/* Carries one frame, its virtio-net header with it. */
static bool carry(int from, int to)
{
	char frame[FRAME_MAX_BYTES];
	ssize_t len = read(from, frame, sizeof(frame));

	return len > 0 && write(to, frame, (size_t)len) == len;
}

bool kernel_say(struct kernel *from, struct kernel *to, const struct in6_addr *address,
		size_t bytes)
{
	struct sockaddr_in6 name = {
		.sin6_family = AF_INET6, .sin6_port = htons(KERNEL_PORT), .sin6_addr = *address,
		.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(address) ? from->nic : 0,
	};
	struct pollfd ends[] = {
		{ .fd = from->tap, .events = POLLIN }, { .fd = from->vm->fd, .events = POLLIN },
		{ .fd = to->tap, .events = POLLIN }, { .fd = to->vm->fd, .events = POLLIN },
		{ .fd = to->udp, .events = POLLIN },
	};
	uint64_t end_ns = io_now_ns() + WAIT_NS;
	char text[MAX_TEXT_BYTES] = "text";

	if (sendto(from->udp, text, bytes, 0, (struct sockaddr *)&name, sizeof(name)) < 0)
		return false;
	while (io_now_ns() < end_ns && poll(ends, ARRAY_SIZE(ends), 100) >= 0) {
		if (ends[4].revents)
			return recv(to->udp, text, sizeof(text), 0) == (ssize_t)bytes;
		for (size_t i = 0; i < 4; i++) {
			if (ends[i].revents)
				carry(ends[i].fd, ends[i ^ 1].fd);
		}
	}
	return false;
}
