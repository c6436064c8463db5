/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who this VM is, and where the others are. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "config.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/xenstore-tree.h"

const char *sf_version(void)
{
	return PACKAGE_VERSION;
}

int sf_id(void)
{
	return lsf_read_number(SF_XS_ROOT "/id");
}

int sf_count(void)
{
	int count = lsf_read_number(SF_XS_ROOT "/count");

	return count < 0 && errno == ENOENT ? 0 : count;
}

int lsf_must_be_parent(struct chan *chan)
{
	int id = lsf_chan_number(chan, SF_XS_ROOT "/id");

	if (id > 0)
		return lsf_fail(ECHILD, "this VM is clone %d: waiting is its parent's business",
				id);
	return id;
}

/* Parses an address of the tree. Return: 0. */
static int parse_address(const char *text, struct in_addr *address)
{
	if (inet_pton(AF_INET, text, address) == 1)
		return 0;
	return lsf_fail(EPROTO, "XenStore: \"%s\" is no address", text);
}

/* The address that a ticket's clone was given. Return: 0. Errors: ENOENT. */
static int address_of_clone(struct chan *chan, int ticket, unsigned id, struct in_addr *address)
{
	_cleanup_free_ char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/clone/%u/address", ticket, id);
	text = lsf_chan_read(chan, path);
	if (!text)
		return errno == ENOENT ? lsf_fail(ENOENT, "ticket %d has no clone %u", ticket, id)
				       : -1;
	return parse_address(text, address);
}

/* The address of ID 0 plus `id`, which must be an id that is given out. Return: 0. */
static int address_from_base(struct chan *chan, unsigned id, struct in_addr *address)
{
	_cleanup_free_ char *base = lsf_chan_read(chan, SF_XS_ROOT "/net/base");
	int count;

	if (!base && errno == ENOENT)
		return lsf_fail(ENOENT, "this VM has no network with its clones");
	if (!base || parse_address(base, address))
		return -1;
	count = id ? lsf_chan_number(chan, SF_XS_ROOT "/count") : 0;
	if (count < 0 && errno != ENOENT)
		return -1;
	if (id && (count < 0 || id > (unsigned)count))
		return lsf_fail(ENOENT, "there is no clone %u", id);
	address->s_addr = htonl(ntohl(address->s_addr) + id);
	return 0;
}

/*
 * Tries the ticket of this process's last sf_clone(), then that of the VM's last operation (in a
 * clone, its own), then reckons from the base. Return: 0.
 */
static int address_of_id(struct chan *chan, unsigned id, struct in_addr *address)
{
	int ticket = id ? lsf_simple_ticket() : -1;

	if (ticket > 0 && !address_of_clone(chan, ticket, id, address))
		return 0;
	ticket = id ? lsf_chan_number(chan, SF_XS_ROOT "/last-ticket") : -1;
	if (ticket > 0 && !address_of_clone(chan, ticket, id, address))
		return 0;
	return address_from_base(chan, id, address);
}

static int write_address(struct in_addr address, char *text, size_t len)
{
	if (text && inet_ntop(AF_INET, &address, text, (socklen_t)len))
		return 0;
	return lsf_fail(ENOSPC, "no room for an address in %zu bytes", len);
}

int sf_address(unsigned id, char *text, size_t len)
{
	struct chan *chan = lsf_chan_get();
	struct in_addr address;
	int rc;

	if (!chan)
		return -1;
	rc = address_of_id(chan, id, &address);
	lsf_chan_put(chan);
	return rc ? -1 : write_address(address, text, len);
}

int sf_address_ticket(int ticket, unsigned id, char *text, size_t len)
{
	struct chan *chan = lsf_chan_get();
	struct in_addr address;
	int rc;

	if (!chan)
		return -1;
	rc = id ? address_of_clone(chan, ticket, id, &address)
		: address_from_base(chan, 0, &address);
	lsf_chan_put(chan);
	return rc ? -1 : write_address(address, text, len);
}
