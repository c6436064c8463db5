/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One local XenStore client: its socket, its watches, its transactions. */
#ifndef AGENT_XSCLIENT_H
#define AGENT_XSCLIENT_H

#include "agent/xsmux.h"

/* A watch as its client named it: path, zero byte, token, zero byte. */
struct xs_watch {
	struct xs_watch *next;
	size_t len;
	char names[];
};

struct xs_client {
	struct source source;		/* fd -1: it left and is being undone */
	struct xsmux *mux;
	struct xs_client *next;
	uint32_t number;		/* never used again */
	unsigned pending;		/* requests under way */
	unsigned tx_count, tx_starting;
	uint32_t tx[XSMUX_CLIENT_TRANSACTIONS];
	struct xs_watch *watches;
	bool reset;			/* XS_RESET_WATCHES: it stays and is being undone */
	uint32_t reset_req_id;
	uint8_t *backlog;		/* what it did not read yet */
	size_t backlog_len, backlog_room;
	size_t in_len;
	uint8_t in[XSMUX_MESSAGE_BYTES];
};

/* Takes a connection over. Return: the client, or NULL with the descriptor closed. */
struct xs_client *xs_client_create(struct xsmux *mux, int fd);
void xs_client_destroy(struct xs_client *client);

/* Closes the connection; what it leaves behind is for the mux to undo (mux->undoing). */
void xs_client_leave(struct xs_client *client, const char *why);

/* Sends one message to the client, or keeps it until the client reads. */
void xs_client_send(struct xs_client *client, const struct xsd_sockmsg *head, const void *payload,
		    uint32_t len);
void xs_client_error(struct xs_client *client, const struct xsd_sockmsg *request, int error);

/* Writes more of the backlog. */
void xs_client_flush(struct xs_client *client);

/* Reads until a message is whole. Return: 1 if client->in is one, 0 if not yet, -1 if it left. */
int xs_client_receive(struct xs_client *client);

/*
 * Adds a watch named `path\0token\0`, or finds it and takes it out (the caller's to free).
 * Return: NULL if out of memory, or not there.
 */
struct xs_watch *xs_client_add_watch(struct xs_client *client, const char *names, size_t len);
struct xs_watch *xs_client_take_watch(struct xs_client *client, const char *names, size_t len);

bool xs_client_has_tx(const struct xs_client *client, uint32_t tx_id);
void xs_client_forget_tx(struct xs_client *client, uint32_t tx_id);

#endif
