/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building and reading IPv6 frames by hand. */
#include "tests/vnet/frames6.h"

#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <string.h>

#define ETH_BYTES 14
#define IP6_BYTES 40
#define UDP_BYTES 8
#define ICMP_BYTES 4
#define OPTION_BYTES 8
#define PAYLOAD_AT (ETH_BYTES + IP6_BYTES)
#define SOURCE_PORT 5000

const struct to6 everyone6 = {
	.mac = { 0x33, 0x33, 0, 0, 0, 1 },
	.ip = { .s6_addr = { 0xff, 0x02, [15] = 1 } },
};

struct in6_addr ip6(const char *text)
{
	struct in6_addr address = IN6ADDR_ANY_INIT;

	inet_pton(AF_INET6, text, &address);
	return address;
}

struct to6 to_vm6(const struct vm *vm)
{
	struct to6 to = { .ip = vm->ip6 };

	memcpy(to.mac, vm->mac, sizeof(to.mac));
	return to;
}

static void put16(struct frame *frame, size_t at, size_t value)
{
	frame->bytes[at] = (uint8_t)(value >> 8);
	frame->bytes[at + 1] = (uint8_t)value;
}

static uint16_t get16(const struct frame *frame, size_t at)
{
	return (uint16_t)(frame->bytes[at] << 8 | frame->bytes[at + 1]);
}

/* Checksum of payload and addresses, whose own field is zero; the frame has a zero behind it. */
static uint16_t checksum(const struct frame *frame, uint8_t protocol, size_t bytes)
{
	uint32_t sum = protocol + (uint32_t)bytes;

	for (size_t at = ETH_BYTES + 8; at < PAYLOAD_AT + bytes; at += 2)
		sum += get16(frame, at);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Fills in everything but a payload of `bytes`, of which there is nothing yet. */
static uint8_t *put_headers(struct frame *frame, const struct vm *from, const struct to6 *to,
			    uint8_t protocol, size_t bytes)
{
	uint8_t *ip = frame->bytes + ETH_BYTES;

	memset(frame, 0, sizeof(*frame));
	memcpy(frame->bytes, to->mac, 6);
	memcpy(frame->bytes + 6, from->mac, 6);
	put16(frame, 12, 0x86dd);
	ip[0] = 0x60;
	put16(frame, ETH_BYTES + 4, bytes);
	ip[6] = protocol;
	ip[7] = 255;
	memcpy(ip + 8, &from->ip6, 16);
	memcpy(ip + 24, &to->ip, 16);
	frame->len = PAYLOAD_AT + bytes;
	return frame->bytes + PAYLOAD_AT;
}

void frame_udp6(struct frame *frame, const struct vm *from, const struct to6 *to, uint16_t port,
		const char *text)
{
	size_t bytes = UDP_BYTES + strlen(text) + 1;
	uint8_t *udp = put_headers(frame, from, to, IPPROTO_UDP, bytes);

	put16(frame, PAYLOAD_AT, SOURCE_PORT);
	put16(frame, PAYLOAD_AT + 2, port);
	put16(frame, PAYLOAD_AT + 4, bytes);
	memcpy(udp + UDP_BYTES, text, strlen(text));
	put16(frame, PAYLOAD_AT + 6, checksum(frame, IPPROTO_UDP, bytes));
}

void frame_icmp6(struct frame *frame, const struct vm *from, const struct to6 *to, uint8_t type,
		 const void *body, size_t bytes)
{
	uint8_t *icmp = put_headers(frame, from, to, IPPROTO_ICMPV6, ICMP_BYTES + bytes);

	icmp[0] = type;
	memcpy(icmp + ICMP_BYTES, body, bytes);
	put16(frame, PAYLOAD_AT + 2, checksum(frame, IPPROTO_ICMPV6, ICMP_BYTES + bytes));
}

void frame_ping6(struct frame *frame, const struct vm *from, const struct to6 *to)
{
	frame_icmp6(frame, from, to, ICMP6_ECHO_REQUEST, "\0\x4d\0\x01", 4);
}

void frame_neighbour(struct frame *frame, const struct vm *from, const struct to6 *to, uint8_t type,
		     const struct in6_addr *target, const uint8_t *mac)
{
	uint8_t body[4 + 16 + OPTION_BYTES] = { 0 }, *option = body + 20;

	memcpy(body + 4, target, 16);
	option[0] = type == ND_NEIGHBOR_ADVERT ? ND_OPT_TARGET_LINKADDR : ND_OPT_SOURCE_LINKADDR;
	option[1] = 1;
	if (mac)
		memcpy(option + 2, mac, 6);
	frame_icmp6(frame, from, to, type, body, sizeof(body) - (mac ? 0 : OPTION_BYTES));
}

void frame_insert_header(struct frame *frame, uint8_t type, const uint8_t rest[7])
{
	uint8_t *next = frame->bytes + ETH_BYTES + 6, *payload = frame->bytes + PAYLOAD_AT;

	memmove(payload + 8, payload, frame->len - PAYLOAD_AT);
	payload[0] = *next;
	memcpy(payload + 1, rest, 7);
	*next = type;
	put16(frame, ETH_BYTES + 4, (size_t)get16(frame, ETH_BYTES + 4) + 8);
	frame->len += 8;
}

static bool is_ip6(const struct frame *frame, uint8_t protocol, size_t payload_bytes)
{
	return frame->len >= PAYLOAD_AT + payload_bytes && get16(frame, 12) == 0x86dd &&
	       frame->bytes[ETH_BYTES + 6] == protocol;
}

bool frame_is_udp6(const struct frame *frame, const char *text)
{
	return is_ip6(frame, IPPROTO_UDP, UDP_BYTES + strlen(text)) &&
	       !memcmp(frame->bytes + PAYLOAD_AT + UDP_BYTES, text, strlen(text));
}

bool frame_is_icmp6(const struct frame *frame, uint8_t type)
{
	return is_ip6(frame, IPPROTO_ICMPV6, ICMP_BYTES) && frame->bytes[PAYLOAD_AT] == type;
}

bool frame_same(const struct frame *one, const struct frame *other)
{
	return one->len == other->len && !memcmp(one->bytes, other->bytes, one->len);
}
