/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The datagrams by which daemons find out who hears whose multicast (proto/peer.h). */
#ifndef HOST_SFD_PROBE_WIRE_H
#define HOST_SFD_PROBE_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/link.h"
#include "proto/peer.h"

#define PROBE_KEY_BYTES 32

/* Multicast groups of ours are in 239.192.0.0/14, ports in what IANA calls dynamic. */
#define GROUP_BASE     0xefc00000u
#define GROUP_BITS     18
#define GROUP_PORT     49152u
#define GROUP_PORTS    11848u /* up to 60999: Linux' own range ends there */

/* What a cluster's name and key make. */
struct probe_cluster {
	struct sockaddr_in group;
	uint8_t key[PROBE_KEY_BYTES];
};

void probe_cluster_make(struct probe_cluster *c, const char *name,
			const uint8_t key[LINK_KEY_BYTES]);

/* A group for a family, at random. */
struct sockaddr_in probe_random_group(void);

/* Return: true if it is one that sfd would choose. */
bool probe_group_valid(const struct sockaddr_in *group);

void probe_write(const struct probe_cluster *c, uint32_t host, uint64_t number,
		 uint8_t bytes[PEER_PROBE_BYTES]);

/* Return: 0 with who sent it and its number, or -EINVAL: it is none of this cluster's. */
int probe_read(const struct probe_cluster *c, const uint8_t *bytes, size_t len, uint32_t *host,
	       uint64_t *number);

#endif
