/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On a host: watches every frame that guests send, before any rule of the host sees it.
 *
 *   wire-watch FILE
 *
 * A tap's name says which ID it belongs to (host/vnet/names.h), and the ID which MAC and IPv4
 * address its frames may come from. Frames that come from another are described in FILE, one line
 * each; the last line there, written at SIGTERM, is "frames N wrong M lost L". FILE appears when it
 * watches.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_BYTES (64 << 20)
#define SLOT_MASK 0xfffu	/* families have networks of prefix 20 */
#define LINES_MAX 20

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

/* Which VM's port it is. Return: false if it is none. */
static bool port_of(int index, unsigned *vni, unsigned *id)
{
	char name[IF_NAMESIZE];

	return if_indextoname((unsigned)index, name) && sscanf(name, "sft%6x-%x", vni, id) == 2;
}

static bool mac_is(const uint8_t mac[6], unsigned vni, unsigned id)
{
	const uint8_t want[6] = { 0x46, (uint8_t)(vni >> 16), (uint8_t)(vni >> 8), (uint8_t)vni,
				  (uint8_t)(id >> 8), (uint8_t)id };

	return !memcmp(mac, want, sizeof(want));
}

static bool address_is(const uint8_t *at, unsigned id)
{
	uint32_t address;

	memcpy(&address, at, sizeof(address));
	return (ntohl(address) & SLOT_MASK) == id + 1;	/* ID 0 has the network's first address */
}

/* Return: NULL, or what in the frame is somebody else's. */
static const char *judge(const uint8_t *frame, size_t len, unsigned vni, unsigned id)
{
	uint16_t type;

	if (len < ETH_HLEN || !mac_is(frame + ETH_ALEN, vni, id))
		return "MAC";
	memcpy(&type, frame + 2 * ETH_ALEN, sizeof(type));
	if (ntohs(type) == ETH_P_IP && len >= ETH_HLEN + 20 && !address_is(frame + ETH_HLEN + 12, id))
		return "IPv4 source";
	if (ntohs(type) != ETH_P_ARP || len < ETH_HLEN + 28)
		return NULL;
	if (!mac_is(frame + ETH_HLEN + 8, vni, id))
		return "ARP sender's MAC";
	return address_is(frame + ETH_HLEN + 14, id) ? NULL : "ARP sender's address";
}

static void describe(FILE *out, const char *what, const uint8_t *frame, size_t len, unsigned id)
{
	fprintf(out, "id %u, wrong %s:", id, what);
	for (size_t i = 0; i < len && i < 48; i++)
		fprintf(out, " %02x", frame[i]);
	fputc('\n', out);
}

static void watch(int sock, FILE *out)
{
	struct tpacket_stats lost = { 0 };
	socklen_t lost_len = sizeof(lost);
	unsigned long frames = 0, wrong = 0;

	while (!ended) {
		struct sockaddr_ll from;
		socklen_t from_len = sizeof(from);
		uint8_t frame[128];
		ssize_t got = recvfrom(sock, frame, sizeof(frame), 0, (struct sockaddr *)&from, &from_len);
		unsigned vni, id;
		const char *what;

		if (got < 0 || from.sll_pkttype == PACKET_OUTGOING || !port_of(from.sll_ifindex, &vni, &id))
			continue;
		frames++;
		what = judge(frame, (size_t)got, vni, id);
		if (what && wrong++ < LINES_MAX)
			describe(out, what, frame, (size_t)got, id);
	}
	getsockopt(sock, SOL_PACKET, PACKET_STATISTICS, &lost, &lost_len);
	fprintf(out, "frames %lu wrong %lu lost %u\n", frames, wrong, lost.tp_drops);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), size = BUFFER_BYTES;
	FILE *out;

	if (argc != 2 || sock < 0) {
		fprintf(stderr, "wire-watch: %s\n", argc == 2 ? strerror(errno) : "usage: wire-watch FILE");
		return 2;
	}
	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	sigaction(SIGTERM, &action, NULL);
	out = fopen(argv[1], "w");
	if (!out)
		return 2;
	setlinebuf(out);
	watch(sock, out);
	return fclose(out) ? 2 : 0;
}
