/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sealing datagrams: ChaCha20-Poly1305 over what proto/mcdist.h lays out. */
#ifndef MCDIST_SEAL_H
#define MCDIST_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/mcdist.h"

#define MC_OVERHEAD_BYTES (sizeof(struct mc_header) + MC_TAG_BYTES)

static inline bool mc_is_group_sender(uint32_t sender)
{
	return sender & 1;
}

/* A sender of one snapshot's datagrams. Two of them must never have the same `sender` and key. */
struct mc_seal {
	uint8_t key[MC_KEY_BYTES];
	uint64_t snapshot;
	uint32_t sender;
	uint64_t counter;	/* of the last datagram */
};

/* A new sender, with a random number: odd for one who sends to a group, even for others. */
void mc_seal_init(struct mc_seal *seal, uint64_t snapshot, const uint8_t key[MC_KEY_BYTES],
		  bool group);
void mc_seal_fini(struct mc_seal *seal);

/*
 * Seals in place: `datagram` has room for the header, then the body, then room for the tag.
 * Return: the datagram's length.
 */
size_t mc_seal_datagram(struct mc_seal *seal, enum mc_type type, uint8_t *datagram,
			size_t body_len);

/* The same without cipher and tag, as to size and header: for simulations. */
size_t mc_wrap_datagram(struct mc_seal *seal, enum mc_type type, uint8_t *datagram,
			size_t body_len);
int mc_peel_datagram(size_t len, size_t *body_len);

/*
 * Reads the header of a datagram that may be anything. Return: 0, or -EBADMSG if it is too short or
 * not of this protocol and version.
 */
int mc_read_header(const uint8_t *datagram, size_t len, struct mc_header *header);

/*
 * Authenticates a datagram of `len` bytes and decrypts its body in place, behind the header.
 * Return: 0 and *body_len, or -EBADMSG (the body is garbage then).
 */
int mc_unseal_datagram(const uint8_t key[MC_KEY_BYTES], uint8_t *datagram, size_t len,
		       size_t *body_len);

#endif
