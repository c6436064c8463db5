/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page server: what is asked for becomes a debt, debts are paid in their order.
 *
 * A page is read when its datagram is written, not when it is asked for, so a full socket holds up
 * nothing but the answers. Pages that go out without being asked for one by one (wake.c) wait until
 * there are no debts.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "host/mcdist/endpoint.h"

struct mc_server {
	struct mc_session *session;
	const struct mc_server_calls *calls;
	void *arg;
};

struct mc_server *mc_server_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				   const struct mc_way *way, const struct mc_server_calls *calls,
				   void *arg)
{
	struct mc_session *session;
	struct mc_server *server;

	if (way->mode >= MC_MODES) {
		errno = EINVAL;
		return NULL;
	}
	session = mc_session_get(ep, snapshot);
	if (!session)
		return NULL;
	server = session->server ? NULL : calloc(1, sizeof(*server));
	if (!server) {
		int error = session->server ? EEXIST : ENOMEM;

		mc_session_put(session);
		errno = error;
		return NULL;
	}
	server->session = session;
	server->calls = calls;
	server->arg = arg;
	session->server = server;
	return server;
}

static void debt_free(struct mc_endpoint *ep, struct mc_debt *debt)
{
	TAILQ_REMOVE(&ep->debts, debt, link);
	ep->debt_count--;
	free(debt);
}

void mc_server_destroy(struct mc_server *server)
{
	struct mc_endpoint *ep;
	struct mc_debt *debt, *next;

	if (!server)
		return;
	ep = server->session->ep;
	for (debt = TAILQ_FIRST(&ep->debts); debt; debt = next) {
		next = TAILQ_NEXT(debt, link);
		if (debt->server == server)
			debt_free(ep, debt);
	}
	mc_wakes_drop(ep, server);
	server->session->server = NULL;
	mc_session_put(server->session);
	free(server);
}

int mc_server_handle(struct mc_server *server, const struct mc_address *from, const uint8_t *body,
		     size_t len)
{
	struct mc_endpoint *ep = server->session->ep;
	struct mc_span spans[MC_MAX_RUNS];
	int count = mc_read_request(body, len, server->session->snapshot.pages, spans);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		struct mc_debt *debt;

		if (server->calls->asked)
			server->calls->asked(server->arg, &spans[i]);
		if (ep->debt_count >= MC_DEBTS_MAX)
			break;
		debt = malloc(sizeof(*debt));
		if (!debt)
			break;
		*debt = (struct mc_debt){ .server = server, .to = *from, .span = spans[i] };
		TAILQ_INSERT_TAIL(&ep->debts, debt, link);
		ep->debt_count++;
	}
	mc_pay_debts(ep);
	return 0;
}

int mc_server_handle_join(struct mc_server *server, const struct mc_address *from,
			  const uint8_t *body, size_t len)
{
	const struct mc_span *spans;
	struct mc_join join;
	size_t count;

	if (mc_read_join(body, len, &join))
		return -EBADMSG;
	count = server->calls->wake ? server->calls->wake(server->arg, &spans) : 0;
	if (!count)
		return 0;
	return mc_wakes_begin(server->session->ep, server, from, spans, count);
}

/* Writes the body. Return: its length, or -errno if a page cannot be read now. */
static ssize_t write_pages(struct mc_server *server, const struct mc_span *span, uint8_t *body)
{
	struct mc_pages_writer writer;

	mc_pages_begin(&writer, body, span);
	for (uint32_t i = 0; i < span->pages; i++) {
		int got = server->calls->read_page(server->arg, span->gfn + i, mc_pages_room(&writer));

		if (got < 0)
			return got;
		if (got)
			mc_pages_add(&writer, MC_PLAIN, MC_PAGE_BYTES);
		else
			mc_pages_add_zero(&writer);
	}
	return (ssize_t)mc_pages_end(&writer);
}

int mc_server_send(struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *span)
{
	struct mc_endpoint *ep = server->session->ep;
	ssize_t len = write_pages(server, span, mc_body(ep));
	int error;

	if (len < 0)
		return 0;	/* no telling now: who needs it asks again */
	error = mc_send(server->session, to, MC_PAGES, (size_t)len);
	if (error == -EAGAIN)
		return error;
	if (error)
		log_debug("mcdist: answer not sent: error %d", -error);
	else
		ep->counters->served += span->pages;
	return 0;
}

void mc_pay_debts(struct mc_endpoint *ep)
{
	struct mc_debt *debt;

	while ((debt = TAILQ_FIRST(&ep->debts))) {
		if (mc_server_send(debt->server, &debt->to, &debt->span) == -EAGAIN)
			return;
		debt_free(ep, debt);
	}
}
