/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions: a tree of its own, and a list of what was looked at and changed in it. */
#include "host/sfd/xs_transaction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/sfd/xs_internal.h"

void xs_transactions_init(struct xs_transactions *all)
{
	TAILQ_INIT(&all->list);
	all->count = 0;
	all->next_id = 1;
}

void xs_transactions_clear(struct xs_transactions *all)
{
	while (!TAILQ_EMPTY(&all->list))
		xs_transaction_drop(all, TAILQ_FIRST(&all->list));
}

struct xs_transaction *xs_transaction_find(const struct xs_transactions *all, uint32_t id)
{
	struct xs_transaction *ta;

	TAILQ_FOREACH(ta, &all->list, link)
		if (ta->id == id)
			return ta;
	return NULL;
}

static uint32_t free_id(struct xs_transactions *all)
{
	uint32_t id;

	do {
		id = all->next_id++;
	} while (!id || xs_transaction_find(all, id));
	return id;
}

struct xs_transaction *xs_transaction_begin(struct xs_transactions *all, uint32_t id,
					    const struct xs_tree *tree)
{
	struct xs_transaction *ta;

	if (id && xs_transaction_find(all, id)) {
		errno = EEXIST;
		return NULL;
	}
	ta = calloc(1, sizeof(*ta));
	if (!ta)
		return NULL;
	ta->id = id ? id : free_id(all);
	xs_tree_init_copy(&ta->tree, tree);
	TAILQ_INSERT_TAIL(&all->list, ta, link);
	all->count++;
	return ta;
}

void xs_transaction_drop(struct xs_transactions *all, struct xs_transaction *ta)
{
	TAILQ_REMOVE(&all->list, ta, link);
	all->count--;
	for (unsigned i = 0; i < ta->ntouches; i++)
		free(ta->touches[i]);
	free(ta->touches);
	xs_tree_fini(&ta->tree);
	free(ta);
}

/* Looks for an entry. Return: where it is (*found) or would be. */
static unsigned touch_index(const struct xs_transaction *ta, const char *path, bool *found)
{
	unsigned low = 0, high = ta->ntouches;

	*found = false;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = strcmp(ta->touches[middle]->path, path);

		if (!order) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int reserve_touch(struct xs_transaction *ta)
{
	unsigned room = ta->room * 2 + 8;
	struct xs_touch **touches;

	if (ta->ntouches < ta->room)
		return 0;
	touches = reallocarray(ta->touches, room, sizeof(*touches));
	if (!touches)
		return -ENOMEM;
	ta->touches = touches;
	ta->room = room;
	return 0;
}

int xs_transaction_note(struct xs_transaction *ta, const char *path, uint64_t seen,
			unsigned flags)
{
	size_t size = strlen(path) + 1;
	struct xs_touch *touch;
	unsigned at;
	bool found;

	at = touch_index(ta, path, &found);
	if (found)
		return -EEXIST;
	if (ta->ntouches == XS_TOUCHES_MAX || ta->bytes + size > XS_TRANSACTION_BYTES_MAX)
		return -ENOSPC;
	touch = reserve_touch(ta) ? NULL : malloc(sizeof(*touch) + size);
	if (!touch)
		return -ENOMEM;
	touch->seen = seen;
	touch->flags = flags;
	memcpy(touch->path, path, size);
	memmove(ta->touches + at + 1, ta->touches + at, (ta->ntouches - at) * sizeof(touch));
	ta->touches[at] = touch;
	ta->ntouches++;
	ta->bytes += (uint32_t)size;
	return 0;
}

int xs_transaction_touch(struct xs_transaction *ta, const char *path, unsigned flags, size_t bytes)
{
	const struct xs_node *node;
	unsigned at;
	bool found;
	int err = 0;

	at = touch_index(ta, path, &found);
	if (found) {
		ta->touches[at]->flags |= flags;
	} else {
		node = xs_tree_find(&ta->tree, path);
		err = xs_transaction_note(ta, path, node ? node->generation : 0, flags);
	}
	if (!err && ta->bytes + bytes > XS_TRANSACTION_BYTES_MAX)
		err = -ENOSPC;
	if (err)
		ta->failed = true;
	else
		ta->bytes += (uint32_t)bytes;
	return err;
}

static bool conflicts(const struct xs_server *xs, const struct xs_transaction *ta)
{
	for (unsigned i = 0; i < ta->ntouches; i++) {
		const struct xs_touch *touch = ta->touches[i];
		const struct xs_node *node = xs_tree_find(&xs->tree, touch->path);

		if ((node ? node->generation : 0) != touch->seen)
			return true;
	}
	return false;
}

/* Makes one node of `tree` what it is in the transaction. Return: 0 or -errno. */
static int apply_one(struct xs_tree *tree, const struct xs_transaction *ta, const char *path)
{
	const struct xs_node *from = xs_tree_find(&ta->tree, path);
	struct xs_node *node = xs_tree_find(tree, path);

	if (!from)
		return node ? xs_tree_remove(tree, path, NULL) : 0;
	if (node)
		node = xs_tree_edit(tree, path);
	else
		node = xs_tree_add(tree, path, &from->perms);
	if (!node)
		return -errno;
	xs_tree_set_perms(tree, node, &from->perms);
	return xs_node_set_value(node, from->value, from->value_len);
}

/* The touches are in the order of their paths, so parents are made before their children. */
static int apply(struct xs_tree *tree, const struct xs_transaction *ta)
{
	for (unsigned i = 0; i < ta->ntouches; i++) {
		int err = 0;

		if (ta->touches[i]->flags & XS_TOUCH_CHANGED)
			err = apply_one(tree, ta, ta->touches[i]->path);
		if (err)
			return err;
	}
	return 0;
}

/* Fires watches and tells the host; `before` is the tree without the changes. */
static void announce(struct xs_server *xs, const struct xs_transaction *ta,
		     const struct xs_tree *before)
{
	for (unsigned i = 0; i < ta->ntouches; i++) {
		const struct xs_touch *touch = ta->touches[i];
		const struct xs_node *node = xs_tree_find(before, touch->path);

		if (touch->flags & XS_TOUCH_FIRE)
			xs_watch_changed(xs, touch->path, node ? &node->perms : NULL,
					 touch->flags & XS_TOUCH_ABOVE ? XS_MATCH_ABOVE :
									 XS_MATCH_EXACT);
	}
	for (unsigned i = 0; i < ta->ntouches; i++)
		if (ta->touches[i]->flags & XS_TOUCH_TOLD)
			xs_tell_host(xs, ta->touches[i]->path,
				     !xs_tree_find(&ta->tree, ta->touches[i]->path));
}

int xs_transaction_commit(struct xs_server *xs, struct xs_transaction *ta)
{
	struct xs_tree before = xs->tree, after;
	int err;

	if (ta->failed)
		return -ENOSPC;
	if (conflicts(xs, ta))
		return -EAGAIN;
	xs_tree_init_copy(&after, &xs->tree);
	err = apply(&after, ta);
	if (!err && after.owned > xs->limits.nodes && after.owned > before.owned)
		err = -ENOSPC;
	if (err) {
		xs_tree_fini(&after);
		return err;
	}
	xs->tree = after;
	announce(xs, ta, &before);
	xs_tree_fini(&before);
	return 0;
}
