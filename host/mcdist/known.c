/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash of addresses. */
#include "host/mcdist/known.h"

#include <stdlib.h>

#include "host/mcdist/address.h"
#include "proto/mcdist.h"

struct mc_known_member {
	LIST_ENTRY(mc_known_member) link;
	struct mc_address at;
};

void mc_known_fini(struct mc_known *known)
{
	struct mc_known_member *m;

	for (unsigned i = 0; i < MC_KNOWN_BUCKETS; i++) {
		while ((m = LIST_FIRST(&known->buckets[i]))) {
			LIST_REMOVE(m, link);
			free(m);
		}
	}
	known->count = 0;
}

static const struct mc_known_member *find(const struct mc_known *known,
					  const struct mc_address *member)
{
	const struct mc_known_member *m;

	LIST_FOREACH(m, &known->buckets[mc_address_hash(member) % MC_KNOWN_BUCKETS], link) {
		if (mc_address_is(&m->at, member))
			break;
	}
	return m;
}

bool mc_known_has(const struct mc_known *known, const struct mc_address *member)
{
	return find(known, member) || known->count >= MC_MAX_MEMBERS;
}

void mc_known_add(struct mc_known *known, const struct mc_address *member)
{
	struct mc_known_member *m;

	if (mc_known_has(known, member))
		return;
	m = malloc(sizeof(*m));
	if (!m)
		return;
	m->at = *member;
	LIST_INSERT_HEAD(&known->buckets[mc_address_hash(member) % MC_KNOWN_BUCKETS], m, link);
	known->count++;
}
