/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The XenStore of one VM: tree, watches, transactions, permissions, quotas, on a byte stream.
 *
 * Pure bytes in, bytes out: no descriptor, no clock. The stream is Xen's (io/xs_wire.h): requests
 * of the guest's one connection, answers and watch events to it. The guest's agent multiplexes
 * local clients into that connection. A malformed stream (a length over XENSTORE_PAYLOAD_MAX, say)
 * cannot be followed any further: xs_input() fails for good.
 *
 * The guest is domain `domid`; its relative paths are below /local/domain/<domid>. The host (sfd)
 * acts as domain 0, for which no permission is refused and which no quota bounds. The guest owns
 * its home, so it can make nodes there, but none below nodes of the host. It can't remove a node
 * with one below that it may not write (in xenstored it could), nor its home.
 */
#ifndef HOST_SFD_XS_SERVER_H
#define HOST_SFD_XS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xs_server;

struct xs_limits {	/* 0: the default in brackets */
	unsigned nodes;			/* [1000] owned by the guest */
	unsigned node_bytes;		/* [2048] value of one node */
	unsigned watches;		/* [256] */
	unsigned transactions;		/* [16] open at once */
	unsigned watch_events;		/* [4096] waiting to be sent; beyond, equal ones are merged */
};

struct xs_hooks {
	/* Bytes for the guest: one frame or several, whole. */
	void (*send)(void *arg, const void *bytes, size_t len);
	/*
	 * The guest wrote or removed (value NULL) this node, outside of a transaction or by the commit
	 * of one; called after the change and before the guest's answer is sent. `path` is absolute.
	 * A removal is told for the node that was named; everything below it went with it. The
	 * hook may change the tree with xs_host_…(), which leaves `value` as it is (a zero byte is
	 * behind it), but must not destroy the server.
	 */
	void (*changed)(void *arg, const char *path, const char *value, size_t len);
};

/*
 * `domid`: 1..0x7fef. Return: a server with an empty home, the caller's to xs_destroy(), or NULL
 * (errno).
 */
struct xs_server *xs_create(unsigned domid, const struct xs_limits *limits,
			    const struct xs_hooks *hooks, void *arg);
void xs_destroy(struct xs_server *xs);

/* Bytes from the guest. Return: 0, or -EPROTO for a stream that makes no sense (and ever after). */
int xs_input(struct xs_server *xs, const void *bytes, size_t len);

/* Bytes received from and sent to the guest since the port exists (proto/agent-port.h). */
uint64_t xs_received(const struct xs_server *xs);
uint64_t xs_sent(const struct xs_server *xs);

/* True if no request is half received. */
bool xs_at_boundary(const struct xs_server *xs);

/*
 * While held, watch events wait. Requests that still come in are answered, so that a guest that is
 * to get quiet can end what it has begun. May be called from any hook.
 */
void xs_hold(struct xs_server *xs, bool held);

/*
 * The host's own access. Relative paths are below the guest's home. A write makes missing parents,
 * which are the host's and readable by the guest. So is the node written, whosever it was before,
 * unless `guest`: then it is the guest's own to write. A home can't be removed. Return: 0 or
 * -errno: -EINVAL for a bad path, -ENOENT for nothing to remove, -E2BIG for a value beyond 4096
 * bytes.
 */
int xs_host_write(struct xs_server *xs, const char *path, const char *value, bool guest);
int xs_host_printf(struct xs_server *xs, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int xs_host_remove(struct xs_server *xs, const char *path);
/* Return: the value, the caller's to free(), with a zero byte behind it; NULL with errno. */
char *xs_host_read(struct xs_server *xs, const char *path, size_t *len);
/* Calls `each` with the name of every child, in order. Return: 0 or -errno. */
int xs_host_list(struct xs_server *xs, const char *path,
		 void (*each)(void *arg, const char *name), void *arg);

/*
 * Everything a clone's server needs to go on in the same byte stream: tree, watches, open
 * transactions, counters, waiting events. Versioned, explicit endianness. Return: a buffer, the
 * caller's to free(), or NULL.
 */
uint8_t *xs_save(const struct xs_server *xs, size_t *len);

/*
 * The server of a clone, from xs_save()'s bytes (which another host sent: everything is checked).
 * The home /local/domain/<old> is renamed to <domid>, watches on absolute paths follow. Held until
 * xs_hold(false). Return: the server, or NULL with errno EINVAL.
 */
struct xs_server *xs_restore(unsigned domid, const struct xs_limits *limits,
			     const struct xs_hooks *hooks, void *arg, const uint8_t *state, size_t len);

#endif
