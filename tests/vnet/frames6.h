/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IPv6 frames as a guest would send them, and as it should not. */
#ifndef TESTS_VNET_FRAMES6_H
#define TESTS_VNET_FRAMES6_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/vnet/frames.h"

/* Where it goes to: a MAC and an address. */
struct to6 {
	uint8_t mac[6];
	struct in6_addr ip;
};

struct in6_addr ip6(const char *text);

/* Everyone on the segment (ff02::1); one VM, under its address of the segment's network. */
extern const struct to6 everyone6;
struct to6 to_vm6(const struct vm *vm);

/* A datagram with a text; an ICMPv6 message with `bytes` of body behind type, code and checksum. */
void frame_udp6(struct frame *frame, const struct vm *from, const struct to6 *to, uint16_t port,
		const char *text);
void frame_icmp6(struct frame *frame, const struct vm *from, const struct to6 *to, uint8_t type,
		 const void *body, size_t bytes);
void frame_ping6(struct frame *frame, const struct vm *from, const struct to6 *to);

/*
 * A message of neighbour discovery about `target`, of a type that has one (ND_NEIGHBOR_…), with an
 * option that names a MAC (NULL: without).
 */
void frame_neighbour(struct frame *frame, const struct vm *from, const struct to6 *to, uint8_t type,
		     const struct in6_addr *target, const uint8_t *mac);

/* Puts an 8-byte extension header of `type` (IPPROTO_…) behind the IPv6 header. */
void frame_insert_header(struct frame *frame, uint8_t type, const uint8_t rest[7]);

bool frame_is_udp6(const struct frame *frame, const char *text);
bool frame_is_icmp6(const struct frame *frame, uint8_t type);
bool frame_same(const struct frame *one, const struct frame *other);

#endif
