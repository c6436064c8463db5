/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tap, and a packet socket that hears what comes out of it. */
#define _GNU_SOURCE
#include "tests/vmm/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Up first: a socket bound to an interface that is down hears an error before anything else. */
static int listen_on(struct tap *tap, const char *name)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(name) };
	struct ifreq ifr = { .ifr_flags = IFF_UP };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	tap->ear = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (tap->ear < 0 || ioctl(tap->ear, SIOCSIFFLAGS, &ifr) ||
	    bind(tap->ear, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	return 0;
}

int tap_open(struct tap *tap, const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	tap->ear = -1;
	tap->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (tap->fd < 0 || ioctl(tap->fd, TUNSETIFF, &ifr))
		return -errno;
	return listen_on(tap, name);
}

int tap_frames(struct tap *tap)
{
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	char frame[64];
	int frames = 0;

	while (recvfrom(tap->ear, frame, sizeof(frame), 0, (struct sockaddr *)&from,
			&from_len) > 0) {
		frames += from.sll_pkttype != PACKET_OUTGOING;
		from_len = sizeof(from);
	}
	return frames;
}

void tap_close(struct tap *tap)
{
	cleanup_close(&tap->fd);
	cleanup_close(&tap->ear);
	tap->fd = tap->ear = -1;
}
