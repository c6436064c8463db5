/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking to the other daemons (proto/peer.h), and to ourselves in the same words: a home need not
 * know whether a host of its clones is another one.
 */
#ifndef HOST_SFD_PEERS_H
#define HOST_SFD_PEERS_H

#include "host/sfd/daemon.h"

struct peer_request; /* a request that came in, to be answered once */

/* Listens for the others and connects to them. Return: 0, or -errno with a sentence. */
int peers_start(struct daemon *d, char why[WHY_BYTES]);

/* Closes the links; the loop then sends what is on its way. No callback but of peer_calls_free().
 */
void peers_stop(struct daemon *d);
void peers_free(struct daemon *d);

/* True if every other host answered. */
bool peers_complete(const struct daemon *d);

/*
 * Sends a request; takes the reference to `msg`, copies the bytes. `done` is called exactly once,
 * never before this returns: also if the host is or goes down (-EHOSTDOWN).
 */
void peer_call(struct host *to, json_t *msg, const void *bytes, size_t len, link_done *done,
	       void *arg);

/* Sends an event; lost if the host is down. */
void peer_send(struct host *to, json_t *msg, const void *bytes, size_t len);

/* Answers a request and forgets it: with `msg` (reference taken, NULL: empty) or an error. */
void peer_reply(struct peer_request *request, json_t *msg);
void peer_refuse(struct peer_request *request, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Who asked. */
struct host *peer_from(const struct peer_request *request);

#endif
