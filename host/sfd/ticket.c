/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tickets, as their home sees them: asking the hosts, granting, giving back. */
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
#include "host/sfd/fields.h"
#include "host/sfd/offer.h"
#include "host/sfd/request.h"
#include "host/sfd/ticket_internal.h"

double ticket_since_ms(uint64_t start_ns)
{
	return (double)(io_now_ns() - start_ns) / 1e6;
}

struct ask *ask_new(struct ticket *t, struct host *host)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a)
		abort(); /* without the answer's receiver the guest would wait for ever */
	*a = (struct ask){
		.daemon = host->daemon, .host = host, .guest = t->guest->number, .ticket = t->number
	};
	return a;
}

struct ticket *ask_ticket(const struct ask *a)
{
	struct guest *g;

	LIST_FOREACH(g, &a->daemon->guests, entry) {
		if (g->number == a->guest)
			return guest_ticket(g, a->ticket);
	}
	return NULL;
}

void ticket_write(struct ticket *t, const char *name, const char *format, ...)
{
	char path[128], text[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%u/%s", t->number, name);
	xs_host_write(t->guest->vm.xs, path, text, false);
}

void ticket_write_child(struct ticket *t, unsigned id, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "clone/%u/%s", id, name);
	ticket_write(t, path, "%s", text);
}

bool ticket_has_child_on(const struct ticket *t, const struct host *host)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (t->children[i].host == host)
			return true;
	}
	return false;
}

/* ---- asking ---- */

static void answer_nothing(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			   size_t len)
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

	vm_answer_error(&g->vm, t->request, error, "%s",
			*t->why ? t->why : "no host has room for a clone");
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
	ticket_write(t, "granted", "%u", kept);
	ticket_write(t, "state", "%s", SF_TICKET_GRANTED);
	guest_tell(g, json_pack("{ss ss si si si so sf}", "ev", "clone", "step", "ticket", "ticket",
				(int)t->number, "n", (int)t->asked, "granted", (int)kept, "hosts",
				hosts, "ms", (double)t->ticket_ns / 1e6));
	vm_answer(&g->vm, t->request, "ok %u %u", t->number, kept);
	guest_settle(g, t->request);
}

/* The ports of a host's memtaps, for memory and each disk. Return: 0 or -EINVAL. */
static int read_ports(const struct family *f, const json_t *msg, struct child *ports)
{
	const json_t *disks = json_object_get(msg, "disks");
	unsigned port;

	if (!field_unsigned(msg, "pages", 1, UINT16_MAX, &port) ||
	    json_array_size(disks) != f->disk_count)
		return -EINVAL;
	ports->pages_port = (uint16_t)port;
	for (unsigned i = 0; i < f->disk_count; i++) {
		json_int_t of_disk = json_integer_value(json_array_get(disks, i));

		if (of_disk < 1 || of_disk > UINT16_MAX)
			return -EINVAL;
		ports->disk_ports[i] = (uint16_t)of_disk;
	}
	return 0;
}

/* A host answered "reserve". */
static void host_reserved(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			  size_t len)
{
	_cleanup_free_ struct ask *a = arg;
	struct ticket *t = ask_ticket(a);
	json_t *ready = error ? NULL : json_object_get(msg, "ready"), *slot;
	const char *trouble = error ? why : json_string_value(json_object_get(msg, "why"));
	struct child ports = { 0 };
	size_t i;

	(void)bytes;
	(void)len;
	if (!t)
		return;
	if (ready && read_ports(t->guest->vm.family, msg, &ports)) {
		ready = NULL;
		trouble = "it does not tell its memtaps' ports";
	}
	if (trouble && *trouble)
		snprintf(t->why, sizeof(t->why), "host %s: %s", a->host->name, trouble);
	json_array_foreach(ready, i, slot) {
		for (unsigned k = 0; k < t->count; k++) {
			if (t->children[k].slot == json_integer_value(slot) &&
			    t->children[k].host == a->host) {
				t->children[k].state = SF_CLONE_STARTING;
				t->children[k].pages_port = ports.pages_port;
				memcpy(t->children[k].disk_ports, ports.disk_ports,
				       sizeof(ports.disk_ports));
			}
		}
	}
	if (!--t->reserving)
		ticket_grant(t);
}

static json_t *family_spec(const struct family *f)
{
	char base[INET_ADDRSTRLEN], group[INET_ADDRSTRLEN];
	json_t *disks = json_array();

	for (unsigned i = 0; i < f->disk_count; i++)
		json_array_append_new(disks, json_integer((json_int_t)f->disks[i].bytes));
	inet_ntop(AF_INET, &f->base, base, sizeof(base));
	inet_ntop(AF_INET, &f->group.sin_addr, group, sizeof(group));
	return json_pack("{si sI si si ss ss si sb so}", "number", (int)f->number, "ram_bytes",
			 (json_int_t)f->ram_bytes, "cpus", (int)f->cpus, "vni", (int)f->vni, "base",
			 base, "group", group, "group_port", (int)ntohs(f->group.sin_port), "ipv6",
			 f->ipv6, "disks", disks);
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
		  json_pack("{ss so si so sI sI}", "op", "reserve", "family",
			    family_spec(t->guest->vm.family), "ticket", (int)t->number, "slots",
			    slots, "window_gfn", (json_int_t)t->window.gfn, "window_pages",
			    (json_int_t)t->window.pages),
		  NULL, 0, host_reserved, ask_new(t, host));
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
static void ticket_assign(struct ticket *t, struct offer *offers, unsigned offer_count,
			  uint64_t left_bytes)
{
	struct daemon *d = t->guest->vm.daemon;

	t->children = calloc(t->asked, sizeof(*t->children));
	while (t->children && t->count < t->asked) {
		struct offer *o = offer_best(offers, offer_count, t->per_host);
		struct child *c = &t->children[t->count];

		c->slot = o ? take_slot(t->guest) : 0;
		if (!c->slot)
			break;
		o->given++;
		c->host = o->host;
		c->running_ms = c->answered_ms = -1;
		t->count++;
	}
	if (t->count && t->count < t->asked)
		snprintf(t->why, sizeof(t->why),
			 "the hosts have room for %u clones of %llu MB, which count %llu MB "
			 "each (%llu MB left for guests on all hosts together)",
			 t->count, (unsigned long long)t->guest->vm.family->ram_bytes >> 20,
			 (unsigned long long)daemon_clone_charge(d,
								 t->guest->vm.family->ram_bytes) >>
				 20,
			 (unsigned long long)left_bytes >> 20);
	if (t->count < t->min) {
		for (unsigned i = 0; i < t->count; i++)
			t->guest->slots[t->children[i].slot] = 0;
		t->count = 0;
	}
	t->reserving = 1; /* ours, so that a quick answer does not end it */
	for (unsigned i = 0; i < d->host_count && t->children; i++)
		reserve_on(t, &d->hosts[i]);
	if (!--t->reserving)
		ticket_grant(t);
}

/* The round of "room" questions: the answers so far. */
struct room_round {
	struct daemon *daemon;
	unsigned guest, ticket, asked;
	uint64_t left_bytes;
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
		ticket_assign(t, round->offers, round->offer_count, round->left_bytes);
	free(round);
}

static void host_room(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	_cleanup_free_ struct room_ask *ra = arg;
	struct room_round *round = ra->round;
	struct ask a = { .daemon = round->daemon, .guest = round->guest, .ticket = round->ticket };
	struct ticket *t = ask_ticket(&a);
	uint64_t free_bytes, each_bytes;
	unsigned percent;

	(void)why;
	(void)bytes;
	(void)len;
	if (!error && t && field_u64(msg, "free_bytes", 0, INT64_MAX, &free_bytes) &&
	    field_unsigned(msg, "clone_percent", 1, 100, &percent)) {
		struct offer *o = &round->offers[round->offer_count++];

		each_bytes = t->guest->vm.family->ram_bytes / 100 * percent;
		*o = (struct offer){ .host = ra->host, .room = offer_room(free_bytes, each_bytes) };
		round->left_bytes += free_bytes;
		if (!o->room)
			snprintf(t->why, sizeof(t->why),
				 "host %s has %llu MB left for guests, a clone takes %llu MB",
				 ra->host->name, (unsigned long long)free_bytes >> 20,
				 (unsigned long long)each_bytes >> 20);
	}
	room_settled(round);
}

void ticket_request(struct guest *g, const char *key, const struct ticket_wish *wish)
{
	struct daemon *d = g->vm.daemon;
	struct ticket *t = calloc(1, sizeof(*t));
	struct room_round *round =
		calloc(1, sizeof(*round) + d->host_count * sizeof(round->offers[0]));

	if (!t || !round) {
		vm_answer_error(&g->vm, key, ENOMEM, "out of memory");
		guest_settle(g, key);
		free(t);
		free(round);
		return;
	}
	t->guest = g;
	t->window = g->window;
	t->number = g->next_ticket++;
	t->asked = wish->n;
	t->min = wish->min;
	t->per_host = wish->per_host;
	t->asked_ns = io_now_ns();
	t->join_ms = -1;
	snprintf(t->request, sizeof(t->request), "%s", key);
	LIST_INSERT_HEAD(&g->tickets, t, entry);
	*round = (struct room_round){
		.daemon = d, .guest = g->number, .ticket = t->number, .asked = 1
	};
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

/* ---- ending ---- */

static json_t *ticket_message(const struct ticket *t, const char *op)
{
	return json_pack("{ss si si}", "op", op, "number", (int)t->guest->number, "ticket",
			 (int)t->number);
}

void ticket_kill(struct ticket *t, unsigned id)
{
	struct daemon *d = t->guest->vm.daemon;

	for (unsigned i = 0; i < d->host_count; i++) {
		json_t *msg;

		if (!ticket_has_child_on(t, &d->hosts[i]) ||
		    (id && t->children[id - 1].host != &d->hosts[i]))
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
	if (t->op > GUEST_MAX_RECORDS) /* a guest that clones for ever must not fill our memory */
		json_array_set_new(g->records, t->op - 1 - GUEST_MAX_RECORDS, json_null());
	for (unsigned i = 0; i < d->host_count; i++) {
		if (ticket_has_child_on(t, &d->hosts[i]))
			peer_call(&d->hosts[i], ticket_message(t, "release"), NULL, 0,
				  answer_nothing, NULL);
	}
	for (unsigned i = 0; i < t->count; i++) {
		g->slots[t->children[i].slot] = 0;
		child_drop_result(d, &t->children[i]);
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
