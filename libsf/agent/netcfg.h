/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's own address on the segment, by rtnetlink. */
#ifndef AGENT_NETCFG_H
#define AGENT_NETCFG_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/agent-port.h"

struct netcfg {
	bool off;		/* leave the network alone */
	const char *nic;
	int fd;			/* rtnetlink; -1: not needed yet */
	int nic_index;		/* 0: no such NIC */
	uint32_t address;	/* as it is set now, network byte order; 0: none */
	uint8_t prefix;
	uint8_t prefix6;	/* 0: no IPv6 */
	uint8_t address6[16];
	uint8_t mac[6];
	uint32_t id;
};

/* `nic` is the interface on the segment; `off` makes netcfg_apply() do nothing. */
void netcfg_init(struct netcfg *netcfg, const char *nic, bool off);

/*
 * Makes the NIC what `resume` says: MAC, addresses, default route; brings it and the loopback up
 * when the VM has just booted. What is so already is not touched. Return: 0 or -errno.
 */
int netcfg_apply(struct netcfg *netcfg, const struct agent_resume *resume);

/* Takes note that the NIC is what `resume` says: the kernel module made it so. */
void netcfg_take(struct netcfg *netcfg, const struct agent_resume *resume);

/* Return: the interface's name; "" if the network is left alone. */
const char *netcfg_nic(const struct netcfg *netcfg);

#endif
