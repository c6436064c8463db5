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
		return lsf_fail(ECHILD, "this VM is clone %d: waiting is its parent's business", id);
	return id;
}

/* The address of ID 0 plus `id`, which must be an id that is given out. Return: 0. */
static int address_from_base(struct chan *chan, unsigned id, struct in_addr *address)
{
	_cleanup_free_ char *base = lsf_chan_read(chan, SF_XS_ROOT "/net/base");
	int count;

	if (!base)
		return errno == ENOENT ? lsf_fail(ENOENT, "this VM has no network with its clones") : -1;
	if (inet_pton(AF_INET, base, address) != 1)
		return lsf_fail(EPROTO, "XenStore: the network's base is \"%s\"", base);
	count = id ? lsf_chan_number(chan, SF_XS_ROOT "/count") : 0;
	if (count < 0 && errno != ENOENT)
		return -1;
	if (id && (count < 0 || id > (unsigned)count))
		return lsf_fail(ENOENT, "there is no clone %u", id);
	address->s_addr = htonl(ntohl(address->s_addr) + id);
	return 0;
}

int sf_address(unsigned id, char *text, size_t len)
{
	struct chan *chan = lsf_chan_get();
	struct in_addr address;
	int rc;

	if (!chan)
		return -1;
	rc = address_from_base(chan, id, &address);
	lsf_chan_put(chan);
	if (rc)
		return -1;
	if (!text || !inet_ntop(AF_INET, &address, text, (socklen_t)len))
		return lsf_fail(ENOSPC, "no room for an address in %zu bytes", len);
	return 0;
}
