/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there is, as JSON: for sfctl's listings and for other hosts. */
#ifndef HOST_SFD_LISTING_H
#define HOST_SFD_LISTING_H

#include "host/sfd/guest.h"

/* Of this host, for a peer (proto/peer.h). */
void listing_room(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len);
void listing_vms(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		 size_t len);

/* Of the cluster, for sfctl (proto/control.h): answered when every host has said its part. */
void listing_ps(struct daemon *d, struct link *link, json_t *request);
void listing_hosts(struct daemon *d, struct link *link, json_t *request);
void listing_show(struct daemon *d, struct link *link, json_t *request);

/* Nobody waits for an answer on this link any more. */
void listing_link_lost(struct link *link);

/* The record of a guest's clone operations, a new reference. */
json_t *listing_record(const struct guest *g);

/* The request "memory". */
void listing_memory(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len);

#endif
