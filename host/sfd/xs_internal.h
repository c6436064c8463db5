/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the XenStore server share: its state, and the guest's access to the tree. */
#ifndef HOST_SFD_XS_INTERNAL_H
#define HOST_SFD_XS_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "host/sfd/xs_out.h"
#include "host/sfd/xs_path.h"
#include "host/sfd/xs_server.h"
#include "host/sfd/xs_transaction.h"
#include "host/sfd/xs_tree.h"
#include "host/sfd/xs_watch.h"

#define XS_DOMID_MAX 0x7fefu	/* above are Xen's reserved ones */

struct xs_server {
	unsigned domid;
	char home[XS_HOME_SIZE];
	struct xs_limits limits;
	struct xs_hooks hooks;
	void *arg;

	uint64_t generation;	/* of the last change in any tree */
	struct xs_tree tree;
	struct xs_watches watches;
	struct xs_transactions transactions;

	bool held;
	bool broken;		/* the guest's stream can't be followed any more */
	struct xs_out out;
	uint64_t received;	/* bytes */
	uint64_t sent;		/* bytes */
	struct xsd_sockmsg in_head;	/* in host order once it is complete */
	char in_payload[XENSTORE_PAYLOAD_MAX];
	size_t in_bytes;	/* of head and payload together */
};

/* Return: a server without a tree, to be filled, or NULL (errno). */
struct xs_server *xs_alloc(unsigned domid, const struct xs_limits *limits,
			   const struct xs_hooks *hooks, void *arg);

/* Permissions of what the host makes for itself, and for the guest. */
struct xs_perms xs_perms_host(unsigned domid);
struct xs_perms xs_perms_guest(unsigned domid);

/* Sends what waits; while held, answers alone. */
void xs_flush(struct xs_server *xs);

/* Hands a change that the guest made to the hook. */
void xs_tell_host(struct xs_server *xs, const char *path, bool removed);

struct xs_request {
	struct xsd_sockmsg head;
	const char *payload;
	size_t len;
};

/* Handles one request and queues the answer. Return: 0, or -ENOMEM if it can't be answered. */
int xs_request_handle(struct xs_server *xs, const struct xs_request *request);

/*
 * The guest's access, in the transaction `ta` or (NULL) outside, by absolute paths. Return: 0 or
 * -errno: -EACCES also for what is not there, if the guest may not know.
 */
int xs_guest_find(struct xs_server *xs, struct xs_transaction *ta, const char *path, unsigned may,
		  struct xs_node **node);
int xs_guest_write(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		   const void *value, size_t len);
/* Makes a node, if it does not exist. */
int xs_guest_make(struct xs_server *xs, struct xs_transaction *ta, const char *path);
/* Removes a node and all below it; refuses if the guest may not write one of them. */
int xs_guest_remove(struct xs_server *xs, struct xs_transaction *ta, const char *path);
int xs_guest_set_perms(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		       const struct xs_perms *perms);

#endif
