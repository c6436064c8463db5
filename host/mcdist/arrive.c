/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What arrives at a member: pages are decoded, handed on, and passed to who asked us for them. */
#include "host/mcdist/fetch.h"

#include <errno.h>

/* Return: false if it is not to be had: corrupt, or equal to one that is not here. */
static bool decode(struct mc_fetch *f, uint64_t gfn, const struct mc_coded *coded, uint8_t *page)
{
	uint64_t other;
	int got = -ENOENT;

	if (coded->coding == MC_LZ4)
		return mc_decompress(coded, page);
	other = mc_same_gfn(coded);
	if (other < f->session->snapshot.pages && f->calls->read_page)
		got = f->calls->read_page(f->arg, other, page);
	if (got < 0)
		mc_fetch_again(f, gfn);
	if (got == 0)
		memset(page, 0, MC_PAGE_BYTES);
	return got >= 0;
}

/* Was it here before? Only a relay cares. */
static bool is_here(struct mc_fetch *f, uint64_t gfn)
{
	uint8_t page[MC_PAGE_BYTES];

	return f->calls->read_page(f->arg, gfn, page) >= 0;
}

/* Return: true if it is new here, and nobody had asked for it. */
static bool take_page(struct mc_fetch *f, const struct mc_arrival *a)
{
	bool fresh = f->relay && f->member.mode == MC_TREE && !is_here(f, a->gfn);

	f->answered = false;
	f->calls->arrived(f->arg, a);
	if (f->relay)
		mc_relay_arrived(f->relay, a->gfn);
	return fresh && !f->answered;
}

static void take_pages(struct mc_fetch *f, struct mc_pages_reader r)
{
	uint32_t overhead = MC_OVERHEAD_BYTES + sizeof(struct mc_pages);
	struct mc_span span = r.span;
	bool fresh = true;

	f->waited_ns = mc_waited_ns(span.flags);
	for (uint32_t i = 0; i < span.pages; i++) {
		struct mc_coded coded = mc_next_page(&r, i);
		struct mc_arrival a = { .gfn = span.gfn + i, .page = coded.data };
		uint8_t page[MC_PAGE_BYTES];

		a.wire_bytes = overhead + coded.bytes +
			       (coded.data ? (uint32_t)sizeof(struct mc_page) : 0);
		overhead = 0;	/* the first page bears it */
		if (coded.data && coded.coding != MC_PLAIN) {
			if (!decode(f, a.gfn, &coded, page))
				continue;
			a.page = page;
		}
		fresh &= take_page(f, &a);
	}
	if (f->relay)
		mc_relay_taken(f->relay, &span, fresh);
}

int mc_fetch_handle_pages(struct mc_session *session, const struct mc_heard *heard,
			  const uint8_t *body, size_t len)
{
	bool group = mc_is_group_sender(heard->sender);
	struct mc_span told[MC_TOLD];
	struct mc_pages_reader pages;
	struct mc_fetch *f;
	int error = 0;

	if (group)
		error = mc_read_told(body, &len, session->snapshot.pages, told);
	if (!error)
		error = mc_read_pages(body, len, session->snapshot.pages, &pages);

	if (error)
		return error;
	if (LIST_EMPTY(&session->fetches))
		return -ENOENT;
	LIST_FOREACH(f, &session->fetches, link) {
		take_pages(f, pages);
		mc_member_heard(f, heard, pages.span.pages, session->ep->received_ns);
		mc_repair_heard(f, heard->from);
		if (group)
			mc_repair_told(f, heard, told);
	}
	return 0;
}

int mc_fetch_handle_done(struct mc_session *session, size_t len)
{
	struct mc_fetch *f;

	if (len)
		return -EBADMSG;
	if (LIST_EMPTY(&session->fetches))
		return -ENOENT;
	LIST_FOREACH(f, &session->fetches, link) {
		f->member.joined = true;
		if (f->calls->pushed)
			f->calls->pushed(f->arg);
		if (f->relay)
			mc_relay_done(f->relay);
	}
	return 0;
}

struct mc_relay *mc_fetch_relay(const struct mc_session *session)
{
	struct mc_fetch *f;

	LIST_FOREACH(f, &session->fetches, link) {
		if (f->relay)
			return f->relay;
	}
	return NULL;
}
