/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gathers listings from every host, and makes ours. */
#define _GNU_SOURCE
#include "host/sfd/listing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/clones.h"
#include "host/sfd/fields.h"

/* A question to every host, on behalf of sfctl. */
struct gather {
	struct daemon *daemon;
	struct link *link; /* NULL: it went away */
	json_t *request;
	json_t *items;
	json_t *counters; /* show: of the guest's memory; or NULL */
	json_t *away;	  /* show: the same of other hosts, by their names; or NULL */
	unsigned open;
	void (*take)(struct gather *g, struct host *host, json_t *answer);
	void (*finish)(struct gather *g);
	LIST_ENTRY(gather) entry;
};

struct gather_ask {
	struct gather *gather;
	struct host *host;
};

static LIST_HEAD(, gather) gathers = LIST_HEAD_INITIALIZER(gathers);

/* ---- this host ---- */

static const char *const ticket_state_names[] = { "reserving", SF_TICKET_GRANTED, SF_TICKET_RUNNING,
						  SF_TICKET_DONE };

static json_t *describe_guest(const struct guest *g)
{
	const struct family *f = g->vm.family;
	char address[INET_ADDRSTRLEN];
	struct in_addr at = family_address(f, 0);

	return json_pack("{ss ss ss ss ss sn si sI si ss si sI sb so}", "id", f->name, "name", g->name,
			 "kind", "vm", "host", f->home->name, "state",
			 g->up ? "running" : "booting", "parent", "clone_id", 0, "mem_bytes",
			 (json_int_t)f->ram_bytes, "cpus", (int)f->cpus, "address",
			 inet_ntop(AF_INET, &at, address, sizeof(address)), "pid",
			 (int)vmm_pid(g->vm.vmm), "uptime_ms",
			 (json_int_t)((io_now_ns() - g->vm.started_ns) / 1000000), "module",
			 g->window.pages != 0, "disks", vm_describe_disks(&g->vm));
}

static unsigned count_vms(struct daemon *d)
{
	json_t *vms = json_array();
	struct guest *g;
	unsigned count;

	clones_list(d, vms);
	count = (unsigned)json_array_size(vms);
	json_decref(vms);
	LIST_FOREACH(g, &d->guests, entry)
		count++;
	return count;
}

static unsigned count_hear(const struct daemon *d)
{
	unsigned count = 0;

	for (unsigned i = 0; i < d->host_count; i++)
		count += d->hosts[i].hears;
	return count;
}

void listing_room(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len)
{
	(void)msg;
	(void)bytes;
	(void)len;
	peer_reply(r,
		   json_pack("{sI sI si si ss ss si}", "mem_bytes", (json_int_t)d->mem_bytes,
			     "free_bytes", (json_int_t)daemon_free_memory(d),
			     "clone_percent", (int)d->config.clone_percent, "vms",
			     (int)count_vms(d), "distribution",
			     distribution_name(d->config.distribution), "mode",
			     mc_mode_name(distribution_of_all(d)), "heard_by", (int)count_hear(d)));
}

void listing_vms(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		 size_t len)
{
	json_t *vms = json_array();
	struct guest *g;

	(void)msg;
	(void)bytes;
	(void)len;
	LIST_FOREACH(g, &d->guests, entry)
		json_array_append_new(vms, describe_guest(g));
	clones_list(d, vms);
	peer_reply(r, json_pack("{so}", "vms", vms));
}

json_t *listing_record(const struct guest *g)
{
	json_t *clones = json_copy(g->records);
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->op)
			json_array_set_new(clones, t->op - 1, ticket_record(t));
	}
	for (size_t i = json_array_size(clones); i--;) { /* of those that are too long ago */
		if (json_is_null(json_array_get(clones, i)))
			json_array_remove(clones, i);
	}
	return json_pack("{so}", "clones", clones);
}

/* ---- all hosts ---- */

static void gather_done(struct gather *g)
{
	if (--g->open)
		return;
	if (g->link)
		g->finish(g);
	LIST_REMOVE(g, entry);
	json_decref(g->items);
	json_decref(g->counters);
	json_decref(g->away);
	json_decref(g->request);
	free(g);
}

static void gather_answered(void *arg, int error, const char *why, json_t *msg,
			    const uint8_t *bytes, size_t len)
{
	_cleanup_free_ struct gather_ask *a = arg;

	(void)why;
	(void)bytes;
	(void)len;
	a->gather->take(a->gather, a->host, error ? NULL : msg);
	gather_done(a->gather);
}

/* Asks every host. The caller calls gather_done(), at once or after asking more. NULL: refused. */
static struct gather *
gather_start(struct daemon *d, struct link *link, json_t *request, const char *op,
	     void (*take)(struct gather *g, struct host *host, json_t *answer),
	     void (*finish)(struct gather *g))
{
	struct gather *g = calloc(1, sizeof(*g));

	if (!g) {
		link_refuse(link, request, -ENOMEM, "out of memory");
		return NULL;
	}
	*g = (struct gather){ .daemon = d,
			      .link = link,
			      .request = json_incref(request),
			      .items = json_array(),
			      .open = 1,
			      .take = take,
			      .finish = finish };
	LIST_INSERT_HEAD(&gathers, g, entry);
	for (unsigned i = 0; i < d->host_count; i++) {
		struct gather_ask *a = calloc(1, sizeof(*a));

		if (!a)
			abort(); /* sfctl would take the host for one without VMs */
		a->gather = g;
		a->host = &d->hosts[i];
		g->open++;
		peer_call(a->host, json_pack("{ss}", "op", op), NULL, 0, gather_answered, a);
	}
	return g;
}

void listing_link_lost(struct link *link)
{
	struct gather *g;

	LIST_FOREACH(g, &gathers, entry) {
		if (g->link == link)
			g->link = NULL;
	}
}

/* ---- ps ---- */

static void take_vms(struct gather *g, struct host *host, json_t *answer)
{
	json_t *vm;
	size_t i;

	(void)host;
	json_array_foreach(json_object_get(answer, "vms"), i, vm) {
		if (json_is_string(json_object_get(vm, "id")))
			json_array_append(g->items, vm);
	}
}

static int compare_ids(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;

	return strverscmp(json_string_value(json_object_get(*x, "id")),
			  json_string_value(json_object_get(*y, "id")));
}

/* In the order of IDs, so that a VM stands before its clones. */
static json_t *sorted(json_t *items)
{
	size_t count = json_array_size(items), i;
	_cleanup_free_ json_t **order = calloc(count ? count : 1, sizeof(*order));
	json_t *result = json_array(), *item;

	json_array_foreach(items, i, item)
		order[i] = item;
	qsort(order, count, sizeof(*order), compare_ids);
	for (i = 0; i < count; i++)
		json_array_append(result, order[i]);
	return result;
}

static void finish_ps(struct gather *g)
{
	link_reply(g->link, g->request, json_pack("{so}", "vms", sorted(g->items)), NULL, 0);
}

void listing_ps(struct daemon *d, struct link *link, json_t *request)
{
	struct gather *g = gather_start(d, link, request, "vms", take_vms, finish_ps);

	if (g)
		gather_done(g);
}

/* ---- show ---- */

/* How clones of the guest would get its pages now. */
static json_t *describe_distribution(const struct guest *g)
{
	const struct daemon *d = g->vm.daemon;
	const struct family *f = g->vm.family;
	char group[INET_ADDRSTRLEN];

	return json_pack("{ss ss ss si sI sb}", "wanted",
			 distribution_name(d->config.distribution), "mode",
			 mc_mode_name(distribution_of_all(d)), "group",
			 inet_ntop(AF_INET, &f->group.sin_addr, group, sizeof(group)), "group_port",
			 (int)ntohs(f->group.sin_port), "push_bytes_per_s",
			 (json_int_t)d->config.push_pages * MC_PAGE_BYTES, "compress",
			 (int)d->config.compress);
}

static json_t *describe_tickets(struct guest *g)
{
	json_t *tickets = json_array();
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		json_t *record = ticket_record(t);

		json_array_append_new(tickets,
				      json_pack("{si ss si si so}", "ticket", (int)t->number,
						"state", ticket_state_names[t->state], "granted",
						(int)t->count, "running", (int)t->running,
						"operation", record ? record : json_null()));
	}
	return tickets;
}

static json_int_t count_checkpoints(const struct guest *g)
{
	const struct checkpoint *c;
	json_int_t count = 0;

	LIST_FOREACH(c, &g->checkpoints, entry)
		count++;
	return count;
}

/* What a memory server has done for the guest and for its clones on a host. */
static json_t *describe_counters(const struct memtap_reply *reply)
{
	const struct memtap_stats *s = (const struct memtap_stats *)reply;

	return json_pack(
			"{sI sI sI sI sI sI sI sI sI sI sI sI sI sI sI sI sI si si}", "first_writes", (json_int_t)s->parent_faults,
			"pages_kept", (json_int_t)s->parent_copied, "pages_served",
			(json_int_t)s->served, "pages_multicast", (json_int_t)s->multicast,
			"pages_pushed", (json_int_t)s->pushed, "pages_relayed",
			(json_int_t)s->relayed, "pages_same", (json_int_t)s->same,
			"pages_compressed", (json_int_t)s->compressed, "pages_on_their_way",
			(json_int_t)s->lockstep, "clones_faults", (json_int_t)s->faults,
			"clones_pages_local", (json_int_t)s->pages_local, "clones_pages_zero",
			(json_int_t)s->pages_zero, "clones_pages_dead",
			(json_int_t)s->pages_dead, "retries", (json_int_t)s->retries, "dropped",
			(json_int_t)s->dropped, "pages_fetched", (json_int_t)s->pages_fetched,
			"bytes_fetched", (json_int_t)s->bytes_fetched, "files", (int)s->files,
			"files_complete", (int)s->complete);
}

static void take_counters(void *arg, int error, const struct memtap_reply *reply)
{
	struct gather *g = arg;

	if (!error)
		g->counters = describe_counters(reply);
	gather_done(g);
}

/* Another host's; one that has no clones of the guest refuses. */
static void take_away(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	_cleanup_free_ struct gather_ask *a = arg;

	(void)why;
	(void)bytes;
	(void)len;
	if (!error) {
		json_object_del(msg, "re");
		json_object_set(a->gather->away, a->host->name, msg);
	}
	gather_done(a->gather);
}

static void ask_away(struct gather *g, struct host *host, unsigned number)
{
	struct gather_ask *a = calloc(1, sizeof(*a));

	if (!a)
		return;
	a->gather = g;
	a->host = host;
	g->open++;
	peer_call(host, json_pack("{ss si}", "op", "memory", "number", (int)number), NULL, 0,
		  take_away, a);
}

static void memory_counted(void *arg, int error, const struct memtap_reply *reply)
{
	struct peer_request *r = arg;

	if (error)
		peer_refuse(r, error, "its memory server does not answer");
	else
		peer_reply(r, describe_counters(reply));
}

void listing_memory(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	unsigned number;
	struct family *f = field_unsigned(msg, "number", 0, INT32_MAX, &number)
				   ? family_find(d, peer_from(r), number)
				   : NULL;

	(void)bytes;
	(void)len;
	if (!f || pager_stats(f->pager, MEMTAP_ALL, memory_counted, r))
		peer_refuse(r, -ENOENT, "there is nothing of it here");
}

static void finish_show(struct gather *g)
{
	const char *id = json_string_value(json_object_get(g->request, "id"));
	json_t *vm;
	size_t i;

	json_array_foreach(g->items, i, vm) {
		struct guest *guest;

		if (!id || strcmp(json_string_value(json_object_get(vm, "id")), id))
			continue;
		guest = guest_find(g->daemon, id);
		vm = json_deep_copy(vm);
		if (guest) {
			if (g->counters)
				json_object_set(vm, "memory", g->counters);
			json_object_set(vm, "hosts_memory", g->away);
			json_object_set_new(vm, "distribution", describe_distribution(guest));
			json_object_set_new(vm, "checkpoints",
					    json_integer(count_checkpoints(guest)));
			json_object_set_new(vm, "tickets", describe_tickets(guest));
			json_object_set_new(vm, "record", listing_record(guest));
		}
		link_reply(g->link, g->request, vm, NULL, 0);
		return;
	}
	link_refuse(g->link, g->request, -ENOENT, "there is no VM or clone %s",
		    id ? id : "without an id");
}

void listing_show(struct daemon *d, struct link *link, json_t *request)
{
	struct guest *guest = guest_find(d, field_text(request, "id", ""));
	struct gather *g = gather_start(d, link, request, "vms", take_vms, finish_show);

	if (!g)
		return;
	if (guest && !pager_stats(guest->vm.family->pager, MEMTAP_ALL, take_counters, g))
		g->open++;
	g->away = json_object();
	for (unsigned i = 0; guest && i < d->host_count; i++) {
		if (d->hosts[i].up && &d->hosts[i] != d->self)
			ask_away(g, &d->hosts[i], guest->number);
	}
	gather_done(g);
}

/* ---- hosts ---- */

static void take_room(struct gather *g, struct host *host, json_t *answer)
{
	json_int_t mem_bytes = (json_int_t)field_or(answer, "mem_bytes", host->mem_bytes);
	json_int_t free_bytes = (json_int_t)field_or(answer, "free_bytes", 0);
	json_int_t vms = (json_int_t)field_or(answer, "vms", 0);
	char address[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &host->addr, address, sizeof(address));
	json_array_append_new(
		g->items,
		json_pack("{ss ss ss ss sI sI sI ss ss sO? sO? sO?}", "id", host->name, "name",
			  host->name, "address", address, "state", answer ? "up" : "down",
			  "mem_bytes", mem_bytes, "mem_free_bytes", free_bytes, "vms", vms, "accel",
			  vmm_accel_name(host->daemon->config.accel), "cpu",
			  vmm_cpu_model(host->daemon->config.accel), "distribution",
			  json_object_get(answer, "distribution"), "mode",
			  json_object_get(answer, "mode"), "heard_by",
			  json_object_get(answer, "heard_by")));
}

static void finish_hosts(struct gather *g)
{
	link_reply(g->link, g->request, json_pack("{so}", "hosts", sorted(g->items)), NULL, 0);
}

void listing_hosts(struct daemon *d, struct link *link, json_t *request)
{
	struct gather *g = gather_start(d, link, request, "room", take_room, finish_hosts);

	if (g)
		gather_done(g);
}
