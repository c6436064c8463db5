/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sealed datagrams. The nonce is the header's sender and counter as they lie on the wire. */
#include "host/mcdist/seal.h"

#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <stddef.h>
#include <string.h>

_Static_assert(MC_KEY_BYTES == crypto_aead_chacha20poly1305_IETF_KEYBYTES, "key size");
_Static_assert(MC_TAG_BYTES == crypto_aead_chacha20poly1305_IETF_ABYTES, "tag size");
_Static_assert(offsetof(struct mc_header, counter) == offsetof(struct mc_header, sender) + 4,
	       "sender and counter are adjacent");
_Static_assert(crypto_aead_chacha20poly1305_IETF_NPUBBYTES == 12, "nonce is both");

void mc_seal_init(struct mc_seal *seal, uint64_t snapshot, const uint8_t key[MC_KEY_BYTES],
		  bool group)
{
	memcpy(seal->key, key, MC_KEY_BYTES);
	seal->snapshot = snapshot;
	do
		seal->sender = (randombytes_random() & ~1u) | group;
	while (!seal->sender);
	seal->counter = 0;
}

void mc_seal_fini(struct mc_seal *seal)
{
	sodium_memzero(seal, sizeof(*seal));
}

size_t mc_wrap_datagram(struct mc_seal *seal, enum mc_type type, uint8_t *datagram, size_t body_len)
{
	struct mc_header header = { .magic = htole16(MC_MAGIC),
				    .version = MC_VERSION,
				    .type = (uint8_t)type,
				    .sender = htole32(seal->sender),
				    .counter = htole64(++seal->counter),
				    .snapshot = htole64(seal->snapshot) };

	memcpy(datagram, &header, sizeof(header));
	return sizeof(header) + body_len + MC_TAG_BYTES;
}

size_t mc_seal_datagram(struct mc_seal *seal, enum mc_type type, uint8_t *datagram, size_t body_len)
{
	uint8_t *body = datagram + sizeof(struct mc_header);
	size_t len = mc_wrap_datagram(seal, type, datagram, body_len);

	crypto_aead_chacha20poly1305_ietf_encrypt(body, NULL, body, body_len, datagram,
						  sizeof(struct mc_header), NULL,
						  datagram + offsetof(struct mc_header, sender),
						  seal->key);
	return len;
}

int mc_read_header(const uint8_t *datagram, size_t len, struct mc_header *header)
{
	if (len < MC_OVERHEAD_BYTES)
		return -EBADMSG;
	memcpy(header, datagram, sizeof(*header));
	header->magic = le16toh(header->magic);
	header->sender = le32toh(header->sender);
	header->counter = le64toh(header->counter);
	header->snapshot = le64toh(header->snapshot);
	return header->magic == MC_MAGIC && header->version == MC_VERSION ? 0 : -EBADMSG;
}

int mc_peel_datagram(size_t len, size_t *body_len)
{
	if (len < MC_OVERHEAD_BYTES)
		return -EBADMSG;
	*body_len = len - MC_OVERHEAD_BYTES;
	return 0;
}

int mc_unseal_datagram(const uint8_t key[MC_KEY_BYTES], uint8_t *datagram, size_t len,
		       size_t *body_len)
{
	uint8_t *body = datagram + sizeof(struct mc_header);

	if (len < MC_OVERHEAD_BYTES)
		return -EBADMSG;
	*body_len = len - MC_OVERHEAD_BYTES;
	if (crypto_aead_chacha20poly1305_ietf_decrypt(body, NULL, NULL, body,
						      len - sizeof(struct mc_header), datagram,
						      sizeof(struct mc_header),
						      datagram + offsetof(struct mc_header, sender),
						      key))
		return -EBADMSG;
	return 0;
}
