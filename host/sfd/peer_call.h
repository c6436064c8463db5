/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls to other daemons and requests of theirs, above the links (peers.c). Calls to ourselves take
 * the same way, through a queue that the event loop empties, so that `done` never comes early and
 * the order is that of sending, as on a link.
 */
#ifndef HOST_SFD_PEER_CALL_H
#define HOST_SFD_PEER_CALL_H

#include "host/sfd/peers.h"

struct peer_calls;

/* Return: NULL without memory. */
struct peer_calls *peer_calls_new(struct daemon *d);

/* Ends what is open, after the links are closed: calls get -ECANCELED, requests no answer. */
void peer_calls_free(struct peer_calls *calls);

/* A message came in over `link` (NULL: from ourselves) from a host that has introduced itself. */
void peer_dispatch(struct daemon *d, struct host *from, struct link *link, json_t *msg,
		   const uint8_t *bytes, size_t len);

/* The link is gone: requests that came over it need no answer. */
void peer_requests_orphan(struct daemon *d, struct link *link);

#endif
