/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run --publish: ports of this machine that lead to ports of the VM.
 *
 * Each connection is a stream of its own to `sf connect` in the guest, so there is no network to set up
 * between here and there.
 */
#ifndef HOST_SFCTL_FORWARD_H
#define HOST_SFCTL_FORWARD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct publish {
	struct sockaddr_storage at;
	socklen_t at_len;
	uint16_t guest_port;
};

struct publish_list {
	struct publish *ports;
	unsigned count;
};

/* Adds [ADDRESS:]PORT:GUESTPORT. Return: 0, -EINVAL or -ENOMEM. */
int publish_list_add(struct publish_list *list, const char *argument);
void publish_list_fini(struct publish_list *list);

struct event_base;
struct forward;
struct link;

/* Takes the ports; who connects waits. Return: NULL after a complaint. */
struct forward *forward_new(struct event_base *base, const struct publish_list *list);
/* To be called when the link was closed, which may answer to here till then. */
void forward_free(struct forward *forward);

/* The VM is there: connections go to it. `env` (borrowed) is what `sf` is run with. */
void forward_start(struct forward *forward, struct link *link, const char *vm, json_t *env);

/* The VM or the link ends: nobody may connect any more, and connections are closed. */
void forward_stop(struct forward *forward);

/* Words "ADDRESS:PORT to port N of the VM" for a published port, counted from 0. Return: false: no
 * more. */
bool forward_tell(const struct forward *forward, unsigned which, char *text, size_t bytes);

/* Events of streams that may be a connection's. */
void forward_data(struct forward *forward, int64_t stream, int channel, const uint8_t *bytes,
		  size_t len);
void forward_credit(struct forward *forward, int64_t stream, size_t bytes);
void forward_exited(struct forward *forward, int64_t stream);

#endif
