/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chooses modes, numbers members. */
#include "host/sfd/distribution.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/guest.h"

static const char *const wishes[] = { "auto", "multicast", "tree", "unicast" };
static const char *const modes[] = { "unicast", "multicast", "tree" };
_Static_assert(ARRAY_SIZE(wishes) == DISTRIBUTE_UNICAST + 1, "a word for each");
_Static_assert(ARRAY_SIZE(modes) == MC_MODES, "a word for each mode");

/* Return: where the text is in `words`, or -EINVAL. */
static int word_find(const char *const *words, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(text, words[i]))
			return (int)i;
	}
	return -EINVAL;
}

int distribution_parse(const char *text, enum distribution *wish)
{
	int found = word_find(wishes, ARRAY_SIZE(wishes), text);

	if (found >= 0)
		*wish = (enum distribution)found;
	return found < 0 ? found : 0;
}

const char *distribution_name(enum distribution wish)
{
	return wishes[wish];
}

const char *mc_mode_name(enum mc_mode mode)
{
	return modes[mode];
}

int mc_mode_parse(const char *text, enum mc_mode *mode)
{
	int found = word_find(modes, ARRAY_SIZE(modes), text);

	if (found >= 0)
		*mode = (enum mc_mode)found;
	return found < 0 ? found : 0;
}

enum mc_mode distribution_choose(enum distribution wish, unsigned members, unsigned hear)
{
	switch (wish) {
	case DISTRIBUTE_MULTICAST:
		return MC_MULTICAST;
	case DISTRIBUTE_TREE:
		return MC_TREE;
	case DISTRIBUTE_UNICAST:
		return MC_UNICAST;
	case DISTRIBUTE_AUTO:
		break;
	}
	if (members < 2) /* the answers to one go to that one */
		return MC_UNICAST;
	return hear == members ? MC_MULTICAST : MC_TREE;
}

static bool has_child_on(const struct ticket *t, const struct host *host)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (t->children[i].host == host)
			return true;
	}
	return false;
}

/* Counts the hosts that are to be members: a ticket's, or all that are up. Ours needs no network. */
static enum mc_mode choose_for(const struct daemon *d, const struct ticket *t)
{
	unsigned members = 0, hear = 0;

	for (unsigned i = 0; i < d->host_count; i++) {
		const struct host *host = &d->hosts[i];

		if (host == d->self || !(t ? has_child_on(t, host) : host->up))
			continue;
		members++;
		hear += host->hears;
	}
	return distribution_choose(d->config.distribution, members, hear);
}

enum mc_mode distribution_of_all(const struct daemon *d)
{
	return choose_for(d, NULL);
}

struct memtap_source memtap_at(struct in_addr addr, uint16_t port)
{
	struct memtap_source source = { .addr = { .sin6_family = AF_INET6,
						  .sin6_port = htons(port) } };
	uint8_t *bytes = source.addr.sin6_addr.s6_addr;

	bytes[10] = bytes[11] = 0xff;
	memcpy(&bytes[12], &addr, sizeof(addr));
	return source;
}

struct in_addr memtap_at_address(const struct memtap_source *source)
{
	struct in_addr addr;

	memcpy(&addr, &source->addr.sin6_addr.s6_addr[12], sizeof(addr));
	return addr;
}

/* ---- routes ---- */

uint32_t route_find(const struct route *r, struct in_addr addr, uint16_t port)
{
	struct memtap_source wanted = memtap_at(addr, port);

	for (uint32_t i = 1; i < r->nodes; i++) {
		if (!memcmp(&r->at[i], &wanted, sizeof(wanted)))
			return i;
	}
	return 0;
}

int route_add(struct route *r, struct in_addr addr, uint16_t port)
{
	struct memtap_source *larger;

	if (route_find(r, addr, port))
		return 0;
	if (r->nodes >= MC_MAX_MEMBERS)
		return -ENOSPC;
	larger = reallocarray(r->at, r->nodes + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	r->at = larger;
	r->at[r->nodes++] = memtap_at(addr, port);
	return 0;
}

int route_add_ticket(struct route *r, const struct daemon *d, const struct ticket *t, int disk)
{
	int rc = 0;

	for (unsigned i = 0; i < t->count && !rc; i++) {
		const struct child *c = &t->children[i];

		if (c->host != d->self)
			rc = route_add(r, c->host->addr,
				       disk == ROUTE_MEMORY ? c->pages_port : c->disk_ports[disk]);
	}
	return rc;
}

int route_begin(struct route *r, const struct daemon *d, uint16_t port, const struct ticket *t,
		int disk)
{
	int rc;

	*r = (struct route){ .mode = choose_for(d, t),
			     .push_pages = disk == ROUTE_MEMORY ? d->config.push_pages : 0,
			     .compress = d->config.compress };
	rc = route_add(r, d->self->addr, port);
	if (!rc && t)
		rc = route_add_ticket(r, d, t, disk);
	if (rc)
		route_fini(r);
	return rc;
}

void route_fini(struct route *r)
{
	free(steal_ptr(&r->at));
	r->nodes = 0;
}
