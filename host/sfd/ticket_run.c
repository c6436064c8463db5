/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ticket's clones, as their home sees them: started, followed to their end. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/hex.h"
#include "host/sfd/ticket_internal.h"
#include "host/sfd/window.h"

/* ---- starting ---- */

static int node_port(const struct route *r, uint32_t node)
{
	return node < r->nodes ? ntohs(r->at[node].addr.sin6_port) : 0;
}

static json_t *list_members(const struct instant *i)
{
	const struct route *r = &i->route;
	json_t *members = json_array();

	for (uint32_t node = 1; node < r->nodes; node++) {
		struct in_addr addr = memtap_at_address(&r->at[node]);
		char text[INET_ADDRSTRLEN];
		json_t *disks = json_array();

		/* hosts come to all routes of an instant together, in one order */
		for (unsigned n = 0; n < i->disk_count; n++)
			json_array_append_new(disks, json_integer(node_port(&i->disks[n].route, node)));
		json_array_append_new(members,
				      json_pack("{ss si so}", "address",
						inet_ntop(AF_INET, &addr, text, sizeof(text)),
						"pages", node_port(r, node), "disks", disks));
	}
	return members;
}

static json_t *list_disks(const struct instant *i, const struct family *f)
{
	json_t *disks = json_array();

	for (unsigned n = 0; n < i->disk_count; n++) {
		const struct instant_disk *k = &i->disks[n];
		char snapshot[17], key[2 * MEMTAP_KEY_BYTES + 1];

		hex_print((const uint8_t *)&k->snapshot, sizeof(k->snapshot), snapshot);
		hex_print(k->key, sizeof(k->key), key);
		json_array_append_new(disks, json_pack("{ss ss si}", "snapshot", snapshot, "key",
						       key, "pages", (int)f->disks[n].port));
	}
	return disks;
}

static json_t *start_message(struct ticket *t, struct instant *i)
{
	struct family *f = t->guest->vm.family;
	char snapshot[17], key[2 * MEMTAP_KEY_BYTES + 1], window[2 * WINDOW_HEAD_BYTES + 1];
	json_t *clones = json_array(), *msg;

	hex_print((const uint8_t *)&i->snapshot, sizeof(i->snapshot), snapshot);
	hex_print(i->key, sizeof(i->key), key);
	for (unsigned k = 0; k < t->count; k++)
		json_array_append_new(clones, json_pack("{si si si}", "id", (int)k + 1, "slot",
							(int)t->children[k].slot, "serial",
							(int)t->children[k].serial));
	msg = json_pack("{ss si si si si si sI sI sI ss ss ss sO sO so}", "op", "start", "number",
			(int)f->number, "ticket", (int)t->number, "file", (int)i->file, "pages",
			(int)f->pages_port, "checkpoint", (int)i->checkpoint, "descriptor_bytes",
			(json_int_t)i->descriptor_bytes, "dead_bytes", (json_int_t)i->dead_bytes,
			"quiesce", (json_int_t)i->quiesce, "snapshot", snapshot, "key", key,
			"request", i->request, "cancel", i->cancel, "streams", i->streams, "clones",
			clones);
	json_object_update_new(msg, json_pack("{ss so sI sb so}", "mode", mc_mode_name(i->route.mode),
					      "members", list_members(i), "push",
					      (json_int_t)i->route.push_pages, "compress",
					      (int)i->route.compress, "disks",
					      list_disks(i, f)));
	if (i->dead_bytes) {
		hex_print((const uint8_t *)&i->head, WINDOW_HEAD_BYTES, window);
		json_object_set_new(msg, "window", json_string(window));
	}
	return msg;
}

/* A host did not take "start": its clones never ran. */
static void host_started(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			 size_t len)
{
	_cleanup_free_ struct ask *a = arg;
	struct ticket *t = ask_ticket(a);

	(void)msg;
	(void)bytes;
	(void)len;
	for (unsigned i = 0; t && error && t->state == TICKET_RUNNING && i < t->count; i++) {
		struct child *c = &t->children[i];

		if (c->host != a->host || c->ended)
			continue;
		snprintf(c->reason, sizeof(c->reason), "host %s: %s", a->host->name, why);
		ticket_child_ended(t, i + 1,
				   error == -ECONNRESET || error == -EHOSTDOWN ? SF_CLONE_LOST
									       : SF_CLONE_FAILED);
	}
}

/* The ticket's hosts, as members that may ask. Return: 0, -ENOSPC, or -ENOMEM. */
static int add_to_routes(struct instant *i, const struct ticket *t)
{
	const struct daemon *d = t->guest->vm.daemon;
	int rc = route_add_ticket(&i->route, d, t, ROUTE_MEMORY);

	for (unsigned n = 0; n < i->disk_count && !rc; n++)
		rc = route_add_ticket(&i->disks[n].route, d, t, (int)n);
	return rc;
}

static void send_start(struct ticket *t, struct instant *i)
{
	struct daemon *d = t->guest->vm.daemon;
	size_t len = i->descriptor_bytes + i->dead_bytes + i->xs_bytes;
	_cleanup_free_ uint8_t *bytes = malloc(len);
	uint8_t *at = bytes;
	json_t *msg;

	/* a host for which there is no place any more will refuse to start */
	if (!bytes || add_to_routes(i, t) == -ENOMEM)
		abort(); /* the clones' QEMUs stand ready: some MB cannot be what is missing */
	msg = start_message(t, i);
	at = mempcpy(at, i->descriptor, i->descriptor_bytes);
	if (i->dead_bytes)
		at = mempcpy(at, i->dead, i->dead_bytes);
	memcpy(at, i->xs_state, i->xs_bytes);
	/* other hosts first: theirs is the longer way */
	for (unsigned k = 0; k < d->host_count; k++) {
		if (&d->hosts[k] != d->self && ticket_has_child_on(t, &d->hosts[k]))
			peer_call(&d->hosts[k], json_deep_copy(msg), bytes, len, host_started,
				  ask_new(t, &d->hosts[k]));
	}
	if (ticket_has_child_on(t, d->self))
		peer_call(d->self, json_deep_copy(msg), bytes, len, host_started,
			  ask_new(t, d->self));
	json_decref(msg);
}

static void tell_step(struct ticket *t, const char *step, unsigned id, double ms)
{
	guest_tell(t->guest,
		   json_pack("{ss ss si si ss sf}", "ev", "clone", "step", step, "op", (int)t->op,
			     "id", (int)id, "host", t->children[id - 1].host->name, "ms", ms));
}

void ticket_start(struct ticket *t, struct instant *instant, uint64_t start_ns, double pause_ms)
{
	double hold_ms = window_hold_ms(&instant->head), disk_ms = instant->disk_ms;
	struct guest *g = t->guest;

	t->instant = instant_get(instant);
	t->state = TICKET_RUNNING;
	t->op = g->next_op++;
	json_array_append_new(g->records, json_null()); /* its place, [op - 1] */
	t->start_ns = start_ns;
	t->pause_ms = pause_ms;
	t->running = t->count;
	for (unsigned i = 0; i < t->count; i++)
		t->children[i].serial = g->next_serial++;
	send_start(t, instant);
	for (unsigned id = 1; id <= t->count; id++) {
		struct child *c = &t->children[id - 1];
		struct in_addr at = family_address(g->vm.family, c->slot);
		char text[INET_ADDRSTRLEN];

		c->state = SF_CLONE_STARTING;
		ticket_write_child(t, id, "state", c->state);
		ticket_write_child(t, id, "host", c->host->name);
		ticket_write_child(t, id, "address", inet_ntop(AF_INET, &at, text, sizeof(text)));
	}
	ticket_write(t, "running", "%u", t->running);
	ticket_write(t, "state", "%s", SF_TICKET_RUNNING);
	xs_host_printf(g->vm.xs, "snowflock/last-ticket", "%u", t->number);
	xs_host_printf(g->vm.xs, "snowflock/count", "%u", t->count);
	guest_tell(g,
		   json_pack("{ss ss si si si sf so sI sI so}", "ev", "clone", "step", "cloned", "op",
			     (int)t->op, "n", (int)t->asked, "granted", (int)t->count, "pause_ms",
			     pause_ms, "hold_ms", hold_ms < 0 ? json_null() : json_real(hold_ms),
			     "dead_pages", (json_int_t)instant->dead_pages, "descriptor_bytes",
			     (json_int_t)instant->descriptor_bytes, "disk_ms",
			     disk_ms < 0 ? json_null() : json_real(disk_ms)));
}

/* ---- following ---- */

void ticket_running(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];

	if (c->ended || c->running_ms >= 0)
		return;
	c->running_ms = ticket_since_ms(t->start_ns);
	c->state = SF_CLONE_RUNNING;
	ticket_write_child(t, id, "state", c->state);
	tell_step(t, "running", id, c->running_ms);
}

void ticket_answered(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];

	if (c->answered_ms >= 0)
		return;
	c->answered_ms = ticket_since_ms(t->start_ns);
	tell_step(t, "answered", id, c->answered_ms);
}

static void tell_ended(struct ticket *t, unsigned id)
{
	const struct child *c = &t->children[id - 1];
	json_t *ev = json_pack("{ss ss si si ss ss sI sI sI}", "ev", "clone", "step", "ended", "op",
			       (int)t->op, "id", (int)id, "host", c->host->name, "state", c->state,
			       "faults", (json_int_t)c->faults, "pages_fetched",
			       (json_int_t)c->pages_fetched, "bytes_fetched",
			       (json_int_t)c->bytes_fetched);

	if (!strcmp(c->state, SF_CLONE_EXITED))
		json_object_set_new(ev, "status", json_integer(c->status));
	else
		json_object_set_new(ev, "reason", json_string(c->reason));
	guest_tell(t->guest, ev);
}

void child_drop_result(struct daemon *d, struct child *c)
{
	free(steal_ptr(&c->result));
	daemon_give_memory(d, c->result_room);
	c->result_room = c->result_bytes = 0;
}

void ticket_child_stored(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];
	char text[24];

	if (c->result) {
		snprintf(text, sizeof(text), "%zu", c->result_bytes);
		ticket_write_child(t, id, "result", text);
		child_drop_result(t->guest->vm.daemon, c);
	}
	if (!strcmp(c->state, SF_CLONE_EXITED)) {
		snprintf(text, sizeof(text), "%d", c->status);
		ticket_write_child(t, id, "status", text);
	} else {
		ticket_write_child(t, id, "reason", c->reason);
	}
	ticket_write_child(t, id, "state", c->state);
	ticket_write(t, "running", "%u", --t->running);
	tell_ended(t, id);
	if (t->running)
		return;
	t->state = TICKET_DONE;
	ticket_write(t, "state", "%s", SF_TICKET_DONE);
}

void ticket_child_ended(struct ticket *t, unsigned id, const char *state)
{
	struct child *c = &t->children[id - 1];

	if (c->ended)
		return;
	c->ended = true;
	c->state = state;
	t->ended_ns = io_now_ns();
	if (c->result && (strcmp(state, SF_CLONE_EXITED) || c->result_bytes != c->result_room))
		child_drop_result(t->guest->vm.daemon, c);
	if (c->result)
		stream_result(t->guest, t->number, id, c->result, c->result_bytes);
	else
		ticket_child_stored(t, id);
}

void ticket_host_lost(struct ticket *t, struct host *host)
{
	if (t->state != TICKET_RUNNING)
		return; /* its "reserve" fails by itself, or its "start" will */
	for (unsigned id = 1; id <= t->count; id++) {
		struct child *c = &t->children[id - 1];

		if (c->host != host || c->ended)
			continue;
		snprintf(c->reason, sizeof(c->reason), "host %s is lost", host->name);
		ticket_child_ended(t, id, SF_CLONE_LOST);
	}
}

void ticket_joined(struct ticket *t)
{
	if (t->join_ms >= 0)
		return;
	t->join_ms = ticket_since_ms(t->ended_ns) + t->exit_ms;
	guest_tell(t->guest, json_pack("{ss ss si sf}", "ev", "clone", "step", "joined", "op",
				       (int)t->op, "join_ms", t->join_ms));
}
