/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ticket.c (asking, granting, giving back) and ticket_run.c (starting, following) share. */
#ifndef HOST_SFD_TICKET_INTERNAL_H
#define HOST_SFD_TICKET_INTERNAL_H

#include "host/sfd/guest.h"

/* A question to a host about a ticket; the ticket may be gone when the answer comes. */
struct ask {
	struct daemon *daemon;
	struct host *host;
	unsigned guest, ticket;
};

/* The caller's to free(). */
struct ask *ask_new(struct ticket *t, struct host *host);
/* Return: the ticket it is about, or NULL. */
struct ticket *ask_ticket(const struct ask *a);

/* Writes snowflock/ticket/<t>/… and snowflock/ticket/<t>/clone/<id>/… */
void ticket_write(struct ticket *t, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void ticket_write_child(struct ticket *t, unsigned id, const char *name, const char *text);

bool ticket_has_child_on(const struct ticket *t, const struct host *host);

/* Milliseconds since a CLOCK_MONOTONIC. */
double ticket_since_ms(uint64_t start_ns);

#endif
