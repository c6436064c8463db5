/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source: requests become debts to one or to all, who joins is pushed what it will need. */
#include <errno.h>
#include <stdlib.h>

#include "host/mcdist/giver.h"
#include "host/mcdist/group.h"
#include "host/mcdist/known.h"
#include "host/mcdist/push.h"

struct mc_server {
	struct mc_giver giver;
	struct mc_group *group;		/* MC_MULTICAST, else NULL */
	const struct mc_server_calls *calls;
	void *arg;
	uint32_t push_pages_per_s;
	struct mc_known known;		/* those who joined */
	bool pushed;			/* the group got, or gets, the list and the rest */
};

/* Return: false if there is no memory. */
static bool equip(struct mc_server *s, const struct mc_way *way)
{
	if (way->compress) {
		s->giver.coder = mc_coder_create(s->calls->read_page, s->arg);
		if (!s->giver.coder)
			return false;
	}
	if (way->mode == MC_MULTICAST)
		s->group = mc_group_create(&s->giver, &way->group);
	return way->mode != MC_MULTICAST || s->group;
}

static void server_free(struct mc_server *s)
{
	mc_known_fini(&s->known);
	mc_group_destroy(s->group);
	mc_coder_destroy(s->giver.coder);
	mc_session_put(s->giver.session);
	free(s);
}

static bool is_way(const struct mc_way *way)
{
	return way->mode < MC_MODES && (way->mode != MC_MULTICAST || way->group.len);
}

struct mc_server *mc_server_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				   const struct mc_way *way, const struct mc_server_calls *calls,
				   void *arg)
{
	struct mc_session *session = NULL;
	struct mc_server *server;

	errno = EINVAL;
	if (is_way(way))
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
	server->giver = (struct mc_giver){ .session = session, .read_page = calls->read_page,
					   .arg = arg };
	server->calls = calls;
	server->arg = arg;
	server->push_pages_per_s = way->push_pages_per_s;
	if (!equip(server, way)) {
		server_free(server);
		errno = ENOMEM;
		return NULL;
	}
	session->server = server;
	return server;
}

void mc_server_destroy(struct mc_server *server)
{
	struct mc_endpoint *ep;

	if (!server)
		return;
	ep = server->giver.session->ep;
	mc_debts_drop(&server->giver);
	mc_pushes_drop(ep, &server->giver);
	server->giver.session->server = NULL;
	server_free(server);
}

/* Who joins a group while its list goes out, gets it with the others; who comes later, alone. */
static void welcome(struct mc_server *server, const struct mc_address *from)
{
	struct mc_endpoint *ep = server->giver.session->ep;
	struct mc_push_order order = { .giver = &server->giver, .to = from,
				       .rest_pages_per_s = server->push_pages_per_s };
	enum mc_push_stage stage = MC_PUSH_NONE;

	if (server->calls->wake)
		order.count = server->calls->wake(server->arg, &order.spans);
	if (server->group)
		stage = mc_push_stage(ep, server->group);
	if (server->group && (!server->pushed || stage == MC_PUSH_LIST)) {
		server->pushed = true;
		order.group = server->group;
	} else if (server->group && stage == MC_PUSH_REST) {
		order.rest_pages_per_s = 0;
	} else if (server->group) {
		order.rest_is_out = true;
	}
	/* too many at a time: when it says something again */
	if (!mc_push_begin(ep, &order))
		mc_known_add(&server->known, from);
}

/* It speaks, but its joining was lost, or heard by the one that served before us. */
static void welcome_if_new(struct mc_server *server, const struct mc_address *from)
{
	if (!mc_known_has(&server->known, from))
		welcome(server, from);
}

int mc_server_handle_request(struct mc_server *server, const struct mc_address *from,
			     const uint8_t *body, size_t len)
{
	struct mc_endpoint *ep = server->giver.session->ep;
	struct mc_span spans[MC_MAX_RUNS];
	int count = mc_read_request(body, len, server->giver.session->snapshot.pages, spans);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		if (server->calls->asked)
			server->calls->asked(server->arg, &spans[i]);
		if (server->group)
			mc_group_asked(server->group, from, &spans[i]);
		else
			mc_owe(&server->giver, from, &spans[i]);
	}
	mc_pay_debts(ep);
	if (server->group)
		mc_group_pay(server->group);
	welcome_if_new(server, from);
	return 0;
}

int mc_server_handle_join(struct mc_server *server, const struct mc_address *from,
			  const uint8_t *body, size_t len)
{
	struct mc_join join;

	if (mc_read_join(body, len, &join))
		return -EBADMSG;
	welcome(server, from);
	return 0;
}

int mc_server_handle_report(struct mc_server *server, const struct mc_address *from,
			    const uint8_t *body, size_t len)
{
	struct mc_endpoint *ep = server->giver.session->ep;
	struct mc_report report;

	if (mc_read_report(body, len, &report))
		return -EBADMSG;
	ep->counters->reports++;
	if (server->group)
		mc_group_report(server->group, &report);
	if (report.lacks)
		welcome_if_new(server, from);
	return 0;
}

void mc_server_pay(struct mc_server *server)
{
	if (server->group)
		mc_group_pay(server->group);
}
