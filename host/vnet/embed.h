/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts on one machine: network namespaces joined by a bridge that stands in for the wire.
 *
 * A cluster named C with N hosts has the namespaces sf-C-wire (a bridge, and slirp4netns as the way
 * to the outside) and sf-C-h1 … sf-C-hN (one interface `eth0`, address EMBED_SUBNET.k, default
 * route to the wire). The machine's own namespace is not touched.
 */
#ifndef HOST_VNET_EMBED_H
#define HOST_VNET_EMBED_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/types.h>

#define EMBED_MAX_HOSTS 64
#define EMBED_MAX_NAME 40	/* bytes in a cluster's name: [a-z0-9-] */

/* Address of host `k` (1…). */
struct in_addr embed_address(unsigned k);

/*
 * Makes the namespaces. *router gets the pid of the process that is the way to the outside, 0 if
 * slirp4netns is not installed (a warning says so). Return: 0, or -errno with a sentence in `why`
 * and nothing left behind; -EEXIST if there is such a cluster.
 */
int embed_create(const char *cluster, unsigned hosts, pid_t *router, char *why, size_t why_bytes);

/* Enters the namespace of host `k` (0: the wire) with the calling thread. Return: 0 or -errno. */
int embed_enter(const char *cluster, unsigned k);

/* Ends the router and removes every namespace of the cluster. Return: how many there were. */
int embed_destroy(const char *cluster);

/* Calls `each` with the name of every cluster that has a namespace here. Return: 0 or -errno. */
int embed_list(void (*each)(const char *cluster, void *arg), void *arg);

#endif
