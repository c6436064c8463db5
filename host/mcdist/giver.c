/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is asked for becomes a debt; debts are paid in their order, what somebody waits for first.
 *
 * A page is read when its datagram is written, not when it is asked for, so a full transport holds
 * up nothing but the answers. What is ahead goes out a datagram at a time, by turns: a request that
 * comes meanwhile, of somebody who waits, is looked at before the next.
 */
#include "host/mcdist/giver.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log.h"

static void debt_free(struct mc_endpoint *ep, struct mc_debt *debt)
{
	unsigned queue = debt->span.flags & MC_RUN_AHEAD ? 1 : 0;

	TAILQ_REMOVE(&ep->debts[queue], debt, link);
	ep->debt_count--;
	free(debt);
}

static void owe(struct mc_giver *giver, const struct mc_address *to, const struct mc_span *span)
{
	struct mc_endpoint *ep = giver->session->ep;
	unsigned queue = span->flags & MC_RUN_AHEAD ? 1 : 0;
	struct mc_debt *debt;

	if (ep->debt_count >= MC_DEBTS_MAX)
		return;
	debt = malloc(sizeof(*debt));
	if (!debt)
		return;
	*debt = (struct mc_debt){ .giver = giver, .to = *to, .span = *span };
	TAILQ_INSERT_TAIL(&ep->debts[queue], debt, link);
	ep->debt_count++;
	for (uint32_t i = 0; i < span->pages; i++)
		mc_recent_owed(&giver->recents, ep, to, span->gfn + i);
}

void mc_owe(struct mc_giver *giver, const struct mc_address *to, const struct mc_span *span)
{
	struct mc_span run = { .flags = span->flags };

	if (!(span->flags & MC_RUN_AGAIN)) {
		owe(giver, to, span);
		return;
	}
	for (uint64_t gfn = span->gfn; gfn < span->gfn + span->pages; gfn++) {
		if (!mc_recent_is(&giver->recents, giver->session->ep, to, gfn)) {
			run.gfn = run.pages ? run.gfn : gfn;
			run.pages++;
			continue;
		}
		if (run.pages)
			owe(giver, to, &run);
		run.pages = 0;
	}
	if (run.pages)
		owe(giver, to, &run);
}

void mc_owe_more(struct mc_giver *giver, const struct mc_address *to, const struct mc_span *page)
{
	struct mc_endpoint *ep = giver->session->ep;
	unsigned queue = page->flags & MC_RUN_AHEAD ? 1 : 0;
	struct mc_debt *last = TAILQ_LAST(&ep->debts[queue], mc_debts);

	if (last && last->giver == giver && mc_address_is(&last->to, to) &&
	    last->span.gfn + last->span.pages == page->gfn && last->span.pages < MC_MAX_PAGES)
		last->span.pages++;
	else
		owe(giver, to, page);
}

void mc_debts_drop(struct mc_giver *giver)
{
	struct mc_endpoint *ep = giver->session->ep;
	struct mc_debt *debt, *next;

	for (unsigned i = 0; i < 2; i++) {
		for (debt = TAILQ_FIRST(&ep->debts[i]); debt; debt = next) {
			next = TAILQ_NEXT(debt, link);
			if (debt->giver == giver)
				debt_free(ep, debt);
		}
	}
}

/* Writes the body. Return: its length, or -errno if a page cannot be read now. */
static ssize_t write_pages(struct mc_giver *g, const struct mc_span *span, bool group)
{
	struct mc_endpoint *ep = g->session->ep;
	struct mc_pages_writer w;

	mc_pages_begin(&w, mc_body(ep), span);
	for (uint32_t i = 0; i < span->pages; i++) {
		int got = g->read_page(g->arg, span->gfn + i, mc_pages_room(&w));

		if (got < 0)
			return got;
		if (!got)
			mc_pages_add_zero(&w);
		else if (g->coder)
			mc_coder_add(g->coder, &w, span->gfn + i, group, ep->counters);
		else
			mc_pages_add(&w, MC_PLAIN, MC_PAGE_BYTES);
	}
	return (ssize_t)mc_pages_end(&w);
}

/* Given, or not to be had now: who asks again is answered as it should be. */
static void remember(struct mc_giver *g, const struct mc_to *to, const struct mc_span *span,
		     bool given)
{
	for (uint32_t i = 0; i < span->pages && !to->told; i++) {
		if (given)
			mc_recent_given(&g->recents, g->session->ep, to->address, span->gfn + i);
		else
			mc_recent_forget(&g->recents, to->address, span->gfn + i);
	}
}

ssize_t mc_give(struct mc_giver *giver, const struct mc_to *to, const struct mc_span *span)
{
	struct mc_session *session = giver->session;
	struct mc_counters *counters = session->ep->counters;
	struct mc_seal *seal = to->told ? &session->group_seal : &session->seal;
	ssize_t len = write_pages(giver, span, to->told);
	int error;

	if (len < 0) {
		remember(giver, to, span, false);
		return 0;
	}
	if (to->told)
		len += (ssize_t)mc_write_told(mc_body(session->ep) + len, to->told);
	error = mc_send_as(session, seal, to->address, MC_PAGES, (size_t)len);
	if (error == -EAGAIN)
		return error;
	remember(giver, to, span, !error);
	if (error) {
		log_debug("mcdist: pages not sent: error %d", -error);
		return 0;
	}
	counters->served += span->pages;
	if (to->told)
		counters->multicast += span->pages;
	if (giver->also_counted)
		*giver->also_counted += span->pages;
	return len;
}

/* Pays the oldest. Return: false if there is none, or no room for it. */
static bool pay(struct mc_endpoint *ep, struct mc_debts *debts)
{
	struct mc_debt *debt = TAILQ_FIRST(debts);
	struct mc_to to = { 0 };

	if (!debt)
		return false;
	to.address = &debt->to;
	if (mc_give(debt->giver, &to, &debt->span) == -EAGAIN)
		return false;
	debt_free(ep, debt);
	return true;
}

static void pay_ahead_soon(struct mc_endpoint *ep)
{
	if (TAILQ_EMPTY(&ep->debts[0]) && !TAILQ_EMPTY(&ep->debts[1]))
		mc_timer_set(ep, &ep->pay, MC_NEXT_TURN);
}

static void on_pay(void *arg)
{
	struct mc_endpoint *ep = arg;

	if (TAILQ_EMPTY(&ep->debts[0]) && pay(ep, &ep->debts[1]))
		pay_ahead_soon(ep);
}

void mc_pay_debts(struct mc_endpoint *ep)
{
	while (pay(ep, &ep->debts[0]))
		;
	pay_ahead_soon(ep);
}

void mc_debts_init(struct mc_endpoint *ep)
{
	TAILQ_INIT(&ep->debts[0]);
	TAILQ_INIT(&ep->debts[1]);
	ep->pay = (struct mc_timer){ .fire = on_pay, .arg = ep };
}

void mc_debts_fini(struct mc_endpoint *ep)
{
	mc_timer_free(ep, &ep->pay);
}
