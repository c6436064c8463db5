/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names and addresses that follow from a VNI and an ID alone, so that nothing has to be remembered.
 *
 *   interface  sfb<vni>       bridge, carries the gateway address
 *              sfx<vni>       VXLAN tunnel to the other hosts
 *              sft<vni>-<id>  tap of one VM
 *   nftables   sf-<vni>       tables of a segment (families netdev and inet)
 *              sf-forward     exists while IP forwarding is on for our sake
 *
 * VNIs are six hexadecimal digits, IDs as many as they need (at most four).
 */
#ifndef HOST_VNET_NAMES_H
#define HOST_VNET_NAMES_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/vnet/vnet.h"

#define NAMES_MAC_TEXT_BYTES 18		/* "46:00:00:2a:00:05" and the zero */
#define NAMES_TABLE_BYTES 16		/* room for any table name of ours */
#define NAMES_FORWARD_TABLE VNET_NAME_PREFIX "-forward"
#define NAMES_BRIDGE_PREFIX VNET_NAME_PREFIX "b"
#define NAMES_GATEWAY_ID 0xffffu	/* its MAC is the gateway's; no VM has it */

struct names_segment {
	char bridge[IF_NAMESIZE];
	char tunnel[IF_NAMESIZE];
	char table[NAMES_TABLE_BYTES];
	uint32_t group;			/* of all its interfaces, to delete them at once */
};

/* Fills in what a segment's things are called. */
void names_of_segment(uint32_t vni, struct names_segment *names);

/* Name of a VM's tap. */
void names_of_tap(uint32_t vni, unsigned id, char tap[IF_NAMESIZE]);

/* Text of vnet_mac(). */
void names_of_mac(uint32_t vni, unsigned id, char text[NAMES_MAC_TEXT_BYTES]);

/* True for a name that vnet gives to interfaces; *vni (may be NULL) gets its segment. */
bool names_is_interface(const char *name, uint32_t *vni);

/* True for a name that vnet gives to nftables tables. */
bool names_is_table(const char *name);

#endif
