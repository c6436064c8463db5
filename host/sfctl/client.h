/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Talking to a daemon of a cluster (proto/control.h). */
#ifndef HOST_SFCTL_CLIENT_H
#define HOST_SFCTL_CLIENT_H

#include "common/link.h"

/*
 * Connects to the daemon of `host`, or of the first host here that answers (NULL), and sends hello;
 * an answer of another version ends the link. Return: the link (the caller's) and the host's name
 * in `name`, or NULL after a complaint.
 */
struct link *client_connect(struct event_base *base, const char *cluster, const char *host,
			    const struct link_handler *handler, void *arg, char name[],
			    size_t name_bytes);

/*
 * One request to a cluster (the reference is taken): to the host that `id` (of a VM; NULL: none)
 * begins with if its daemon is here, else to the first. Return: the answer, the caller's, or NULL
 * after a complaint.
 */
json_t *client_ask(const char *cluster, const char *id, json_t *request);

/*
 * The same of one daemon, quietly and for at most `wait_ms`. Return: 0 and *answer (the caller's)
 * if `answer` is not NULL, or -errno.
 */
int client_ask_host(const char *cluster, const char *host, json_t *request, unsigned wait_ms,
		    json_t **answer);

#endif
