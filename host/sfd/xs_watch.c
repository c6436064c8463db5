/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The watches of a guest, and what a change of the tree makes of them. */
#include "host/sfd/xs_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/sfd/xs_internal.h"

void xs_watches_init(struct xs_watches *watches)
{
	TAILQ_INIT(&watches->list);
	watches->count = 0;
}

void xs_watches_clear(struct xs_watches *watches)
{
	while (!TAILQ_EMPTY(&watches->list))
		xs_watch_remove(watches, TAILQ_FIRST(&watches->list));
}

struct xs_watch *xs_watch_find(const struct xs_watches *watches, const char *path,
			       const char *token)
{
	struct xs_watch *watch;

	TAILQ_FOREACH(watch, &watches->list, link)
		if (!strcmp(watch->path, path) && !strcmp(watch->token, token))
			return watch;
	return NULL;
}

struct xs_watch *xs_watch_add(struct xs_watches *watches, const char *path, const char *token,
			      bool relative)
{
	size_t path_size = strlen(path) + 1;
	size_t token_size = strlen(token) + 1;
	struct xs_watch *watch;

	if (xs_watch_find(watches, path, token)) {
		errno = EEXIST;
		return NULL;
	}
	watch = malloc(sizeof(*watch) + path_size + token_size);
	if (!watch)
		return NULL;
	memcpy(watch->path, path, path_size);
	memcpy(watch->path + path_size, token, token_size);
	watch->token = watch->path + path_size;
	watch->relative = relative;
	TAILQ_INSERT_TAIL(&watches->list, watch, link);
	watches->count++;
	return watch;
}

void xs_watch_remove(struct xs_watches *watches, struct xs_watch *watch)
{
	TAILQ_REMOVE(&watches->list, watch, link);
	watches->count--;
	free(watch);
}

/* Tells one watch of a change at `path`, which is the watch's own or below. */
static void tell(struct xs_server *xs, const struct xs_watch *watch, const char *path)
{
	size_t skip = watch->relative ? strlen(xs->home) + 1 : 0;

	/* Without memory the event is lost, as in xenstored: there is nobody to answer. */
	xs_out_add_event(&xs->out, path + skip, watch->path + skip, watch->token,
			 xs->limits.watch_events);
}

void xs_watch_fire(struct xs_server *xs, const struct xs_watch *watch)
{
	tell(xs, watch, watch->path);
}

static void tell_all(struct xs_server *xs, const char *path, enum xs_match match)
{
	const struct xs_watch *watch;

	TAILQ_FOREACH(watch, &xs->watches.list, link)
		if (match == XS_MATCH_EXACT ? !strcmp(path, watch->path) :
					      xs_path_below(path, watch->path))
			tell(xs, watch, path);
}

static bool readable(const struct xs_server *xs, const struct xs_perms *perms)
{
	return perms && xs_perms_for(perms, xs->domid) & XS_MAY_READ;
}

/* True if the guest may read what is at `path` now, or its parent. */
static bool readable_now(const struct xs_server *xs, const char *path)
{
	const struct xs_node *node = xs_tree_find(&xs->tree, path);
	char parent[XS_PATH_SIZE];

	if (node && readable(xs, &node->perms))
		return true;
	xs_path_parent(parent, path);
	node = xs_tree_find(&xs->tree, parent);
	return node && readable(xs, &node->perms);
}

void xs_watch_changed(struct xs_server *xs, const char *path, const struct xs_perms *before,
		      enum xs_match match)
{
	if (readable(xs, before) || readable_now(xs, path))
		tell_all(xs, path, match);
}

struct removal {
	struct xs_server *xs;
	struct xs_node *top;
};

static int tell_removed(void *arg, const char *path, struct xs_node *node)
{
	const struct removal *removal = arg;

	xs_watch_changed(removal->xs, path, &node->perms,
			 node == removal->top ? XS_MATCH_ABOVE : XS_MATCH_EXACT);
	return 0;
}

void xs_watch_removed(struct xs_server *xs, const char *path, struct xs_node *removed)
{
	struct removal removal = { .xs = xs, .top = removed };

	if (xs->watches.count)
		xs_node_walk(removed, path, tell_removed, &removal);
}
