/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the guest: programs that send, and such that have connections. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static bool stopped(void)
{
	return !access("/tmp/stop", F_OK);
}

static struct sockaddr_in ip4(const char *address, unsigned port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = inet_addr(address) };
}

/* flood ADDRESS NIC: UDP over both families, as fast as it goes, over whatever happens. */
int run_flood(int argc, char **argv)
{
	static char data[900];
	struct sockaddr_in to = ip4(argc > 1 ? argv[1] : "10.0.2.2", 9);
	struct sockaddr_in6 all = { .sin6_family = AF_INET6, .sin6_port = htons(9),
				    .sin6_scope_id = if_nametoindex(argc > 2 ? argv[2] : "eth0") };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
	ready();
	while (!stopped()) {
		for (int i = 0; i < 20; i++)
			sendto(fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&to,
			       sizeof(to));
		sendto(fd6, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&all, sizeof(all));
		sched_yield();
	}
	return 0;
}

/*
 * forge NIC: frames that are made once, with the MAC and the address that the NIC has then, and
 * sent for ever: an ARP packet, an IP packet, and one with the MAC alone.
 */
int run_forge(int argc, char **argv)
{
	static uint8_t frames[3][64] = {
		{ [0] = 255, 255, 255, 255, 255, 255, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 },
		{ [0] = 2, 0, 0, 0, 0, 9, [12] = 8, 0, 0x45, 0, 0, 50, [22] = 64, 17 },
		{ [0] = 2, 0, 0, 0, 0, 9, [12] = 0x88, 0xb5 },
	};
	const char *nic = argc > 1 ? argv[1] : "eth0";
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_ifindex = (int)if_nametoindex(nic) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	struct ifreq request = { .ifr_addr.sa_family = AF_INET };
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(request.ifr_name, nic, IFNAMSIZ - 1);
	if (ioctl(control, SIOCGIFHWADDR, &request))
		fail("MAC");
	for (int i = 0; i < 3; i += 2) {
		memcpy(frames[i] + 6, request.ifr_hwaddr.sa_data, 6);
		memcpy(frames[i] + 22, request.ifr_hwaddr.sa_data, 6);
	}
	/* the IP packet has another MAC: it is known by its address alone */
	memcpy(frames[1] + 6, "\2\0\0\0\0\7", 6);
	request.ifr_addr.sa_family = AF_INET;
	if (ioctl(control, SIOCGIFADDR, &request))
		fail("address");
	for (int i = 0; i < 2; i++)
		memcpy(frames[i] + (i ? 26 : 28),
		       &((struct sockaddr_in *)&request.ifr_addr)->sin_addr, 4);
	ready();
	for (unsigned n = 0; !stopped(); n++) {
		sendto(fd, frames[n % 3], sizeof(frames[0]), 0, (struct sockaddr *)&to, sizeof(to));
		usleep(500);
	}
	return 0;
}

/* ---- connections ---- */

static int tcp_to(const char *address, unsigned port, bool wait)
{
	struct sockaddr_in to = ip4(address, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) && (wait || errno != EINPROGRESS))
		fail("connect");
	return fd;
}

static int tcp_listen(int family, unsigned port)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	struct sockaddr_in at4 = ip4("0.0.0.0", port);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if ((family == AF_INET ? bind(fd, (struct sockaddr *)&at4, sizeof(at4)) :
				 bind(fd, (struct sockaddr *)&at, sizeof(at))) ||
	    listen(fd, 8))
		fail("listen");
	return fd;
}

/* Through a socket of IPv6: its local address is the NIC's, mapped. */
static int mapped_to(const char *address, unsigned port)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[64];

	snprintf(text, sizeof(text), "::ffff:%s", address);
	inet_pton(AF_INET6, text, &to.sin6_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect through IPv6");
	return fd;
}

static int udp_to(const char *address, unsigned port)
{
	struct sockaddr_in to = ip4(address, port);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect UDP");
	return fd;
}

static int error_of(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error;
}

/* Return: what one end hears of the other: 1 if it works. */
static int talks(int from, int to)
{
	char byte = 0;

	return send(from, "x", 1, MSG_NOSIGNAL) == 1 &&
	       poll(&(struct pollfd){ .fd = to, .events = POLLIN }, 1, 1000) == 1 &&
	       recv(to, &byte, 1, 0) == 1 && byte == 'x';
}

/*
 * sockets PORT: connects to the outside in several ways, waits for /tmp/go, and says what became of
 * each: outside=, mapped=, starting=, udp=: the error; listener=, loopback=, unix=: 1 if it works.
 */
int run_sockets(int argc, char **argv)
{
	unsigned port = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	int outside = tcp_to("10.0.2.2", port, true), mapped = mapped_to("10.0.2.2", port);
	int starting = tcp_to("10.0.2.77", 80, false), udp = udp_to("10.0.2.2", 9);
	int listener = tcp_listen(AF_INET, 7000), listener6 = tcp_listen(AF_INET6, 7006);
	int client = tcp_to("127.0.0.1", 7000, true), server = accept(listener, NULL, NULL);
	struct pollfd p = { .fd = outside, .events = POLLIN };
	int local[2], heard;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, local))
		fail("socketpair");
	ready();
	while (access("/tmp/go", F_OK))
		usleep(1000);
	heard = poll(&p, 1, 0);
	printf("heard=%d outside=%d mapped=%d starting=%d udp=%d ", heard, error_of(outside),
	       error_of(mapped), error_of(starting), error_of(udp));
	printf("loopback=%d unix=%d ", talks(client, server) && talks(server, client),
	       talks(local[0], local[1]));
	close(client);
	client = tcp_to("127.0.0.1", 7000, true);
	server = accept(listener, NULL, NULL);
	printf("listener=%d ", talks(client, server));
	client = mapped_to("127.0.0.1", 7006);
	server = accept(listener6, NULL, NULL);
	printf("listener6=%d\n", talks(client, server));
	return 0;
}

/* stream PORT: sends numbers to the outside until /tmp/stop is there. */
int run_stream(int argc, char **argv)
{
	int fd = tcp_to("10.0.2.2", argc > 1 ? (unsigned)atoi(argv[1]) : 0, true);
	uint32_t number = 0;

	ready();
	while (!stopped()) {
		if (write(fd, &number, sizeof(number)) != sizeof(number))
			fail("stream");
		number++;
		if (number % 256 == 0)
			usleep(1000);
	}
	close(fd);
	printf("sent=%u\n", number);
	return 0;
}
