/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages over a stream: JSON with an optional binary tail, over a UNIX socket or TLS.
 *
 * Frame: two 32-bit big-endian lengths (JSON, binary), the JSON object in UTF-8, the bytes. A frame
 * beyond LINK_MAX_JSON or LINK_MAX_BINARY, or JSON that is not an object, ends the link with
 * -EPROTO. TLS is 1.3 with a pre-shared key and nothing else: who does not know the key gets no
 * further than the handshake. On libevent; not thread-safe.
 *
 * Requests and answers: link_call() adds "tag" to a message; the other side's link_reply() or
 * link_refuse() answer with "re" = tag and are handed to the caller's done function. Every other
 * message goes to the link's message handler. The fields "tag", "re", "error" (an errno's name) and
 * "why" (a sentence) of a message are the link's own.
 *
 * No call here runs a callback: they come from the event loop alone, so that a link may be used and
 * closed in any of them.
 */
#ifndef COMMON_LINK_H
#define COMMON_LINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define LINK_MAX_JSON (1u << 20)
#define LINK_MAX_BINARY (16u << 20)
#define LINK_KEY_BYTES 32

struct event_base;
struct link;

struct link_handler {
	/* A message came. `msg` is borrowed; take a reference to keep it. `bytes` is borrowed. */
	void (*message)(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len);
	/* Optional: connected, and with TLS, authenticated. */
	void (*up)(void *arg, struct link *link);
	/* The link ended (0: the other side closed it; -errno). Every open call was answered with
	 * -ECONNRESET before. The link is freed after this returns. */
	void (*down)(void *arg, struct link *link, int error, const char *why);
	/* Optional: less than `low` bytes of output wait, after link_backlog() was over it. */
	void (*drained)(void *arg, struct link *link);
};

/* The answer to a call. error: 0, or -errno (with `why`) from link_refuse() or a lost link. */
typedef void link_done(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		       size_t len);

/* A connected UNIX socket, taken over. Return: the link, or NULL (errno; fd not taken). */
struct link *link_from_fd(struct event_base *base, int fd, const struct link_handler *handler,
			  void *arg);

/* Takes an accepted TCP socket and awaits a TLS client that has the key. Return: as above. */
struct link *link_accept_tls(struct event_base *base, int fd, const uint8_t key[LINK_KEY_BYTES],
			     const struct link_handler *handler, void *arg);

/* Connects with TCP and TLS; `up` or `down` tells how it went. `local`: where to come from, or NULL. */
struct link *link_connect_tls(struct event_base *base, const struct sockaddr *to, socklen_t to_len,
			      const struct sockaddr *local, socklen_t local_len,
			      const uint8_t key[LINK_KEY_BYTES],
			      const struct link_handler *handler, void *arg);

/* Sends a message; takes the reference to `msg`, copies `bytes`. Return: 0 or -errno. */
int link_send(struct link *link, json_t *msg, const void *bytes, size_t len);

/* The same, and hands the answer to `done`; if it returns an error, `done` is not called. */
int link_call(struct link *link, json_t *msg, const void *bytes, size_t len, link_done *done,
	      void *arg);

/* Answers `request` (borrowed): with `msg` (reference taken; NULL: an empty object) and bytes … */
int link_reply(struct link *link, json_t *request, json_t *msg, const void *bytes, size_t len);
/* … or with an error: the errno's name and a sentence. For a message without tag it does nothing. */
int link_refuse(struct link *link, json_t *request, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Bytes of output not yet taken by the network; `low` for the drained callback is 256 KiB. */
size_t link_backlog(const struct link *link);

/* Stops and restarts reading, to slow the other side down. */
void link_pause(struct link *link, bool paused);

/* Sends what waits, then closes; `down` is not called. Open calls are dropped. Safe in callbacks. */
void link_close(struct link *link);

/* Ends a link as if it had been lost: the loop answers open calls with -ECONNRESET, then calls `down`. */
void link_break(struct link *link, int error, const char *why);

/* errno names on the wire ("ENOSPC") ↔ numbers; unknown ones are EIO. */
const char *link_errno_name(int number);
int link_errno_number(const char *name);

#endif
