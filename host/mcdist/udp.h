/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A transport: UDP sockets on libevent. */
#ifndef MCDIST_UDP_H
#define MCDIST_UDP_H

#include <netinet/in.h>

#include "host/mcdist/transport.h"

struct event_base;

/*
 * Takes over `sock`, a bound UDP socket (AF_INET or AF_INET6), and `group_sock` (-1: none), if it
 * works. What is sent to groups arrives at the latter: it is bound to the port that all groups
 * have, with SO_REUSEADDR. Both may be of another network namespace. Return: the caller's to
 * destroy after its endpoint, or NULL (errno).
 */
struct mc_transport *mc_udp_create(struct event_base *base, int sock, int group_sock);
void mc_udp_destroy(struct mc_transport *transport);

/*
 * An IPv6 or mapped IPv4 address (family 0: no address) for the socket's own family. Return: false
 * if it has none there.
 */
bool mc_udp_address(const struct mc_transport *transport, const struct sockaddr_in6 *in6,
		    struct mc_address *out);

#endif
