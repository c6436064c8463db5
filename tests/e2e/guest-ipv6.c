/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: parent and clones have each their own two IPv6 addresses, nobody another's, and
 * talk TCP to each other by them.
 *
 *   guest-ipv6 CLONES
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sf.h>

#define NIC "eth0"
#define PORT 4006
#define HOST_BITS 0xfffu	/* of an IPv4 address on the segment */

/* What the NIC has. */
struct own {
	struct in6_addr segment, link_local;
	unsigned addresses;
	unsigned char mac[6];
};

/* What is said to each other. */
struct greeting {
	unsigned id;
	struct in6_addr segment;
};

static int listener, my_id, expected;
static struct own own;

static void look(void)
{
	struct ifaddrs *all, *i;

	memset(&own, 0, sizeof(own));
	if (getifaddrs(&all))
		return;
	for (i = all; i; i = i->ifa_next) {
		const struct in6_addr *at;

		if (!i->ifa_addr || strcmp(i->ifa_name, NIC))
			continue;
		if (i->ifa_addr->sa_family == AF_PACKET)
			memcpy(own.mac, ((struct sockaddr_ll *)i->ifa_addr)->sll_addr, 6);
		if (i->ifa_addr->sa_family != AF_INET6)
			continue;
		at = &((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr;
		own.addresses++;
		if (IN6_IS_ADDR_LINKLOCAL(at))
			own.link_local = *at;
		else
			own.segment = *at;
	}
	freeifaddrs(all);
}

/* The address of `id` in the segment's network, in which we are. Return: 0. */
static int address6(unsigned id, struct in6_addr *address)
{
	char text[SF_ADDRESS_BYTES];
	struct in_addr ip;
	unsigned number;

	if (sf_address(id, text, sizeof(text)) || inet_pton(AF_INET, text, &ip) != 1) {
		fprintf(stderr, "%d: sf_address(%u): %s\n", my_id, id, sf_error());
		return -1;
	}
	number = ntohl(ip.s_addr) & HOST_BITS;
	*address = own.segment;
	memset(address->s6_addr + 8, 0, 8);
	address->s6_addr[14] = (unsigned char)(number >> 8);
	address->s6_addr[15] = (unsigned char)number;
	return 0;
}

/* Return: how much of what we have is not as it should be. */
static long check_own(void)
{
	static const unsigned char network[] = { 0xfd, 0x53, 0xf1, 0xac };
	const struct in6_addr link_local = { .s6_addr = {
		0xfe, 0x80, [8] = own.mac[0] ^ 2, own.mac[1], own.mac[2], 0xff, 0xfe, own.mac[3],
		own.mac[4], own.mac[5],
	} };
	struct in6_addr mine;

	if (own.addresses == 2 && !memcmp(&own.segment, network, sizeof(network)) &&
	    !memcmp(&own.link_local, &link_local, sizeof(link_local)) &&
	    !address6((unsigned)my_id, &mine) && !memcmp(&own.segment, &mine, sizeof(mine)))
		return 0;
	fprintf(stderr, "%d: has not its own addresses, but %u others:\n", my_id, own.addresses);
	return system("ip -6 address show >&2") < 0 ? 2 : 1;
}

/* Says who we are to `id`, hears it. Return: 0. */
static int greet(unsigned id)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	struct greeting mine = { (unsigned)my_id, own.segment }, theirs = { ~0u, { { { 0 } } } };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), error = -1;
	struct timeval limit = { 20, 0 };
	char text[INET6_ADDRSTRLEN];

	if (address6(id, &to.sin6_addr))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	/* a sibling may be slower than we are, but its listener was there before we were */
	for (int tries = 0; error && tries < 100; tries++) {
		if (tries)
			usleep(100000);
		error = connect(fd, (struct sockaddr *)&to, sizeof(to));
	}
	if (!error && write(fd, &mine, sizeof(mine)) == sizeof(mine) &&
	    read(fd, &theirs, sizeof(theirs)) != sizeof(theirs))
		theirs.id = ~0u;
	close(fd);
	if (theirs.id == id && !memcmp(&theirs.segment, &to.sin6_addr, sizeof(to.sin6_addr)))
		return 0;
	fprintf(stderr, "%d did not reach %u at %s\n", my_id, id,
		inet_ntop(AF_INET6, &to.sin6_addr, text, sizeof(text)));
	return -1;
}

/* Answers until `expected` came, each from the address of who it says it is. */
static void *answer(void *arg)
{
	struct greeting mine = { (unsigned)my_id, own.segment }, theirs;
	long *wrong = arg;

	for (int i = 0; i < expected; i++) {
		struct sockaddr_in6 from;
		struct in6_addr right;
		socklen_t len = sizeof(from);
		int fd = accept(listener, (struct sockaddr *)&from, &len);

		if (fd < 0 || read(fd, &theirs, sizeof(theirs)) != sizeof(theirs) ||
		    write(fd, &mine, sizeof(mine)) != sizeof(mine) || address6(theirs.id, &right) ||
		    memcmp(&from.sin6_addr, &right, sizeof(right)))
			++*wrong;
		close(fd);
	}
	return NULL;
}

static long meet_everybody(int count)
{
	long wrong = 0, refused = 0;
	pthread_t thread;

	expected = count;	/* everybody but ourselves greets us, the parent among them */
	pthread_create(&thread, NULL, answer, &wrong);
	for (int id = 0; id <= count; id++) {
		if (id != my_id && greet((unsigned)id))
			refused++;
	}
	pthread_join(thread, NULL);
	return wrong + refused;
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int clones = argc > 1 ? atoi(argv[1]) : 4;
	struct sf_status status;
	long wrong;

	listener = socket(AF_INET6, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 64)) {
		perror("no IPv6");
		return 1;
	}
	my_id = sf_clone((unsigned)clones);
	if (my_id < 0) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	look();
	wrong = check_own() + meet_everybody(sf_count());
	if (my_id > 0)
		sf_exit(wrong ? 1 : 0);
	sf_join();
	for (int id = 1; id <= clones; id++) {
		if (sf_status((unsigned)id, &status) || status.state != SF_STATE_EXITED || status.status)
			wrong++;
	}
	printf("%ld wrong\n", wrong);
	return wrong != 0;
}
