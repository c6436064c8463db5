/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ethernet frames as a guest would send and read them at its tap. */
#ifndef TESTS_VNET_FRAMES_H
#define TESTS_VNET_FRAMES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX_BYTES 2048

struct frame {
	uint8_t bytes[FRAME_MAX_BYTES];
	size_t len;
};

/* Someone with a MAC and addresses, and the tap where its frames go in and out. */
struct vm {
	int fd;
	uint8_t mac[6];
	struct in_addr ip;
	struct in6_addr ip6;
	struct in6_addr link_local;
};

#define ARP_REQUEST 1
#define ARP_REPLY 2

struct in_addr ip4(const char *text);

/* "who has `target`? tell `from`", to everyone. */
void frame_arp_request(struct frame *frame, const struct vm *from, struct in_addr target);

/* A UDP datagram with a text, padded with zeros to `ip_bytes` of IP packet (0: not padded). */
void frame_udp(struct frame *frame, const struct vm *from, const uint8_t to_mac[6],
	       struct in_addr to, uint16_t port, const char *text, size_t ip_bytes,
	       bool dont_fragment);

/* An echo request. */
void frame_ping(struct frame *frame, const struct vm *from, const uint8_t to_mac[6],
		struct in_addr to);

/* What a frame is; each looks only as far as it must. */
bool frame_is_arp(const struct frame *frame, uint16_t operation, struct in_addr sender);
bool frame_is_udp(const struct frame *frame, const char *text);
bool frame_is_icmp(const struct frame *frame, uint8_t type, uint8_t code);

/* Next-hop MTU in a "fragmentation needed". */
unsigned frame_icmp_mtu(const struct frame *frame);

/* Puts a frame in at the tap. Return: true if the kernel took it. */
bool vm_send(const struct vm *vm, const struct frame *frame);

/* Takes the next frame. Return: true, or false after `timeout_ms`. */
bool vm_recv(const struct vm *vm, struct frame *frame, int timeout_ms);

/* Sends a UDP text from one to the other. */
bool vm_say(const struct vm *from, const struct vm *to, const char *text);

/*
 * Reads until the text `awaited` has come. Return: true if it came within two seconds, and no
 * frame with the text `forbidden` (may be NULL) before it.
 */
bool vm_hears(const struct vm *vm, const char *awaited, const char *forbidden);

/* Asks for an address by ARP. Return: true and its MAC, if there was an answer in two seconds. */
bool vm_resolve(const struct vm *vm, struct in_addr address, uint8_t mac[6]);

#endif
