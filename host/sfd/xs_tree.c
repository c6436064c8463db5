/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XenStore's nodes: values, permissions and children, in trees that share what they can. */
#define _GNU_SOURCE
#include "host/sfd/xs_tree.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/xs_path.h"

unsigned xs_perms_for(const struct xs_perms *perms, unsigned domid)
{
	if (!domid || perms->of[0].domid == domid)
		return XS_MAY_READ | XS_MAY_WRITE | XS_MAY_OWN;
	for (unsigned i = 1; i < perms->count; i++)
		if (perms->of[i].domid == domid)
			return perms->of[i].may;
	return perms->of[0].may;
}

static const char perm_letters[] = { 'n', 'r', 'w', 'b' };	/* by XS_MAY_READ | XS_MAY_WRITE */
_Static_assert(ARRAY_SIZE(perm_letters) == (XS_MAY_READ | XS_MAY_WRITE) + 1, "one for each set");

bool xs_perm_parse(struct xs_perm *perm, const char *text)
{
	const char *letter = memchr(perm_letters, *text, sizeof(perm_letters));
	char *end;
	unsigned long domid;

	if (!letter || !isdigit((unsigned char)text[1]))
		return false;
	domid = strtoul(text + 1, &end, 10);
	if (*end || domid > UINT16_MAX)
		return false;
	perm->domid = (uint16_t)domid;
	perm->may = (uint8_t)(letter - perm_letters);
	return true;
}

void xs_perm_print(char text[XS_PERM_TEXT_SIZE], const struct xs_perm *perm)
{
	snprintf(text, XS_PERM_TEXT_SIZE, "%c%hu", perm_letters[perm->may], perm->domid);
}

struct xs_node *xs_node_create(const char *name, const struct xs_perms *perms)
{
	size_t name_size = strlen(name) + 1;
	struct xs_node *node = calloc(1, sizeof(*node) + name_size);

	if (!node)
		return NULL;
	node->refs = 1;
	node->perms = *perms;
	memcpy(node->name, name, name_size);
	return node;
}

struct xs_node *xs_node_get(struct xs_node *node)
{
	node->refs++;
	return node;
}

void xs_node_put(struct xs_node *node)
{
	if (!node || --node->refs)
		return;
	for (unsigned i = 0; i < node->nchildren; i++)
		xs_node_put(node->children[i]);
	free(node->children);
	free(node->value);
	free(node);
}

int xs_node_set_value(struct xs_node *node, const void *value, size_t len)
{
	char *copy = NULL;

	if (len) {
		copy = malloc(len + 1);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, value, len);
		copy[len] = '\0';
	}
	free(node->value);
	node->value = copy;
	node->value_len = len;
	return 0;
}

/* Looks among the children. Return: where the name is (*found) or would be. */
static unsigned child_index(const struct xs_node *node, const char *name, bool *found)
{
	unsigned low = 0, high = node->nchildren;

	*found = false;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = strverscmp(node->children[middle]->name, name);

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

static int reserve_children(struct xs_node *node, unsigned room)
{
	struct xs_node **children;

	if (room <= node->room)
		return 0;
	children = reallocarray(node->children, room, sizeof(*children));
	if (!children)
		return -ENOMEM;
	node->children = children;
	node->room = room;
	return 0;
}

int xs_node_adopt(struct xs_node *node, struct xs_node *child)
{
	bool found;
	unsigned at = child_index(node, child->name, &found);

	if (found)
		return -EEXIST;
	if (node->nchildren == node->room && reserve_children(node, node->room * 2 + 2))
		return -ENOMEM;
	memmove(node->children + at + 1, node->children + at,
		(node->nchildren - at) * sizeof(*node->children));
	node->children[at] = child;
	node->nchildren++;
	return 0;
}

/* Return: a copy under this name, with one reference and the same children, or NULL (errno). */
static struct xs_node *node_copy(const struct xs_node *from, const char *name)
{
	struct xs_node *node = xs_node_create(name, &from->perms);

	if (!node)
		return NULL;
	if (xs_node_set_value(node, from->value, from->value_len) ||
	    reserve_children(node, from->nchildren)) {
		xs_node_put(node);
		errno = ENOMEM;
		return NULL;
	}
	node->generation = from->generation;
	for (unsigned i = 0; i < from->nchildren; i++)
		node->children[i] = xs_node_get(from->children[i]);
	node->nchildren = from->nchildren;
	return node;
}

/* Makes the node that *slot holds its alone. Return: the node, or NULL (errno). */
static struct xs_node *node_own(struct xs_node **slot)
{
	struct xs_node *copy;

	if ((*slot)->refs == 1)
		return *slot;
	copy = node_copy(*slot, (*slot)->name);
	if (!copy)
		return NULL;
	xs_node_put(*slot);
	*slot = copy;
	return copy;
}

static int walk(struct xs_node *node, char *path, size_t len, xs_node_each *each, void *arg)
{
	size_t start = len > 1 ? len + 1 : 1;	/* of a child's name: behind a slash */

	for (unsigned i = 0; i < node->nchildren; i++) {
		struct xs_node *child = node->children[i];
		size_t name_len = strlen(child->name);
		int err;

		if (start + name_len > XENSTORE_ABS_PATH_MAX)
			return -EINVAL;
		path[start - 1] = '/';
		memcpy(path + start, child->name, name_len + 1);
		err = walk(child, path, start + name_len, each, arg);
		if (err)
			return err;
	}
	path[len] = '\0';
	return each(arg, path, node);
}

int xs_node_walk(struct xs_node *top, const char *path, xs_node_each *each, void *arg)
{
	char at[XS_PATH_SIZE];
	size_t len = strlen(path);

	if (len > XENSTORE_ABS_PATH_MAX)
		return -EINVAL;
	memcpy(at, path, len + 1);
	return walk(top, at, len, each, arg);
}

int xs_tree_init(struct xs_tree *tree, unsigned domid, uint64_t *generation,
		 const struct xs_perms *perms)
{
	tree->root = xs_node_create("", perms);
	if (!tree->root)
		return -ENOMEM;
	tree->root->generation = ++*generation;
	tree->generation = generation;
	tree->domid = domid;
	tree->owned = perms->of[0].domid == domid;
	return 0;
}

void xs_tree_init_copy(struct xs_tree *tree, const struct xs_tree *from)
{
	*tree = *from;
	xs_node_get(tree->root);
}

void xs_tree_fini(struct xs_tree *tree)
{
	xs_node_put(tree->root);
	tree->root = NULL;
}

/* Takes the next component off the path. Return: false if there is none. */
static bool next_name(const char **path, char name[XS_PATH_SIZE])
{
	size_t len;

	*path += strspn(*path, "/");
	len = strcspn(*path, "/");
	memcpy(name, *path, len);
	name[len] = '\0';
	*path += len;
	return len;
}

struct xs_node *xs_tree_find(const struct xs_tree *tree, const char *path)
{
	struct xs_node *node = tree->root;
	char name[XS_PATH_SIZE];

	while (next_name(&path, name)) {
		bool found;
		unsigned at = child_index(node, name, &found);

		if (!found)
			return NULL;
		node = node->children[at];
	}
	return node;
}

/* Makes a node and those above it the tree's alone. Return: the node, or NULL (errno). */
static struct xs_node *own_path(struct xs_tree *tree, const char *path)
{
	struct xs_node *node = node_own(&tree->root);
	char name[XS_PATH_SIZE];

	while (node && next_name(&path, name)) {
		bool found;
		unsigned at = child_index(node, name, &found);

		if (!found) {
			errno = ENOENT;
			return NULL;
		}
		node = node_own(&node->children[at]);
	}
	return node;
}

struct xs_node *xs_tree_edit(struct xs_tree *tree, const char *path)
{
	struct xs_node *node = own_path(tree, path);

	if (node)
		node->generation = ++*tree->generation;
	return node;
}

struct xs_node *xs_tree_add(struct xs_tree *tree, const char *path, const struct xs_perms *perms)
{
	char parent_path[XS_PATH_SIZE];
	struct xs_node *parent, *node;
	int err;

	xs_path_parent(parent_path, path);
	parent = xs_tree_edit(tree, parent_path);
	if (!parent)
		return NULL;
	node = xs_node_create(strrchr(path, '/') + 1, perms);
	if (!node)
		return NULL;
	err = xs_node_adopt(parent, node);
	if (err) {
		xs_node_put(node);
		errno = -err;
		return NULL;
	}
	node->generation = ++*tree->generation;
	tree->owned += perms->of[0].domid == tree->domid;
	return node;
}

void xs_tree_set_perms(struct xs_tree *tree, struct xs_node *node, const struct xs_perms *perms)
{
	tree->owned -= node->perms.of[0].domid == tree->domid;
	node->perms = *perms;
	tree->owned += node->perms.of[0].domid == tree->domid;
}

static int count_out(void *arg, const char *path, struct xs_node *node)
{
	struct xs_tree *tree = arg;

	(void)path;
	tree->owned -= node->perms.of[0].domid == tree->domid;
	return 0;
}

/* Takes a child off its parent. Return: the reference to it. */
static struct xs_node *disown(struct xs_node *parent, const char *name)
{
	bool found;
	unsigned at = child_index(parent, name, &found);
	struct xs_node *child = parent->children[at];

	memmove(parent->children + at, parent->children + at + 1,
		(--parent->nchildren - at) * sizeof(*parent->children));
	return child;
}

int xs_tree_rename(struct xs_tree *tree, const char *path, const char *name)
{
	char parent_path[XS_PATH_SIZE];
	struct xs_node *parent, *renamed;
	int err;

	if (!xs_tree_find(tree, path))
		return -ENOENT;
	xs_path_parent(parent_path, path);
	parent = own_path(tree, parent_path);
	if (!parent)
		return -errno;
	renamed = node_copy(xs_tree_find(tree, path), name);
	if (!renamed)
		return -errno;
	err = xs_node_adopt(parent, renamed);
	if (err) {
		xs_node_put(renamed);
		return err;
	}
	xs_node_put(disown(parent, strrchr(path, '/') + 1));
	return 0;
}

int xs_tree_remove(struct xs_tree *tree, const char *path, struct xs_node **removed)
{
	char parent_path[XS_PATH_SIZE];
	struct xs_node *parent, *node;

	if (!strcmp(path, "/"))
		return -EINVAL;
	if (!xs_tree_find(tree, path))
		return -ENOENT;
	xs_path_parent(parent_path, path);
	parent = xs_tree_edit(tree, parent_path);
	if (!parent)
		return -errno;
	node = disown(parent, strrchr(path, '/') + 1);
	xs_node_walk(node, path, count_out, tree);
	if (removed)
		*removed = node;
	else
		xs_node_put(node);
	return 0;
}
