/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's access to the tree: permissions, quotas, what fires and who is told. */
#include <errno.h>
#include <string.h>

#include "host/sfd/xs_internal.h"

static struct xs_tree *tree_of(struct xs_server *xs, struct xs_transaction *ta)
{
	return ta ? &ta->tree : &xs->tree;
}

static int touch(struct xs_transaction *ta, const char *path, unsigned flags, size_t bytes)
{
	return ta ? xs_transaction_touch(ta, path, flags, bytes) : 0;
}

/* A change was begun and can't be finished: `err` is passed on. */
static int give_up(struct xs_transaction *ta, int err)
{
	if (ta)
		ta->failed = true;
	return err;
}

/* Return: the lowest ancestor that exists, the root if no other; *len is that of its path. */
static struct xs_node *nearest_ancestor(const struct xs_tree *tree, const char *path, size_t *len)
{
	char at[XS_PATH_SIZE];
	struct xs_node *node;

	strcpy(at, path);
	do {
		*len = xs_path_parent_len(at);
		at[*len] = '\0';
		node = xs_tree_find(tree, at);
	} while (!node);
	return node;
}

/*
 * A node can be open to those who may not look at its parents; but what is wrong with it is not
 * told to them.
 */
int xs_guest_find(struct xs_server *xs, struct xs_transaction *ta, const char *path, unsigned may,
		  struct xs_node **node)
{
	const struct xs_tree *tree = tree_of(xs, ta);
	const struct xs_node *ancestor;
	size_t len;
	int err = touch(ta, path, 0, 0);

	if (err)
		return err;
	*node = xs_tree_find(tree, path);
	if (*node && (xs_perms_for(&(*node)->perms, xs->domid) & may) == may)
		return 0;
	if (*node)
		return -EACCES;
	ancestor = nearest_ancestor(tree, path, &len);
	return xs_perms_for(&ancestor->perms, xs->domid) & may ? -ENOENT : -EACCES;
}

static unsigned count_slashes(const char *path)
{
	unsigned count = 0;

	while ((path = strchr(path, '/'))) {
		count++;
		path++;
	}
	return count;
}

/* Adds `path` and what is missing above it, from `start` on: the slash below the ancestor. */
static int add_levels(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		      size_t start, const struct xs_perms *perms)
{
	struct xs_tree *tree = tree_of(xs, ta);
	size_t first = start + 1 + strcspn(path + start + 1, "/");
	char at[XS_PATH_SIZE];

	for (size_t end = first;; end += 1 + strcspn(path + end + 1, "/")) {
		int err;

		memcpy(at, path, end);
		at[end] = '\0';
		err = touch(ta, at, XS_TOUCH_CHANGED, 0);
		if (!err && !xs_tree_add(tree, at, perms))
			err = -errno;
		if (err && !ta && end > first) {
			at[first] = '\0';
			xs_tree_remove(tree, at, NULL);
		}
		if (err || !path[end])
			return err;
	}
}

/* Makes a node that does not exist. Its permissions are the ancestor's, its owner the guest. */
static int make_node(struct xs_server *xs, struct xs_transaction *ta, const char *path)
{
	const struct xs_tree *tree = tree_of(xs, ta);
	size_t len;
	const struct xs_node *ancestor = nearest_ancestor(tree, path, &len);
	size_t start = len == 1 ? 0 : len;
	struct xs_perms perms = ancestor->perms;
	char ancestor_path[XS_PATH_SIZE];
	int err;

	if (tree->owned + count_slashes(path + start) > xs->limits.nodes)
		return -ENOSPC;
	memcpy(ancestor_path, path, len);
	ancestor_path[len] = '\0';
	err = touch(ta, ancestor_path, 0, 0);
	if (err)
		return err;
	perms.of[0].domid = (uint16_t)xs->domid;
	err = add_levels(xs, ta, path, start, &perms);
	return err ? give_up(ta, err) : 0;
}

static int set_value(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		     const void *value, size_t len)
{
	struct xs_node *node = xs_tree_edit(tree_of(xs, ta), path);
	int err = node ? xs_node_set_value(node, value, len) : -errno;

	return err ? give_up(ta, err) : 0;
}

static void announce(struct xs_server *xs, const char *path)
{
	xs_watch_changed(xs, path, NULL, XS_MATCH_ABOVE);
	xs_tell_host(xs, path, false);
}

#define TOUCH_WRITE (XS_TOUCH_CHANGED | XS_TOUCH_TOLD | XS_TOUCH_FIRE | XS_TOUCH_ABOVE)

int xs_guest_write(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		   const void *value, size_t len)
{
	struct xs_node *node;
	int err = xs_guest_find(xs, ta, path, XS_MAY_WRITE, &node);

	if (err && err != -ENOENT)
		return err;
	if (len > xs->limits.node_bytes)
		return -ENOSPC;
	if (err)
		err = make_node(xs, ta, path);
	if (!err)
		err = touch(ta, path, TOUCH_WRITE, len);
	if (!err)
		err = set_value(xs, ta, path, value, len);
	if (err)
		return err;
	if (!ta)
		announce(xs, path);
	return 0;
}

int xs_guest_make(struct xs_server *xs, struct xs_transaction *ta, const char *path)
{
	struct xs_node *node;
	int err = xs_guest_find(xs, ta, path, XS_MAY_WRITE, &node);

	if (err != -ENOENT)
		return err;
	err = make_node(xs, ta, path);
	if (!err)
		err = touch(ta, path, TOUCH_WRITE, 0);
	if (!err && !ta)
		announce(xs, path);
	return err;
}

struct removal {
	const struct xs_server *xs;
	struct xs_transaction *ta;
	const struct xs_node *top;
};

static int check_removable(void *arg, const char *path, struct xs_node *node)
{
	const struct removal *removal = arg;

	(void)path;
	return xs_perms_for(&node->perms, removal->xs->domid) & XS_MAY_WRITE ? 0 : -EACCES;
}

static int touch_removed(void *arg, const char *path, struct xs_node *node)
{
	const struct removal *removal = arg;

	return touch(removal->ta, path,
		     node == removal->top ? TOUCH_WRITE : XS_TOUCH_CHANGED | XS_TOUCH_FIRE, 0);
}

static int remove_node(struct xs_server *xs, struct xs_transaction *ta, const char *path)
{
	struct xs_node *removed;
	int err = xs_tree_remove(tree_of(xs, ta), path, &removed);

	if (err)
		return give_up(ta, err);
	if (!ta) {
		xs_watch_removed(xs, path, removed);
		xs_tell_host(xs, path, true);
	}
	xs_node_put(removed);
	return 0;
}

int xs_guest_remove(struct xs_server *xs, struct xs_transaction *ta, const char *path)
{
	struct removal removal = { .xs = xs, .ta = ta };
	char parent[XS_PATH_SIZE];
	struct xs_node *node;
	int err = xs_guest_find(xs, ta, path, XS_MAY_WRITE, &node);

	xs_path_parent(parent, path);
	if (err == -ENOENT && xs_tree_find(tree_of(xs, ta), parent))
		return touch(ta, parent, 0, 0);
	if (err)
		return err;
	removal.top = node;
	err = strcmp(path, xs->home) ? xs_node_walk(node, path, check_removable, &removal) :
				       -EACCES;
	if (!err)
		err = touch(ta, parent, 0, 0);
	if (!err && ta)
		err = xs_node_walk(node, path, touch_removed, &removal);
	return err ? err : remove_node(xs, ta, path);
}

int xs_guest_set_perms(struct xs_server *xs, struct xs_transaction *ta, const char *path,
		       const struct xs_perms *perms)
{
	struct xs_tree *tree = tree_of(xs, ta);
	struct xs_perms before;
	struct xs_node *node;
	int err = xs_guest_find(xs, ta, path, XS_MAY_WRITE | XS_MAY_OWN, &node);

	if (err)
		return err;
	if (perms->of[0].domid != node->perms.of[0].domid)
		return -EPERM;
	err = touch(ta, path, XS_TOUCH_CHANGED | XS_TOUCH_FIRE | XS_TOUCH_ABOVE, 0);
	if (err)
		return err;
	node = xs_tree_edit(tree, path);
	if (!node)
		return give_up(ta, -errno);
	before = node->perms;
	xs_tree_set_perms(tree, node, perms);
	if (!ta)
		xs_watch_changed(xs, path, &before, XS_MATCH_ABOVE);
	return 0;
}
