/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XenStore's nodes: values, permissions and children, in trees that share what they have in common.
 *
 * Nodes are counted references. A node that only one tree can reach is changed in place; one that
 * several can reach is copied first, with the nodes above it. So a second tree (a transaction's)
 * costs one reference to the root, and whoever holds a reference to a node sees it unchanged.
 *
 * Each change of a node's value, permissions or set of children gives it the next number of a
 * generation that all trees of a server count together. Equal path and equal generation is the
 * same node in the same state; 0 stands for a node that is not there.
 */
#ifndef HOST_SFD_XS_TREE_H
#define HOST_SFD_XS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XS_PERMS_MAX 5	/* entries of one node, as xenstored has it by default */

enum xs_may { XS_MAY_READ = 1, XS_MAY_WRITE = 2, XS_MAY_OWN = 4 };

struct xs_perm {
	uint16_t domid;
	uint8_t may;	/* XS_MAY_READ | XS_MAY_WRITE */
};

/* The first entry names the owner, and what those may who have no entry. */
struct xs_perms {
	unsigned count;	/* 1..XS_PERMS_MAX */
	struct xs_perm of[XS_PERMS_MAX];
};

struct xs_node {
	unsigned refs;
	uint32_t mark;		/* scratch of xs_save() and xs_restore(), else 0 */
	uint64_t generation;
	struct xs_perms perms;
	char *value;		/* with a zero byte behind it */
	size_t value_len;
	struct xs_node **children;	/* by name, numbers in it in counting order (strverscmp) */
	unsigned nchildren;
	unsigned room;
	char name[];		/* "" for a root */
};

struct xs_tree {
	struct xs_node *root;
	uint64_t *generation;	/* the server's */
	unsigned domid;		/* of the guest */
	unsigned owned;		/* nodes whose owner is the guest */
};

/* What a domain may do: a set of enum xs_may. Domain 0 and the owner may do everything. */
unsigned xs_perms_for(const struct xs_perms *perms, unsigned domid);

/* Reads "r5" into *perm, or writes it (up to 7 bytes with the zero). Return: false if malformed. */
bool xs_perm_parse(struct xs_perm *perm, const char *text);
#define XS_PERM_TEXT_SIZE 8
void xs_perm_print(char text[XS_PERM_TEXT_SIZE], const struct xs_perm *perm);

/* Return: a node with one reference, no value and no children, or NULL (errno). */
struct xs_node *xs_node_create(const char *name, const struct xs_perms *perms);
struct xs_node *xs_node_get(struct xs_node *node);
void xs_node_put(struct xs_node *node);

/* Copies `len` bytes as the node's value. Return: 0 or -ENOMEM, the node unchanged. */
int xs_node_set_value(struct xs_node *node, const void *value, size_t len);

/* Takes over a reference to a child. Return: 0, -EEXIST or -ENOMEM, the reference not taken. */
int xs_node_adopt(struct xs_node *node, struct xs_node *child);

/*
 * Calls `each` for everything below `top`, children before their parents, and for `top` itself,
 * whose path is `path`. It stops at the first result other than 0.
 * Return: that result, 0 at the end, -EINVAL for a tree deeper than paths can be.
 */
typedef int xs_node_each(void *arg, const char *path, struct xs_node *node);
int xs_node_walk(struct xs_node *top, const char *path, xs_node_each *each, void *arg);

/* Starts a tree with a bare root. Return: 0 or -ENOMEM. */
int xs_tree_init(struct xs_tree *tree, unsigned domid, uint64_t *generation,
		 const struct xs_perms *perms);
/* Starts a tree that is what `from` is now, and independent of it. */
void xs_tree_init_copy(struct xs_tree *tree, const struct xs_tree *from);
void xs_tree_fini(struct xs_tree *tree);

/* Return: the node, borrowed until the tree changes, or NULL. `path` is absolute and valid. */
struct xs_node *xs_tree_find(const struct xs_tree *tree, const char *path);

/* Return: the node of a new generation, to be changed now, or NULL (errno ENOENT, ENOMEM). */
struct xs_node *xs_tree_edit(struct xs_tree *tree, const char *path);

/* Adds a node whose parent exists. Return: the node, to be filled now, or NULL (errno). */
struct xs_node *xs_tree_add(struct xs_tree *tree, const char *path, const struct xs_perms *perms);

/*
 * Gives a node another name among its siblings. No generation changes: it is the same node, under
 * another path in all trees. Return: 0 or -errno (-ENOENT, -EEXIST, -ENOMEM).
 */
int xs_tree_rename(struct xs_tree *tree, const char *path, const char *name);

/* Sets the permissions of a node that xs_tree_edit() or xs_tree_add() just gave. */
void xs_tree_set_perms(struct xs_tree *tree, struct xs_node *node, const struct xs_perms *perms);

/*
 * Takes a node and all below it out. Return: 0 or -errno. If `removed` is not NULL the caller gets
 * the reference to what is out.
 */
int xs_tree_remove(struct xs_tree *tree, const char *path, struct xs_node **removed);

#endif
