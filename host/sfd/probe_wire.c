/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes probes, and believes only those of who has the cluster's key. */
#include "host/sfd/probe_wire.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define MAC_BYTES  32
#define BODY_BYTES (PEER_PROBE_BYTES - MAC_BYTES)

_Static_assert(PROBE_KEY_BYTES >= crypto_generichash_KEYBYTES_MIN, "long enough for a key");
_Static_assert(LINK_KEY_BYTES <= crypto_generichash_KEYBYTES_MAX, "short enough for a key");

/* A number for one purpose, which tells nothing about the key. */
static void derive(const char *purpose, const char *name, const uint8_t key[LINK_KEY_BYTES],
		   uint8_t *out, size_t len)
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, key, LINK_KEY_BYTES, len);
	crypto_generichash_update(&state, (const uint8_t *)purpose, strlen(purpose) + 1);
	crypto_generichash_update(&state, (const uint8_t *)name, strlen(name) + 1);
	crypto_generichash_final(&state, out, len);
	sodium_memzero(&state, sizeof(state));
}

static struct sockaddr_in group_of(uint32_t address, uint32_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(GROUP_BASE | (address & ((1u << GROUP_BITS) - 1))),
		.sin_port = htons((uint16_t)(GROUP_PORT + port % GROUP_PORTS)),
	};
}

void probe_cluster_make(struct probe_cluster *c, const char *name,
			const uint8_t key[LINK_KEY_BYTES])
{
	uint32_t where[4];

	derive("snowflock probe group", name, key, (uint8_t *)where, sizeof(where));
	derive("snowflock probe key", name, key, c->key, sizeof(c->key));
	c->group = group_of(le32toh(where[0]), le32toh(where[1]));
}

struct sockaddr_in probe_random_group(void)
{
	return group_of(randombytes_random(), randombytes_random());
}

bool probe_group_valid(const struct sockaddr_in *group)
{
	return ntohl(group->sin_addr.s_addr) >> GROUP_BITS == GROUP_BASE >> GROUP_BITS &&
	       ntohs(group->sin_port) >= GROUP_PORT &&
	       ntohs(group->sin_port) < GROUP_PORT + GROUP_PORTS;
}

void probe_write(const struct probe_cluster *c, uint32_t host, uint64_t number,
		 uint8_t bytes[PEER_PROBE_BYTES])
{
	uint32_t head[2] = { htole32(PEER_PROBE_MAGIC), htole32(host) };
	uint64_t tail = htole64(number);

	memcpy(bytes, head, sizeof(head));
	memcpy(bytes + sizeof(head), &tail, sizeof(tail));
	crypto_generichash(bytes + BODY_BYTES, MAC_BYTES, bytes, BODY_BYTES, c->key,
			   sizeof(c->key));
}

int probe_read(const struct probe_cluster *c, const uint8_t *bytes, size_t len, uint32_t *host,
	       uint64_t *number)
{
	uint8_t mac[MAC_BYTES];
	uint32_t head[2];

	if (len != PEER_PROBE_BYTES)
		return -EINVAL;
	memcpy(head, bytes, sizeof(head));
	crypto_generichash(mac, sizeof(mac), bytes, BODY_BYTES, c->key, sizeof(c->key));
	if (le32toh(head[0]) != PEER_PROBE_MAGIC ||
	    sodium_memcmp(mac, bytes + BODY_BYTES, sizeof(mac)))
		return -EINVAL;
	memcpy(number, bytes + sizeof(head), sizeof(*number));
	*host = le32toh(head[1]);
	*number = le64toh(*number);
	return 0;
}
