/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netns: network namespaces with a name, kept where ip-netns(8) keeps its own, so that
 * `ip netns exec` finds them.
 *
 * Functions return 0 or -errno.
 */
#ifndef HOST_VNET_NETNS_H
#define HOST_VNET_NETNS_H

#define NETNS_FOLDER "/run/netns"

/*
 * Makes a namespace and moves the calling thread into it. *fd, the caller's, keeps it alive.
 * -EEXIST if the name is taken. After another error nothing is left, but the thread may have moved.
 */
int netns_create(const char *name, int *fd);

/* Removes a namespace's name; it ends when nothing is in it any more. -ENOENT if there is none. */
int netns_delete(const char *name);

/* Moves the calling thread into the namespace. -ENOENT if there is none. */
int netns_enter(const char *name);

/* A descriptor of the namespace the calling thread is in; the caller's. */
int netns_current(int *fd);

/* Moves the calling thread back to where *fd says, and closes it. For _cleanup_netns_. */
void netns_return(int *fd);
#define _cleanup_netns_ __attribute__((cleanup(netns_return)))

/* Calls `each` for every name there is. It may delete the one it is called for. */
int netns_list(void (*each)(const char *name, void *arg), void *arg);

#endif
