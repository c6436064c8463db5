/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building, sending and reading frames by hand. */
#include "tests/vnet/frames.h"

#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/io.h"

#define ETH_BYTES 14
#define ARP_BYTES 28
#define IP_BYTES 20
#define UDP_BYTES 8
#define ICMP_BYTES 8
#define WAIT_MS 2000
#define SOURCE_PORT 5000

static const uint8_t everyone[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct in_addr ip4(const char *text)
{
	return (struct in_addr){ .s_addr = inet_addr(text) };
}

static void put16(struct frame *frame, size_t at, uint16_t value)
{
	frame->bytes[at] = (uint8_t)(value >> 8);
	frame->bytes[at + 1] = (uint8_t)value;
}

static uint16_t get16(const struct frame *frame, size_t at)
{
	return (uint16_t)(frame->bytes[at] << 8 | frame->bytes[at + 1]);
}

/* The Internet checksum of a range, for the field that is zero in it. */
static uint16_t checksum(const struct frame *frame, size_t at, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += get16(frame, at + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_eth(struct frame *frame, const uint8_t to[6], const uint8_t from[6], uint16_t type)
{
	memset(frame, 0, sizeof(*frame));
	memcpy(frame->bytes, to, 6);
	memcpy(frame->bytes + 6, from, 6);
	put16(frame, 12, type);
}

void frame_arp_request(struct frame *frame, const struct vm *from, struct in_addr target)
{
	static const uint8_t fixed[] = { 0, 1, 8, 0, 6, 4, 0, ARP_REQUEST };
	uint8_t *arp = frame->bytes + ETH_BYTES;

	put_eth(frame, everyone, from->mac, 0x0806);
	memcpy(arp, fixed, sizeof(fixed));
	memcpy(arp + 8, from->mac, 6);
	memcpy(arp + 14, &from->ip, 4);
	memcpy(arp + 24, &target, 4);
	frame->len = ETH_BYTES + ARP_BYTES;
}

static void put_ip(struct frame *frame, struct in_addr from, struct in_addr to, uint8_t protocol,
		   size_t ip_bytes, bool dont_fragment)
{
	uint8_t *ip = frame->bytes + ETH_BYTES;

	ip[0] = 0x45;
	put16(frame, ETH_BYTES + 2, (uint16_t)ip_bytes);
	ip[6] = dont_fragment ? 0x40 : 0;
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, &from, 4);
	memcpy(ip + 16, &to, 4);
	put16(frame, ETH_BYTES + 10, checksum(frame, ETH_BYTES, IP_BYTES));
	frame->len = ETH_BYTES + ip_bytes;
}

void frame_udp(struct frame *frame, const struct vm *from, const uint8_t to_mac[6],
	       struct in_addr to, uint16_t port, const char *text, size_t ip_bytes,
	       bool dont_fragment)
{
	size_t at = ETH_BYTES + IP_BYTES;

	if (!ip_bytes)
		ip_bytes = IP_BYTES + UDP_BYTES + strlen(text) + 1;
	put_eth(frame, to_mac, from->mac, 0x0800);
	put16(frame, at, SOURCE_PORT);
	put16(frame, at + 2, port);
	put16(frame, at + 4, (uint16_t)(ip_bytes - IP_BYTES));
	memcpy(frame->bytes + at + UDP_BYTES, text, strlen(text));
	put_ip(frame, from->ip, to, IPPROTO_UDP, ip_bytes, dont_fragment);
}

void frame_ping(struct frame *frame, const struct vm *from, const uint8_t to_mac[6],
		struct in_addr to)
{
	size_t at = ETH_BYTES + IP_BYTES;

	put_eth(frame, to_mac, from->mac, 0x0800);
	frame->bytes[at] = 8;
	put16(frame, at + 4, 77);
	put16(frame, at + 2, checksum(frame, at, ICMP_BYTES));
	put_ip(frame, from->ip, to, IPPROTO_ICMP, IP_BYTES + ICMP_BYTES, false);
}

bool frame_is_arp(const struct frame *frame, uint16_t operation, struct in_addr sender)
{
	return frame->len >= ETH_BYTES + ARP_BYTES && get16(frame, 12) == 0x0806 &&
	       get16(frame, ETH_BYTES + 6) == operation &&
	       !memcmp(frame->bytes + ETH_BYTES + 14, &sender, 4);
}

static bool is_ip(const struct frame *frame, uint8_t protocol, size_t payload_bytes)
{
	return frame->len >= ETH_BYTES + IP_BYTES + payload_bytes &&
	       get16(frame, 12) == 0x0800 && frame->bytes[ETH_BYTES + 9] == protocol;
}

bool frame_is_udp(const struct frame *frame, const char *text)
{
	return is_ip(frame, IPPROTO_UDP, UDP_BYTES + strlen(text)) &&
	       !memcmp(frame->bytes + ETH_BYTES + IP_BYTES + UDP_BYTES, text, strlen(text));
}

bool frame_is_icmp(const struct frame *frame, uint8_t type, uint8_t code)
{
	return is_ip(frame, IPPROTO_ICMP, ICMP_BYTES) &&
	       frame->bytes[ETH_BYTES + IP_BYTES] == type &&
	       frame->bytes[ETH_BYTES + IP_BYTES + 1] == code;
}

unsigned frame_icmp_mtu(const struct frame *frame)
{
	return get16(frame, ETH_BYTES + IP_BYTES + 6);
}

bool vm_send(const struct vm *vm, const struct frame *frame)
{
	struct virtio_net_hdr header = { 0 };
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)frame->bytes, .iov_len = frame->len },
	};

	return writev(vm->fd, parts, 2) == (ssize_t)(sizeof(header) + frame->len);
}

bool vm_recv(const struct vm *vm, struct frame *frame, int timeout_ms)
{
	struct virtio_net_hdr header;
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = frame->bytes, .iov_len = sizeof(frame->bytes) },
	};
	struct pollfd ready = { .fd = vm->fd, .events = POLLIN };
	ssize_t len;

	if (poll(&ready, 1, timeout_ms) != 1)
		return false;
	len = readv(vm->fd, parts, 2);
	if (len < (ssize_t)sizeof(header))
		return false;
	frame->len = (size_t)len - sizeof(header);
	return true;
}

bool vm_say(const struct vm *from, const struct vm *to, const char *text)
{
	struct frame frame;

	frame_udp(&frame, from, to->mac, to->ip, 7, text, 0, false);
	return vm_send(from, &frame);
}

/* Milliseconds from now until `end_ns`, at least 0. */
static int left_ms(uint64_t end_ns)
{
	uint64_t now_ns = io_now_ns();

	return now_ns < end_ns ? (int)((end_ns - now_ns) / 1000000) : 0;
}

bool vm_hears(const struct vm *vm, const char *awaited, const char *forbidden)
{
	uint64_t end_ns = io_now_ns() + WAIT_MS * 1000000ull;
	struct frame frame;

	while (vm_recv(vm, &frame, left_ms(end_ns))) {
		if (forbidden && frame_is_udp(&frame, forbidden))
			return false;
		if (frame_is_udp(&frame, awaited))
			return true;
	}
	return false;
}

bool vm_resolve(const struct vm *vm, struct in_addr address, uint8_t mac[6])
{
	uint64_t end_ns = io_now_ns() + WAIT_MS * 1000000ull;
	struct frame frame;

	frame_arp_request(&frame, vm, address);
	if (!vm_send(vm, &frame))
		return false;
	while (vm_recv(vm, &frame, left_ms(end_ns))) {
		if (frame_is_arp(&frame, ARP_REPLY, address)) {
			memcpy(mac, frame.bytes + 6, 6);
			return true;
		}
	}
	return false;
}
