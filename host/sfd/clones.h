/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones on this host, of any home's guests (ours among them): proto/peer.h, answered. */
#ifndef HOST_SFD_CLONES_H
#define HOST_SFD_CLONES_H

#include "host/sfd/family.h"
#include "host/sfd/peers.h"

/* Handlers of requests from homes: each answers `r`, now or later. */
void clones_reserve(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len);
void clones_start(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len);
void clones_kill(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		 size_t len);
void clones_release(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len);
void clones_dismiss(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len);

/* The page file of a ticket's share here, or -1. */
int clones_lot_file(struct family *f, unsigned ticket);

/* A family goes with its clones; so do all of a home's families. */
void clones_family_end(struct family *f);
void clones_home_lost(struct daemon *d, struct host *home);
/* Its memtap is given up: the clones are reported lost. */
void clones_family_failed(struct family *f);

/* The clone of this ID that is here; NULL if it is not. */
struct vm *clones_find(struct daemon *d, const char *id);

/* Appends a description of every clone here to an array. */
void clones_list(struct daemon *d, json_t *array);

#endif
