/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On the wire, without the key: hears a group, and sends to it what it must not believe.
 *
 *   stranger OWN-ADDRESS GROUP PORT
 *
 * Each datagram is sent again to the group: as it was, with a bit changed, cut short, in turn. It
 * is looked for the words of guest-memory's rounds, which follow each other by a rule that a page
 * of them shows. At SIGTERM it prints "HEARD SENT SECRETS".
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_DATAGRAM 65536u

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

/* The inverse of guest-memory's mix(): the number behind a word of its. */
static uint64_t unmix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0x4f74430c22a54005ull; /* of 0xff51afd7ed558ccd, modulo 2^64 */
	x ^= x >> 33;
	return x;
}

/* Return: true if somewhere two words follow each other as only the guest's do. */
static int is_readable(const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at + 16 <= len; at++) {
		uint64_t word[2];

		memcpy(word, bytes + at, sizeof(word));
		if (word[0] && unmix(word[1]) == unmix(word[0]) + 1)
			return 1;
	}
	return 0;
}

static int join(struct in_addr own, const struct sockaddr_in *group)
{
	int sock = socket(AF_INET, SOCK_DGRAM, 0), on = 1, room = 4 << 20;
	struct ip_mreq member = { .imr_multiaddr = group->sin_addr, .imr_interface = own };

	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(sock, (const struct sockaddr *)group, sizeof(*group)) ||
	    setsockopt(sock, IPPROTO_IP, IP_ADD_MEMBERSHIP, &member, sizeof(member)))
		return -1;
	return sock;
}

static int sender(struct in_addr own)
{
	int sock = socket(AF_INET, SOCK_DGRAM, 0), off = 0;

	/* it would hear itself, and never stop */
	if (sock < 0 || setsockopt(sock, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof(own)) ||
	    setsockopt(sock, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof(off)))
		return -1;
	return sock;
}

int main(int argc, char **argv)
{
	static uint8_t bytes[MAX_DATAGRAM];
	struct sigaction action = { .sa_handler = on_signal };
	struct sockaddr_in group = { .sin_family = AF_INET };
	unsigned long heard = 0, sent = 0, secrets = 0;
	struct in_addr own;
	int in, out;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &own) != 1 ||
	    inet_pton(AF_INET, argv[2], &group.sin_addr) != 1)
		return fprintf(stderr, "usage: stranger OWN-ADDRESS GROUP PORT\n"), 2;
	group.sin_port = htons((uint16_t)atoi(argv[3]));
	in = join(own, &group);
	out = sender(own);
	if (in < 0 || out < 0)
		return perror("stranger"), 2;
	sigaction(SIGTERM, &action, NULL);
	while (!ended) {
		ssize_t len = recv(in, bytes, sizeof(bytes), 0);

		if (len <= 0)
			continue;
		secrets += (unsigned long)is_readable(bytes, (size_t)len);
		if (heard % 3 == 1)
			bytes[(size_t)heard % (size_t)len] ^= 4;
		if (heard++ % 3 == 2)
			len /= 2;
		if (sendto(out, bytes, (size_t)len, 0, (struct sockaddr *)&group, sizeof(group)) > 0)
			sent++;
	}
	printf("%lu %lu %lu\n", heard, sent, secrets);
	return 0;
}
