/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The watches of a guest, and what a change of the tree makes of them. */
#ifndef HOST_SFD_XS_WATCH_H
#define HOST_SFD_XS_WATCH_H

#include <stdbool.h>
#include <sys/queue.h>

struct xs_node;
struct xs_perms;
struct xs_server;

struct xs_watch {
	TAILQ_ENTRY(xs_watch) link;
	bool relative;		/* registered by a relative path, events come so too */
	const char *token;	/* in path[], behind the path */
	char path[];		/* absolute, or an @event */
};

struct xs_watches {
	TAILQ_HEAD(, xs_watch) list;
	unsigned count;
};

void xs_watches_init(struct xs_watches *watches);
/* Removes all. */
void xs_watches_clear(struct xs_watches *watches);

/* Return: the watch with this absolute path and token, or NULL. */
struct xs_watch *xs_watch_find(const struct xs_watches *watches, const char *path,
			       const char *token);

/* Adds one; it does not fire. Return: the watch, or NULL (errno EEXIST, ENOMEM). */
struct xs_watch *xs_watch_add(struct xs_watches *watches, const char *path, const char *token,
			      bool relative);
void xs_watch_remove(struct xs_watches *watches, struct xs_watch *watch);

/* Fires a watch on its own path, as right after its registration. */
void xs_watch_fire(struct xs_server *xs, const struct xs_watch *watch);

/* Which watches see a change of a node: those on it only, or also those on what is above it. */
enum xs_match { XS_MATCH_EXACT, XS_MATCH_ABOVE };

/*
 * Fires the watches that match a change of `path` in the server's tree, if the guest may read the
 * node or its parent, or might read it `before` (NULL: it was not there).
 */
void xs_watch_changed(struct xs_server *xs, const char *path, const struct xs_perms *before,
		      enum xs_match match);

/*
 * The same for a node that has been taken out of the server's tree with all below it: watches on
 * what was below fire on their own paths.
 */
void xs_watch_removed(struct xs_server *xs, const char *path, struct xs_node *removed);

#endif
