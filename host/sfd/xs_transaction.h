/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions: a tree of its own, and a list of what was looked at and changed in it.
 *
 * A transaction begins with the tree as it is then. Whatever it looks at is written down with the
 * generation found. At the end each of these is compared with the server's tree: if one differs,
 * somebody else changed it meanwhile, and the transaction fails with EAGAIN. Else its changes are
 * made to the server's tree, all or none, and the watches fire.
 */
#ifndef HOST_SFD_XS_TRANSACTION_H
#define HOST_SFD_XS_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "host/sfd/xs_tree.h"

#define XS_TOUCHES_MAX 1024			/* nodes that one transaction may look at */
#define XS_TRANSACTION_BYTES_MAX (1u << 20)	/* paths and values that one may hold */

struct xs_server;

enum xs_touch_flags {
	XS_TOUCH_CHANGED = 1,	/* written, made, removed, given permissions */
	XS_TOUCH_TOLD = 2,	/* the host is told (written, made, removed by name) */
	XS_TOUCH_FIRE = 4,	/* watches fire, those on the node itself at least */
	XS_TOUCH_ABOVE = 8,	/* watches on what is above fire too */
	XS_TOUCH_ALL = 15
};

struct xs_touch {
	uint64_t seen;		/* generation at the first look; 0: not there */
	unsigned flags;		/* enum xs_touch_flags */
	char path[];
};

struct xs_transaction {
	TAILQ_ENTRY(xs_transaction) link;
	uint32_t id;		/* never 0 */
	bool failed;		/* a limit was hit half-way: can't be committed */
	struct xs_tree tree;
	struct xs_touch **touches;	/* by path */
	unsigned ntouches;
	unsigned room;
	uint32_t bytes;		/* against XS_TRANSACTION_BYTES_MAX */
};

struct xs_transactions {
	TAILQ_HEAD(, xs_transaction) list;
	unsigned count;
	uint32_t next_id;
};

void xs_transactions_init(struct xs_transactions *all);
/* Drops all. */
void xs_transactions_clear(struct xs_transactions *all);

struct xs_transaction *xs_transaction_find(const struct xs_transactions *all, uint32_t id);

/* Begins one on `tree`; id 0: chooses a free one. Return: it, or NULL (errno EEXIST, ENOMEM). */
struct xs_transaction *xs_transaction_begin(struct xs_transactions *all, uint32_t id,
					    const struct xs_tree *tree);
void xs_transaction_drop(struct xs_transactions *all, struct xs_transaction *ta);

/*
 * Writes down a look at `path`, before any change there, and adds `flags` and `bytes` (of a value).
 * Return: 0, -ENOSPC or -ENOMEM, after which the transaction can't be committed.
 */
int xs_transaction_touch(struct xs_transaction *ta, const char *path, unsigned flags,
			 size_t bytes);

/* Adds an entry as it is: for restoring. Return: 0, -EEXIST, -ENOSPC or -ENOMEM. */
int xs_transaction_note(struct xs_transaction *ta, const char *path, uint64_t seen,
			unsigned flags);

/*
 * Makes the transaction's changes to the server's tree, fires watches and tells the host. It is
 * the caller's to drop, taken out of the server's list. Return: 0, -EAGAIN after a conflict,
 * -ENOSPC or -ENOMEM, the tree unchanged.
 */
int xs_transaction_commit(struct xs_server *xs, struct xs_transaction *ta);

#endif
