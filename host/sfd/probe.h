/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who hears whose multicast: found out when a host comes up, and again once in a while, since a
 * switch may forget a group that nobody asks about. Whether a host hears us is in its struct host.
 */
#ifndef HOST_SFD_PROBE_H
#define HOST_SFD_PROBE_H

#include "host/sfd/daemon.h"
#include "host/sfd/peers.h"

/* Without multicast here nobody hears us and we hear nobody; that is no error. Return: 0 or -ENOMEM. */
int probe_start(struct daemon *d);
void probe_stop(struct daemon *d);

/* A host came up: does it hear us? daemon_host_up() is called when that is known. */
void probe_ask(struct daemon *d, struct host *host);

/* True if nothing has to be found out about the hosts that are up. */
bool probe_settled(const struct daemon *d);

/* The request "hear". */
void probe_hear(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		size_t len);

/*
 * A socket that hears a group on this host's wire: bound to it, non-blocking, not a member yet.
 * Return: the descriptor, or -errno.
 */
int probe_group_socket(const struct sockaddr_in *group);
/* Makes a socket send to groups by the wire with this address, no farther than that. */
int probe_send_from(int fd, struct in_addr addr);
int probe_join(int fd, struct in_addr group, struct in_addr addr);

#endif
