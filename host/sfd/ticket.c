/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tickets, as their home sees them: asking the hosts, granting, starting, following, giving back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/guest.h"
#include "host/sfd/hex.h"

/* A question to a host about a ticket; the ticket may be gone when the answer comes. */
struct ask {
	struct daemon *daemon;
	struct host *host;
	unsigned guest, ticket;
};

static double since_ms(uint64_t start_ns)
{
	return (double)(io_now_ns() - start_ns) / 1e6;
}

static struct ask *ask_new(struct ticket *t, struct host *host)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (a)
		*a = (struct ask){ .daemon = host->daemon, .host = host, .guest = t->guest->number,
				   .ticket = t->number };
	return a;
}

static struct ticket *ask_ticket(const struct ask *a)
{
	struct guest *g;

	LIST_FOREACH(g, &a->daemon->guests, entry) {
		if (g->number == a->guest)
			return guest_ticket(g, a->ticket);
	}
	return NULL;
}

/* Writes snowflock/ticket/<t>/… */
static void write_node(struct ticket *t, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void write_node(struct ticket *t, const char *name, const char *format, ...)
{
	char path[128], text[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%u/%s", t->number, name);
	xs_host_write(t->guest->vm.xs, path, text, false);
}

static void write_child(struct ticket *t, unsigned id, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "clone/%u/%s", id, name);
	write_node(t, path, "%s", text);
}

/* ---- asking ---- */

static void answer_nothing(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
}

static void refuse_ticket(struct ticket *t, int error)
{
	struct guest *g = t->guest;

	vm_answer_error(&g->vm, t->request, error, "%s", *t->why ? t->why : "no host has room for a clone");
	guest_settle(g, t->request);
	ticket_release(t);
}

/* Every child stands ready or was given up: IDs are the places left. */
static void ticket_grant(struct ticket *t)
{
	struct guest *g = t->guest;
	unsigned kept = 0;
	json_t *hosts;

	for (unsigned i = 0; i < t->count; i++) {
		if (t->children[i].state)
			t->children[kept++] = t->children[i];
		else
			g->slots[t->children[i].slot] = 0;
	}
	t->count = kept;
	if (!kept || kept < t->min) {
		refuse_ticket(t, ENOSPC);
		return;
	}
	t->state = TICKET_GRANTED;
	t->ticket_ns = io_now_ns() - t->asked_ns;
	hosts = json_object();
	for (unsigned i = 0; i < kept; i++) {
		const char *name = t->children[i].host->name;
		json_int_t so_far = json_integer_value(json_object_get(hosts, name));

		json_object_set_new(hosts, name, json_integer(so_far + 1));
		t->children[i].state = SF_CLONE_STARTING;
	}
	write_node(t, "granted", "%u", kept);
	write_node(t, "state", "%s", SF_TICKET_GRANTED);
	guest_tell(g, json_pack("{ss ss si si si so sf}", "ev", "clone", "step", "ticket", "ticket",
				(int)t->number, "n", (int)t->asked, "granted", (int)kept, "hosts", hosts, "ms",
				(double)t->ticket_ns / 1e6));
	vm_answer(&g->vm, t->request, "ok %u %u", t->number, kept);
	guest_settle(g, t->request);
}

/* A host answered "reserve". */
static void host_reserved(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	_cleanup_free_ struct ask *a = arg;
	struct ticket *t = ask_ticket(a);
	json_t *ready = error ? NULL : json_object_get(msg, "ready"), *slot;
	const char *trouble = error ? why : json_string_value(json_object_get(msg, "why"));
	size_t i;

	(void)bytes;
	(void)len;
	if (!t)
		return;
	if (trouble && *trouble)
		snprintf(t->why, sizeof(t->why), "host %s: %s", a->host->name, trouble);
	json_array_foreach(ready, i, slot) {
		for (unsigned k = 0; k < t->count; k++) {
			if (t->children[k].slot == (unsigned)json_integer_value(slot) &&
			    t->children[k].host == a->host)
				t->children[k].state = SF_CLONE_STARTING;
		}
	}
	if (!--t->reserving)
		ticket_grant(t);
}

static json_t *family_spec(const struct family *f)
{
	char base[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &f->base, base, sizeof(base));
	return json_pack("{si sI si si ss}", "number", (int)f->number, "ram_bytes", (json_int_t)f->ram_bytes,
			 "cpus", (int)f->cpus, "vni", (int)f->vni, "base", base);
}

static void reserve_on(struct ticket *t, struct host *host)
{
	json_t *slots = json_array();

	for (unsigned i = 0; i < t->count; i++) {
		if (t->children[i].host == host)
			json_array_append_new(slots, json_integer(t->children[i].slot));
	}
	if (!json_array_size(slots)) {
		json_decref(slots);
		return;
	}
	t->reserving++;
	peer_call(host,
		  json_pack("{ss so si so}", "op", "reserve", "family", family_spec(t->guest->vm.family),
			    "ticket", (int)t->number, "slots", slots),
		  NULL, 0, host_reserved, ask_new(t, host));
}

/* How many clones each host could take, and has been given. */
struct offer {
	struct host *host;
	unsigned room, given;
};

/* The host with the fewest of ours that has room left; the roomiest of these. */
static struct offer *best_offer(struct offer *offers, unsigned count, unsigned per_host)
{
	struct offer *best = NULL;

	for (unsigned i = 0; i < count; i++) {
		struct offer *o = &offers[i];

		if (o->given >= o->room || (per_host && o->given >= per_host))
			continue;
		if (!best || o->given < best->given || (o->given == best->given && o->room > best->room))
			best = o;
	}
	return best;
}

/* The lowest free slot, taken. Return: 0 if there is none. */
static unsigned take_slot(struct guest *g)
{
	for (unsigned slot = 1; slot <= FAMILY_MAX_SLOT; slot++) {
		if (!g->slots[slot]) {
			g->slots[slot] = 1;
			return slot;
		}
	}
	return 0;
}

/* All hosts said how much room they have: who takes which clone? */
static void ticket_assign(struct ticket *t, struct offer *offers, unsigned offer_count)
{
	struct daemon *d = t->guest->vm.daemon;

	t->children = calloc(t->asked, sizeof(*t->children));
	while (t->children && t->count < t->asked) {
		struct offer *o = best_offer(offers, offer_count, t->per_host);
		struct child *c = &t->children[t->count];

		c->slot = o ? take_slot(t->guest) : 0;
		if (!c->slot)
			break;
		o->given++;
		c->host = o->host;
		c->running_ms = c->answered_ms = -1;
		t->count++;
	}
	if (t->count < t->asked && t->count)
		snprintf(t->why, sizeof(t->why), "the hosts have room for %u clones of %llu MB RAM (a clone is "
			 "counted with %llu MB left for guests each)", t->count,
			 (unsigned long long)t->guest->vm.family->ram_bytes >> 20,
			 (unsigned long long)daemon_clone_charge(d, t->guest->vm.family->ram_bytes) >> 20);
	if (t->count < t->min) {
		for (unsigned i = 0; i < t->count; i++)
			t->guest->slots[t->children[i].slot] = 0;
		t->count = 0;
	}
	t->reserving = 1;	/* ours, so that a quick answer does not end it */
	for (unsigned i = 0; i < d->host_count && t->children; i++)
		reserve_on(t, &d->hosts[i]);
	if (!--t->reserving)
		ticket_grant(t);
}

/* The round of "room" questions: the answers so far. */
struct room_round {
	struct daemon *daemon;
	unsigned guest, ticket, asked;
	unsigned offer_count;
	struct offer offers[];
};

struct room_ask {
	struct room_round *round;
	struct host *host;
};

static void room_settled(struct room_round *round)
{
	struct ask a = { .daemon = round->daemon, .guest = round->guest, .ticket = round->ticket };
	struct ticket *t = ask_ticket(&a);

	if (--round->asked)
		return;
	if (t)
		ticket_assign(t, round->offers, round->offer_count);
	free(round);
}

static void host_room(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	_cleanup_free_ struct room_ask *ra = arg;
	struct room_round *round = ra->round;
	struct ask a = { .daemon = round->daemon, .guest = round->guest, .ticket = round->ticket };
	struct ticket *t = ask_ticket(&a);
	json_int_t free_bytes = 0;
	int percent = 100;

	(void)why;
	(void)bytes;
	(void)len;
	if (!error && t && !json_unpack(msg, "{sI si}", "free_bytes", &free_bytes, "clone_percent", &percent)) {
		uint64_t each = t->guest->vm.family->ram_bytes / 100 * (unsigned)percent;
		struct offer *o = &round->offers[round->offer_count++];

		*o = (struct offer){ .host = ra->host };
		o->room = each ? (unsigned)((uint64_t)free_bytes / each) : SF_MAX_CLONES;
		if (!o->room)
			snprintf(t->why, sizeof(t->why), "host %s has %lld MB left for guests, a clone takes %llu MB",
				 ra->host->name, (long long)free_bytes >> 20, (unsigned long long)each >> 20);
	}
	room_settled(round);
}

void ticket_request(struct guest *g, const char *key, unsigned n, unsigned min, unsigned per_host)
{
	struct daemon *d = g->vm.daemon;
	struct ticket *t = calloc(1, sizeof(*t));
	struct room_round *round = calloc(1, sizeof(*round) + d->host_count * sizeof(round->offers[0]));

	if (!t || !round) {
		vm_answer_error(&g->vm, key, ENOMEM, "out of memory");
		guest_settle(g, key);
		free(t);
		free(round);
		return;
	}
	t->guest = g;
	t->number = g->next_ticket++;
	t->asked = n;
	t->min = min;
	t->per_host = per_host;
	t->asked_ns = io_now_ns();
	t->join_ms = -1;
	snprintf(t->request, sizeof(t->request), "%s", key);
	LIST_INSERT_HEAD(&g->tickets, t, entry);
	*round = (struct room_round){ .daemon = d, .guest = g->number, .ticket = t->number, .asked = 1 };
	for (unsigned i = 0; i < d->host_count; i++) {
		struct room_ask *ra = d->hosts[i].up ? calloc(1, sizeof(*ra)) : NULL;

		if (!ra)
			continue;
		ra->round = round;
		ra->host = &d->hosts[i];
		round->asked++;
		peer_call(ra->host, json_pack("{ss}", "op", "room"), NULL, 0, host_room, ra);
	}
	room_settled(round);
}

/* ---- starting ---- */

static json_t *start_message(struct ticket *t, struct instant *i)
{
	struct family *f = t->guest->vm.family;
	char snapshot[17], key[2 * MEMTAP_KEY_BYTES + 1];
	json_t *clones = json_array();

	hex_print((const uint8_t *)&i->snapshot, sizeof(i->snapshot), snapshot);
	hex_print(i->key, sizeof(i->key), key);
	for (unsigned k = 0; k < t->count; k++)
		json_array_append_new(clones, json_pack("{si si si}", "id", (int)k + 1, "slot",
							(int)t->children[k].slot, "serial",
							(int)t->children[k].serial));
	return json_pack("{ss si si si si si sI sI ss ss ss ss sO sO so}", "op", "start", "number", (int)f->number,
			 "ticket", (int)t->number, "file", (int)i->file, "pages", (int)f->pages_port,
			 "checkpoint", (int)i->checkpoint, "descriptor_bytes", (json_int_t)i->descriptor_bytes,
			 "quiesce", (json_int_t)i->quiesce, "snapshot", snapshot, "key", key, "verb", i->verb, "request", i->request, "cancel",
			 i->cancel, "streams", i->streams, "clones", clones);
}

/* A host did not take "start": its clones never ran. */
static void host_started(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	_cleanup_free_ struct ask *a = arg;
	struct ticket *t = ask_ticket(a);

	(void)msg;
	(void)bytes;
	(void)len;
	for (unsigned i = 0; t && error && i < t->count; i++) {
		struct child *c = &t->children[i];

		if (c->host != a->host || c->ended)
			continue;
		snprintf(c->reason, sizeof(c->reason), "host %s: %s", a->host->name, why);
		ticket_child_ended(t, i + 1, error == -ECONNRESET || error == -EHOSTDOWN ? SF_CLONE_LOST :
											       SF_CLONE_FAILED);
	}
}

static bool has_child_on(const struct ticket *t, const struct host *host)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (t->children[i].host == host)
			return true;
	}
	return false;
}

static void send_start(struct ticket *t, struct instant *i)
{
	struct daemon *d = t->guest->vm.daemon;
	size_t len = i->descriptor_bytes + i->xs_bytes;
	_cleanup_free_ uint8_t *bytes = malloc(len);
	json_t *msg = start_message(t, i);

	if (!bytes)
		abort();	/* the clones' QEMUs stand ready: less than a MB cannot be what is missing */
	memcpy(bytes, i->descriptor, i->descriptor_bytes);
	memcpy(bytes + i->descriptor_bytes, i->xs_state, i->xs_bytes);
	/* other hosts first: theirs is the longer way */
	for (unsigned k = 0; k < d->host_count; k++) {
		if (&d->hosts[k] != d->self && has_child_on(t, &d->hosts[k]))
			peer_call(&d->hosts[k], json_deep_copy(msg), bytes, len, host_started,
				  ask_new(t, &d->hosts[k]));
	}
	if (has_child_on(t, d->self))
		peer_call(d->self, json_deep_copy(msg), bytes, len, host_started, ask_new(t, d->self));
	json_decref(msg);
}

static void tell_step(struct ticket *t, const char *step, unsigned id, double ms)
{
	guest_tell(t->guest, json_pack("{ss ss si si ss sf}", "ev", "clone", "step", step, "op", (int)t->op, "id",
				       (int)id, "host", t->children[id - 1].host->name, "ms", ms));
}

void ticket_start(struct ticket *t, struct instant *instant, uint64_t start_ns, double pause_ms)
{
	struct guest *g = t->guest;

	t->instant = instant_get(instant);
	t->state = TICKET_RUNNING;
	t->op = g->next_op++;
	json_array_append_new(g->records, json_null());	/* its place, [op - 1] */
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
		write_child(t, id, "state", c->state);
		write_child(t, id, "host", c->host->name);
		write_child(t, id, "address", inet_ntop(AF_INET, &at, text, sizeof(text)));
	}
	write_node(t, "running", "%u", t->running);
	write_node(t, "state", "%s", SF_TICKET_RUNNING);
	xs_host_printf(g->vm.xs, "snowflock/last-ticket", "%u", t->number);
	xs_host_printf(g->vm.xs, "snowflock/count", "%u", t->count);
	guest_tell(g, json_pack("{ss ss si si si sf sI}", "ev", "clone", "step", "cloned", "op", (int)t->op, "n",
				(int)t->asked, "granted", (int)t->count, "pause_ms", pause_ms,
				"descriptor_bytes", (json_int_t)instant->descriptor_bytes));
}

/* ---- following ---- */

void ticket_running(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];

	if (c->ended || c->running_ms >= 0)
		return;
	c->running_ms = since_ms(t->start_ns);
	c->state = SF_CLONE_RUNNING;
	write_child(t, id, "state", c->state);
	tell_step(t, "running", id, c->running_ms);
}

void ticket_answered(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];

	if (c->answered_ms >= 0)
		return;
	c->answered_ms = since_ms(t->start_ns);
	tell_step(t, "answered", id, c->answered_ms);
}

static void tell_ended(struct ticket *t, unsigned id)
{
	const struct child *c = &t->children[id - 1];
	json_t *ev = json_pack("{ss ss si si ss ss sI sI sI}", "ev", "clone", "step", "ended", "op", (int)t->op,
			       "id", (int)id, "host", c->host->name, "state", c->state, "faults",
			       (json_int_t)c->faults, "pages_fetched", (json_int_t)c->pages_fetched,
			       "bytes_fetched", (json_int_t)c->bytes_fetched);

	if (!strcmp(c->state, SF_CLONE_EXITED))
		json_object_set_new(ev, "status", json_integer(c->status));
	else
		json_object_set_new(ev, "reason", json_string(c->reason));
	guest_tell(t->guest, ev);
}

void ticket_child_stored(struct ticket *t, unsigned id)
{
	struct child *c = &t->children[id - 1];
	char text[24];

	if (c->result) {
		snprintf(text, sizeof(text), "%zu", c->result_bytes);
		write_child(t, id, "result", text);
		free(c->result);
		c->result = NULL;
	}
	if (!strcmp(c->state, SF_CLONE_EXITED)) {
		snprintf(text, sizeof(text), "%d", c->status);
		write_child(t, id, "status", text);
	} else {
		write_child(t, id, "reason", c->reason);
	}
	write_child(t, id, "state", c->state);
	write_node(t, "running", "%u", --t->running);
	tell_ended(t, id);
	if (t->running)
		return;
	t->state = TICKET_DONE;
	write_node(t, "state", "%s", SF_TICKET_DONE);
}

void ticket_child_ended(struct ticket *t, unsigned id, const char *state)
{
	struct child *c = &t->children[id - 1];

	if (c->ended)
		return;
	c->ended = true;
	c->state = state;
	t->ended_ns = io_now_ns();
	if (c->result && !strcmp(state, SF_CLONE_EXITED) && c->result_bytes == c->result_room)
		stream_result(t->guest, t->number, id, c->result, c->result_bytes);
	else
		ticket_child_stored(t, id);
}

void ticket_host_lost(struct ticket *t, struct host *host)
{
	if (t->state == TICKET_RESERVING)
		return;		/* its "reserve" fails by itself */
	if (t->state == TICKET_GRANTED)
		return;		/* its "start" will */
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
	t->join_ms = since_ms(t->ended_ns) + t->exit_ms;
	guest_tell(t->guest, json_pack("{ss ss si sf}", "ev", "clone", "step", "joined", "op", (int)t->op,
				       "join_ms", t->join_ms));
}

/* ---- ending ---- */

static json_t *ticket_message(const struct ticket *t, const char *op)
{
	return json_pack("{ss si si}", "op", op, "number", (int)t->guest->number, "ticket", (int)t->number);
}

void ticket_kill(struct ticket *t, unsigned id)
{
	struct daemon *d = t->guest->vm.daemon;

	for (unsigned i = 0; i < d->host_count; i++) {
		json_t *msg;

		if (!has_child_on(t, &d->hosts[i]) || (id && t->children[id - 1].host != &d->hosts[i]))
			continue;
		msg = ticket_message(t, "kill");
		if (id)
			json_object_set_new(msg, "id", json_integer((json_int_t)id));
		peer_call(&d->hosts[i], msg, NULL, 0, answer_nothing, NULL);
	}
}

void ticket_release(struct ticket *t)
{
	struct guest *g = t->guest;
	struct daemon *d = g->vm.daemon;
	char path[64];

	if (t->op)
		json_array_set_new(g->records, t->op - 1, ticket_record(t));
	for (unsigned i = 0; i < d->host_count; i++) {
		if (has_child_on(t, &d->hosts[i]))
			peer_call(&d->hosts[i], ticket_message(t, "release"), NULL, 0, answer_nothing, NULL);
	}
	for (unsigned i = 0; i < t->count; i++) {
		g->slots[t->children[i].slot] = 0;
		free(t->children[i].result);
	}
	if (g->vm.xs) {
		snprintf(path, sizeof(path), SF_XS_TICKET "/%u", t->number);
		xs_host_remove(g->vm.xs, path);
	}
	instant_put(t->instant);
	free(t->children);
	LIST_REMOVE(t, entry);
	free(t);
}

/* ---- the record ---- */

static json_t *milliseconds(double ms)
{
	return ms < 0 ? json_null() : json_real(ms);
}

json_t *ticket_record(const struct ticket *t)
{
	json_t *clones, *hosts;

	if (!t->op)
		return NULL;
	clones = json_array();
	hosts = json_array();
	for (unsigned i = 0; i < t->count; i++) {
		const struct child *c = &t->children[i];
		json_t *status = !c->ended ? json_null() :
				 !strcmp(c->state, SF_CLONE_EXITED) ? json_integer(c->status) :
								      json_string(c->state);
		bool listed = false;

		for (unsigned k = 0; k < i; k++)
			listed = listed || t->children[k].host == c->host;
		if (!listed)
			json_array_append_new(hosts, json_string(c->host->name));
		json_array_append_new(clones,
				      json_pack("{si ss so so sI sI sI so}", "id", (int)i + 1, "host",
						c->host->name, "running_ms", milliseconds(c->running_ms),
						"answered_ms", milliseconds(c->answered_ms), "faults",
						(json_int_t)c->faults, "pages_fetched",
						(json_int_t)c->pages_fetched, "bytes_fetched",
						(json_int_t)c->bytes_fetched, "status", status));
	}
	return json_pack("{si si so sf sf sI so so}", "n", (int)t->asked, "granted", (int)t->count, "hosts", hosts,
			 "ticket_ms", (double)t->ticket_ns / 1e6, "pause_ms", t->pause_ms, "descriptor_bytes",
			 (json_int_t)(t->instant ? t->instant->descriptor_bytes : 0), "clones", clones, "join_ms",
			 milliseconds(t->join_ms));
}
