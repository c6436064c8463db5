/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The double's XenStore door: many local connections into the one stream of a XenStore server. */
#ifndef TESTS_COMMON_DOOR_H
#define TESTS_COMMON_DOOR_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct door;
struct xs_server;

/* Listens at a path. Return: the door, or NULL. */
struct door *door_listen(struct xs_server *xs, const char *path);
void door_close(struct door *door);

/* Ends every connection; the door stays open. */
void door_drop(struct door *door);

/* Writes what to poll() for. Return: how many entries. */
unsigned door_fds(const struct door *door, struct pollfd *fds, unsigned room);

/* Serves those of its descriptors that are ready. */
void door_serve(struct door *door, const struct pollfd *fds, unsigned count);

/* Bytes of the server's stream: whole messages. */
void door_send(struct door *door, const void *bytes, size_t len);

/* True if this process has or had a connection. */
bool door_knows(const struct door *door, pid_t pid);

/* Return: the watches of all connections. */
unsigned door_watches(const struct door *door);

#endif
