/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses compared, and by a hash. */
#ifndef MCDIST_ADDRESS_H
#define MCDIST_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "host/mcdist/transport.h"

static inline bool mc_address_is(const struct mc_address *a, const struct mc_address *b)
{
	return a->len == b->len && !memcmp(&a->at, &b->at, a->len);
}

/* FNV-1a. */
static inline uint64_t mc_address_hash(const struct mc_address *a)
{
	const uint8_t *bytes = (const uint8_t *)&a->at;
	uint64_t hash = 0xcbf29ce484222325ull;

	for (socklen_t i = 0; i < a->len; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

#endif
