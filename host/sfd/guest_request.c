/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libsf asks for in a VM that was booted (proto/xenstore-tree.h): checked and passed on. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/guest.h"
#include "host/sfd/request.h"
#include "host/sfd/window.h"

void guest_settle(struct guest *g, const char *key)
{
	struct pending *p;

	LIST_FOREACH(p, &g->pending, entry) {
		if (strcmp(p->key, key))
			continue;
		LIST_REMOVE(p, entry);
		g->pending_count--;
		free(p);
		return;
	}
}

static void done_request(struct guest *g, const char *key, const char *answer)
{
	vm_answer(&g->vm, key, "%s", answer);
	guest_settle(g, key);
}

static void refuse_request(struct guest *g, const char *key, int error, const char *why)
{
	vm_answer_error(&g->vm, key, error, "%s", why);
	guest_settle(g, key);
}

/* Its clones were prepared for a guest that is not like this any more. */
static void refuse_module(struct guest *g, const char *key, const char *since)
{
	vm_answer_error(&g->vm, key, EAGAIN,
			"the guest's kernel module was loaded or unloaded since %s: ask for a new "
			"one", since);
	guest_settle(g, key);
}

/* The ticket named in a word. NULL: the request was refused. */
static struct ticket *named_ticket(struct guest *g, const char *key, const char *word)
{
	unsigned number;
	struct ticket *t =
		request_number(word, 0, UINT32_MAX, &number) ? NULL : guest_ticket(g, number);

	if (!t)
		refuse_request(g, key, ENOENT, "there is no such ticket");
	return t;
}

/* The same for one that may be used or given back now. */
static struct ticket *idle_ticket(struct guest *g, const char *key, const char *word)
{
	struct ticket *t = named_ticket(g, key, word);

	if (!t || freeze_ticket(g) != t)
		return t;
	refuse_request(g, key, EBUSY, "a clone operation with this ticket is under way");
	return NULL;
}

static struct checkpoint *named_checkpoint(struct guest *g, const char *key, const char *word)
{
	struct checkpoint *c;
	unsigned number;

	LIST_FOREACH(c, &g->checkpoints, entry) {
		if (!request_number(word, 0, UINT32_MAX, &number) && number == c->number)
			return c;
	}
	refuse_request(g, key, ENOENT, "there is no such checkpoint");
	return NULL;
}

static void ask_for_ticket(struct guest *g, const char *key, const char *const *words)
{
	struct ticket_wish wish;
	unsigned tickets = 0;
	const char *wrong;
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry)
		tickets++;
	if (request_ticket(words, &wish, &wrong))
		refuse_request(g, key, EINVAL, wrong);
	else if (wish.vcpus && wish.vcpus != g->vm.family->cpus)
		refuse_request(g, key, EINVAL, "a clone has as many virtual CPUs as its parent");
	else if (tickets >= GUEST_MAX_TICKETS)
		refuse_request(g, key, EDQUOT, "too many tickets: release some");
	else
		ticket_request(g, key, &wish);
}

static void ask_clone(struct guest *g, const char *key, const char *const *words)
{
	struct ticket *t = named_ticket(g, key, words[0]);

	if (!t)
		return;
	if (g->freeze)
		refuse_request(g, key, EBUSY, "another clone operation is under way");
	else if (t->state != TICKET_GRANTED)
		refuse_request(g, key, EBUSY, "the ticket is in use or used up");
	else if (!window_same(&g->window, &t->window))
		refuse_module(g, key, "the ticket was granted");
	else
		freeze_begin(g, key, t);
}

static void ask_checkpoint(struct guest *g, const char *key, const char *const *words)
{
	unsigned count = 0;
	struct checkpoint *c;

	(void)words;
	LIST_FOREACH(c, &g->checkpoints, entry)
		count++;
	if (count >= GUEST_MAX_CHECKPOINTS)
		refuse_request(g, key, EDQUOT, "too many checkpoints: drop some");
	else if (g->freeze)
		refuse_request(g, key, EBUSY, "another clone operation is under way");
	else
		freeze_begin(g, key, NULL);
}

static void ask_create(struct guest *g, const char *key, const char *const *words)
{
	struct checkpoint *c = named_checkpoint(g, key, words[0]);
	struct ticket *t = c ? idle_ticket(g, key, words[1]) : NULL;
	char answer[32];

	if (!t)
		return;
	if (t->state != TICKET_GRANTED) {
		refuse_request(g, key, EBUSY, "the ticket is in use or used up");
		return;
	}
	if (!instant_fits(c->instant, t)) {
		refuse_module(g, key, "the checkpoint was made, or the ticket granted");
		return;
	}
	ticket_start(t, c->instant, io_now_ns(), 0);
	snprintf(answer, sizeof(answer), "ok %u", t->count);
	done_request(g, key, answer);
}

static void ask_drop(struct guest *g, const char *key, const char *const *words)
{
	struct checkpoint *c = named_checkpoint(g, key, words[0]);

	if (!c)
		return;
	instant_put(c->instant);
	LIST_REMOVE(c, entry);
	free(c);
	done_request(g, key, "ok");
}

static void ask_kill(struct guest *g, const char *key, const char *const *words)
{
	struct ticket *t = idle_ticket(g, key, words[0]);

	if (!t)
		return;
	if (t->state == TICKET_RUNNING)
		ticket_kill(t, 0);
	done_request(g, key, "ok");
}

static void ask_release(struct guest *g, const char *key, const char *const *words)
{
	struct ticket *t = idle_ticket(g, key, words[0]);

	if (!t)
		return;
	if (t->state == TICKET_RUNNING || t->state == TICKET_RESERVING) {
		refuse_request(g, key, EBUSY, "the ticket has clones that run: join or kill them");
		return;
	}
	ticket_release(t);
	done_request(g, key, "ok");
}

static void ask_joined(struct guest *g, const char *key, const char *const *words)
{
	unsigned number;
	struct ticket *t =
		request_number(words[0], 0, UINT32_MAX, &number) ? NULL : guest_ticket(g, number);

	if (t && t->state == TICKET_DONE)
		ticket_joined(t);
	guest_settle(g, key);
}

static void ask_exit(struct guest *g, const char *key, const char *const *words)
{
	(void)words;
	refuse_request(g, key, EPERM, "only a clone ends by sf_exit(): this VM was booted");
}

static const struct verb {
	const char *name;
	unsigned words; /* behind it: no fewer than these */
	void (*ask)(struct guest *g, const char *key, const char *const *words);
} verbs[] = {
	{ "ticket", 1, ask_for_ticket },
	{ "clone", 1, ask_clone },
	{ "checkpoint", 0, ask_checkpoint },
	{ "create", 2, ask_create },
	{ "drop", 1, ask_drop },
	{ "kill", 1, ask_kill },
	{ "release", 1, ask_release },
	{ "joined", 1, ask_joined },
	{ "exit", 0, ask_exit },
};

/* Return: false if too much is under way; the request was refused. */
static bool admit_request(struct guest *g, const char *key)
{
	struct pending *p = g->pending_count < SF_XS_MAX_PENDING ? calloc(1, sizeof(*p)) : NULL;

	if (!p) {
		vm_answer_error(&g->vm, key, EDQUOT, "too many requests at once");
		return false;
	}
	snprintf(p->key, sizeof(p->key), "%s", key);
	LIST_INSERT_HEAD(&g->pending, p, entry);
	g->pending_count++;
	return true;
}

void guest_request(struct vm *vm, const char *key, const struct request *r)
{
	struct guest *g = (struct guest *)vm;

	if (g->dying || !admit_request(g, key))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(r->words[0], verbs[i].name))
			continue;
		if (r->count <= verbs[i].words)
			refuse_request(g, key, EINVAL, "the request lacks a word");
		else
			verbs[i].ask(g, key, r->words + 1);
		return;
	}
	refuse_request(g, key, EINVAL, "unknown request");
}
