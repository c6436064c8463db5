/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's own access to a VM's XenStore: no permission is asked, no quota counts. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/xs_internal.h"

/* Makes what is missing above `path`: the host's. Return: 0 or -errno. */
static int make_parents(struct xs_server *xs, const char *path)
{
	struct xs_perms perms = xs_perms_host(xs->domid);
	char at[XS_PATH_SIZE];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t len = (size_t)(slash - path);

		memcpy(at, path, len);
		at[len] = '\0';
		if (!xs_tree_find(&xs->tree, at) && !xs_tree_add(&xs->tree, at, &perms))
			return -errno;
	}
	return 0;
}

int xs_host_write(struct xs_server *xs, const char *path, const char *value, bool guest)
{
	struct xs_perms perms = guest ? xs_perms_guest(xs->domid) : xs_perms_host(xs->domid);
	size_t len = strlen(value);
	char at[XS_PATH_SIZE];
	struct xs_node *node;
	int err;

	if (len > XENSTORE_PAYLOAD_MAX)
		return -E2BIG;
	err = xs_path_resolve(at, xs->home, path, false);
	if (!err)
		err = make_parents(xs, at);
	if (err)
		return err;
	if (xs_tree_find(&xs->tree, at))
		node = xs_tree_edit(&xs->tree, at);
	else
		node = xs_tree_add(&xs->tree, at, &perms);
	if (!node)
		return -errno;
	err = xs_node_set_value(node, value, len);
	if (err)
		return err;
	xs_tree_set_perms(&xs->tree, node, &perms);
	xs_watch_changed(xs, at, NULL, XS_MATCH_ABOVE);
	xs_flush(xs);
	return 0;
}

int xs_host_printf(struct xs_server *xs, const char *path, const char *format, ...)
{
	_cleanup_free_ char *value = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&value, format, args);
	va_end(args);
	if (len < 0) {
		value = NULL;
		return -ENOMEM;
	}
	return xs_host_write(xs, path, value, false);
}

int xs_host_remove(struct xs_server *xs, const char *path)
{
	struct xs_node *removed;
	char at[XS_PATH_SIZE];
	int err = xs_path_resolve(at, xs->home, path, false);

	if (!err && xs_path_below(xs->home, at))
		err = -EINVAL;
	if (!err)
		err = xs_tree_remove(&xs->tree, at, &removed);
	if (err)
		return err;
	xs_watch_removed(xs, at, removed);
	xs_node_put(removed);
	xs_flush(xs);
	return 0;
}

/* Return: the node, borrowed, or NULL (errno EINVAL, ENOENT). */
static struct xs_node *host_find(struct xs_server *xs, const char *path)
{
	char at[XS_PATH_SIZE];
	struct xs_node *node;

	if (xs_path_resolve(at, xs->home, path, false)) {
		errno = EINVAL;
		return NULL;
	}
	node = xs_tree_find(&xs->tree, at);
	if (!node)
		errno = ENOENT;
	return node;
}

char *xs_host_read(struct xs_server *xs, const char *path, size_t *len)
{
	const struct xs_node *node = host_find(xs, path);
	char *value;

	if (!node)
		return NULL;
	value = calloc(1, node->value_len + 1);
	if (!value)
		return NULL;
	if (node->value_len)
		memcpy(value, node->value, node->value_len);
	if (len)
		*len = node->value_len;
	return value;
}

int xs_host_list(struct xs_server *xs, const char *path,
		 void (*each)(void *arg, const char *name), void *arg)
{
	struct xs_node *node = host_find(xs, path);

	if (!node)
		return -errno;
	/* The reference keeps the list as it is, whatever is done to the tree meanwhile. */
	xs_node_get(node);
	for (unsigned i = 0; i < node->nchildren; i++)
		each(arg, node->children[i]->name);
	xs_node_put(node);
	return 0;
}
