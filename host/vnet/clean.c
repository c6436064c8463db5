/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds what vnet made in this network namespace by its names, and removes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/vnet/filter.h"
#include "host/vnet/names.h"
#include "host/vnet/netif.h"
#include "host/vnet/vnet.h"

/* What a list of interfaces had of ours. */
struct find {
	char (*names)[IF_NAMESIZE];
	size_t count;
	int error;
};

static void keep_ours(const char *name, void *arg)
{
	struct find *find = arg;
	char (*larger)[IF_NAMESIZE];

	if (!names_is_interface(name, NULL))
		return;
	larger = reallocarray(find->names, find->count + 1, sizeof(*larger));
	if (!larger) {
		find->error = -ENOMEM;
		return;
	}
	find->names = larger;
	strncpy(find->names[find->count], name, IF_NAMESIZE - 1);
	find->names[find->count++][IF_NAMESIZE - 1] = '\0';
}

/* Deletes the interfaces found: those of a segment at once, then what was not in its group yet. */
static int delete_found(struct nl_sock *netif, const struct find *find)
{
	struct names_segment names;
	uint32_t vni = 0, last = 0;
	int error, first = 0;

	for (size_t i = 0; i < find->count; i++) {
		names_is_interface(find->names[i], &vni);
		if (i && vni == last)
			continue;
		last = vni;
		names_of_segment(vni, &names);
		netif_delete_group(netif, names.group);
	}
	for (size_t i = 0; i < find->count; i++) {
		error = netif_delete(netif, find->names[i]);
		if (error && error != -ENODEV && !first)
			first = error;
	}
	return first;
}

int vnet_clean(unsigned *removed)
{
	_cleanup_netif_ struct nl_sock *netif = NULL;
	_cleanup_filter_ struct nft_ctx *filter = NULL;
	struct find find = { .names = NULL };
	int error, also;

	*removed = 0;
	error = netif_open(&netif);
	if (!error)
		error = filter_open(&filter);
	if (!error)
		error = netif_list(netif, keep_ours, &find);
	if (!error)
		error = find.error;
	if (!error) {
		error = delete_found(netif, &find);
		*removed = (unsigned)find.count;
		also = filter_clean(filter, removed);
		error = error ? error : also;
	}
	free(find.names);
	return error;
}
