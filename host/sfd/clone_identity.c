/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tells a clone from its parent: its letter or its agent's frame, its XenStore tree. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/sfd/clone.h"
#include "host/sfd/window.h"

_Static_assert(sizeof(((struct agent_resume *)NULL)->request) == SF_XS_KEY_MAX, "any key fits");

/* Who it is, for its agent: by a frame, or by the letter in its window. */
static void clone_note(const struct clone *c, const struct start *s, struct agent_resume *note)
{
	*note = (struct agent_resume){
		.op = s->quiesce, .id = c->id, .count = s->count, .checkpoint = s->checkpoint
	};
	memcpy(note->request, s->request,
	       strlen(s->request)); /* start_parse() looked at its length */
	vm_identity(&c->vm, note);
}

int clone_post(struct clone *c, const struct start *s)
{
	struct sfk_letter letter;
	struct agent_resume note;
	int rc;

	if (!s->dead_bytes)
		return 0;
	clone_note(c, s, &note);
	window_letter(&letter, &note);
	rc = window_post_clone(c->window_fd, c->lot->window.pages, &s->head, &letter);
	window_letter_wipe(&letter);
	return rc;
}

static void remove_reply(void *arg, const char *name)
{
	json_array_append_new(arg, json_string(name));
}

/* A clone's tree has no answers but its own. */
static void drop_replies(struct xs_server *xs)
{
	json_t *names = json_array(), *name;
	size_t i;

	xs_host_list(xs, SF_XS_REPLY, remove_reply, names);
	json_array_foreach(names, i, name) {
		char path[sizeof(SF_XS_REPLY) + 256];

		snprintf(path, sizeof(path), SF_XS_REPLY "/%s", json_string_value(name));
		xs_host_remove(xs, path);
	}
	json_decref(names);
}

static void ticket_node(struct xs_server *xs, unsigned ticket, const char *name, const char *format,
			...) __attribute__((format(printf, 4, 5)));
static void ticket_node(struct xs_server *xs, unsigned ticket, const char *name, const char *format,
			...)
{
	char path[96], text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%u/%s", ticket, name);
	xs_host_write(xs, path, text, false);
}

static void write_ticket(struct clone *c, const struct start *s)
{
	struct xs_server *xs = c->vm.xs;

	xs_host_remove(xs, SF_XS_TICKET);
	for (unsigned i = 0; i < s->count; i++) {
		struct in_addr at = family_address(c->vm.family, s->clones[i].slot);
		char name[48], text[INET_ADDRSTRLEN];

		snprintf(name, sizeof(name), "clone/%u/address", s->clones[i].id);
		ticket_node(xs, s->ticket, name, "%s", inet_ntop(AF_INET, &at, text, sizeof(text)));
	}
	ticket_node(xs, s->ticket, "state", "%s", SF_TICKET_RUNNING);
	ticket_node(xs, s->ticket, "granted", "%u", s->count);
	ticket_node(xs, s->ticket, "running", "%u", s->count);
}

/* The clone's own tree: the parent's at the instant, but for who it is. */
static void write_identity(struct clone *c, const struct start *s)
{
	struct xs_server *xs = c->vm.xs;
	json_t *key;
	size_t i;

	xs_host_printf(xs, "domid", "%u", c->vm.slot + 1);
	xs_host_write(xs, "name", c->vm.name, false);
	xs_host_printf(xs, "snowflock/id", "%u", c->id);
	xs_host_printf(xs, "snowflock/count", "%u", s->count);
	xs_host_printf(xs, "snowflock/last-ticket", "%u", s->ticket);
	write_ticket(c, s);
	drop_replies(xs);
	json_array_foreach(s->cancel, i, key)
		vm_answer(&c->vm, json_string_value(key),
			  "error ECANCELED asked by the parent, not by this clone");
	if (s->checkpoint)
		vm_answer(&c->vm, s->request, "ok %u %u %u", s->checkpoint, c->id, s->count);
	else
		vm_answer(&c->vm, s->request, "ok %u %u", c->id, s->count);
}

void clone_identify(struct clone *c, const struct start *s)
{
	struct agent_resume note;
	json_t *stream;
	size_t i;

	json_array_foreach(s->streams, i, stream) {
		if (c->stream_count < AGENT_MAX_STREAMS)
			c->streams[c->stream_count++] = (uint32_t)json_integer_value(stream);
	}
	if (vm_xs_restore(&c->vm, s->xs_state, s->xs_bytes)) {
		clone_leave(c, SF_CLONE_FAILED, 0, "the parent's XenStore state made no sense");
		return;
	}
	write_identity(c, s);
	if (!s->dead_bytes) {
		clone_note(c, s, &note);
		vm_resume(&c->vm, &note);
	}
	xs_hold(c->vm.xs, false);
}
