/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The message that starts a ticket's clones (proto/peer.h), taken apart and checked. */
#ifndef HOST_SFD_START_H
#define HOST_SFD_START_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "host/sfd/distribution.h"
#include "host/vmm/vmm.h"
#include "proto/kmod.h"
#include "proto/memtap.h"
#include "proto/xenstore-tree.h"

struct start_clone {
	unsigned id, slot, serial;
};

/* A disk as of the same instant. */
struct start_disk {
	uint64_t snapshot;
	uint8_t key[MEMTAP_KEY_BYTES];
	uint16_t pages;	    /* UDP port of home's memtap for it */
	struct route route; /* as that of memory */
};

struct start {
	unsigned number, ticket, file, checkpoint;
	uint16_t pages; /* UDP port of home's memtap */
	uint64_t snapshot, quiesce;
	uint8_t key[MEMTAP_KEY_BYTES];
	char request[SF_XS_KEY_MAX + 1];
	json_t *cancel, *streams;	      /* arrays; the message's */
	const uint8_t *descriptor, *dead, *xs_state; /* the message's bytes */
	size_t descriptor_bytes, xs_bytes;
	size_t dead_bytes;	/* 0: the guest was not held, or else … */
	struct sfk_window head; /* … this is what its window said */
	struct start_clone *clones; /* of all hosts */
	unsigned count;
	struct route route; /* its node 0, home, has no address yet */
	struct start_disk disks[VMM_MAX_DISKS];
	unsigned disk_count;
};

/* Return: 0, then start_fini() it, before the message goes; or -EINVAL, -ENOMEM. */
int start_parse(struct start *s, json_t *msg, const uint8_t *bytes, size_t len);
void start_fini(struct start *s);

#endif
