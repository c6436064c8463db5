/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * router: slirp4netns, the way from a cluster's wire to the outside without touching the machine's
 * own network.
 *
 * It runs on its own, outlives the process that started it, and is known by what its command line
 * says: no file tells its pid, and so none can be wrong.
 */
#ifndef HOST_VNET_ROUTER_H
#define HOST_VNET_ROUTER_H

#include <sys/types.h>

#include "host/vnet/why.h"

#define ROUTER_TAP "tap0"	/* in the namespace, with its address and default route */

/*
 * Starts it for a named network namespace and waits until the interface is configured. Return: 0
 * and *pid, or -errno with a sentence; -ENOENT if slirp4netns is not installed.
 */
int router_start(const char *netns, pid_t *pid, const struct why *why);

/* Ends every one of a namespace, and waits until they are gone. */
void router_stop(const char *netns);

#endif
