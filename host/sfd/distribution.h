/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the pages of a snapshot travel (proto/mcdist.h): what is wanted, what is possible, and who is
 * which node.
 *
 * The mode is chosen when the guest is frozen, for the hosts that its clones are prepared on: by
 * multicast where all of them hear us, else in a tree, or by unicast if there is only one. Of a
 * checkpoint's clones nobody knows yet where they will be: there, all hosts must hear us. Members
 * are numbered in the order in which they come, and keep their numbers.
 */
#ifndef HOST_SFD_DISTRIBUTION_H
#define HOST_SFD_DISTRIBUTION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/mcdist.h"
#include "proto/memtap.h"

struct daemon;
struct ticket;

enum distribution { DISTRIBUTE_AUTO, DISTRIBUTE_MULTICAST, DISTRIBUTE_TREE, DISTRIBUTE_UNICAST };

/* Return: 0, or -EINVAL. */
int distribution_parse(const char *text, enum distribution *wish);
const char *distribution_name(enum distribution wish);

/* "unicast", "multicast", "tree". mc_mode_parse: 0 or -EINVAL. */
const char *mc_mode_name(enum mc_mode mode);
int mc_mode_parse(const char *text, enum mc_mode *mode);

/* The mode for so many members, of which so many hear us. */
enum mc_mode distribution_choose(enum distribution wish, unsigned members, unsigned hear);

/* What it would be for all other hosts that are up. */
enum mc_mode distribution_of_all(const struct daemon *d);

/* Where the nodes are and how pages go between them: one snapshot's. */
struct route {
	enum mc_mode mode;
	uint32_t push_pages; /* per second */
	bool compress;
	struct memtap_source *at; /* [node]; 0: the source */
	uint32_t nodes;		  /* at least 1 when it was begun */
};

#define ROUTE_MEMORY (-1) /* instead of the number of a disk */

/*
 * A new one, of memory or of a disk, chosen for the hosts of `ticket`, or of all that may come.
 * Nobody needs all of a disk: it is not pushed. Return: 0 or -ENOMEM.
 */
int route_begin(struct route *r, const struct daemon *d, uint16_t port, const struct ticket *t,
		int disk);
/* Adds the hosts of a ticket that are not in it yet. Return: 0 or -ENOMEM. */
int route_add_ticket(struct route *r, const struct daemon *d, const struct ticket *t, int disk);
/* Adds a node; one that is there already stays where it is. Return: 0 or -ENOMEM, -ENOSPC. */
int route_add(struct route *r, struct in_addr addr, uint16_t port);
/* Return: the node that is there, or 0. */
uint32_t route_find(const struct route *r, struct in_addr addr, uint16_t port);
void route_fini(struct route *r);

/* An IPv4 address and port as memtap wants them. */
struct memtap_source memtap_at(struct in_addr addr, uint16_t port);
struct in_addr memtap_at_address(const struct memtap_source *source);

#endif
