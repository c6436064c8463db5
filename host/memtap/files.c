/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page files and where their pages come from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/memtap/layers.h"
#include "host/memtap/memtap.h"

struct mem_file *mem_file_find(struct memtap *m, uint32_t number)
{
	struct mem_file *f;

	LIST_FOREACH(f, &m->files, link) {
		if (f->number == number)
			return f;
	}
	return NULL;
}

/*
 * A page file without a source means that a clone operation is being prepared. Where the parent
 * lives, it is then worth while to begin protecting its memory.
 */
static void expect_snapshot(struct memtap *m)
{
	bool waiting = false;
	struct mem_file *f;

	LIST_FOREACH(f, &m->files, link)
		waiting |= f->source == MEM_WAITING;
	snap_parent_expect(m->parent, waiting);
	mem_background_kick(m);
}

int mem_file_create(struct memtap *m, uint32_t number, int page_fd, int map_fd)
{
	struct mem_file *f = calloc(1, sizeof(*f));
	int error;

	if (!f)
		return -ENOMEM;
	f->m = m;
	f->number = number;
	mem_faults_init(&f->faults);
	error = snap_file_create(page_fd, map_fd, m->pages, &f->pages);
	if (error) {
		free(f);
		return error;
	}
	LIST_INSERT_HEAD(&m->files, f, link);
	m->file_count++;
	expect_snapshot(m);
	return 0;
}

/* The source is known: on with those who waited for it. */
static void file_begun(struct mem_file *file, enum mem_source source)
{
	file->source = source;
	expect_snapshot(file->m);
	mem_faults_ask(file);
}

static void set_dead(struct mem_file *file, const uint64_t *dead)
{
	if (dead)
		snap_file_set_dead(file->pages, dead);
}

static struct mc_snapshot wire_snapshot(const struct mem_file *file, const struct mem_wire *wire)
{
	struct mc_snapshot s = { .number = wire->request->snapshot, .pages = file->m->pages };

	memcpy(s.key, wire->request->key, MC_KEY_BYTES);
	return s;
}

/*
 * How pages are to travel. `places` has room for one at least, and for all nodes. Return: false if
 * an address that is needed is of no use here.
 */
static bool wire_way(const struct mem_file *file, const struct mem_wire *wire, bool source,
		     struct mc_address *places, struct mc_way *way)
{
	const struct mc_transport *t = file->m->transport;
	const struct memtap_request *r = wire->request;

	*way = (struct mc_way){ .mode = r->mode, .node = r->node, .nodes = r->nodes,
				.places = places, .push_pages_per_s = r->push_pages_per_s,
				.compress = r->compress };
	for (uint32_t i = 0; i < r->nodes; i++)
		mc_udp_address(t, &wire->places[i].addr, &places[i]);
	if (!r->nodes)
		way->nodes = 1;
	if (!source && r->source.addr.sin6_family &&
	    !mc_udp_address(t, &r->source.addr, &places[0]))
		return false;
	if (r->mode == MC_MULTICAST && !mc_udp_address(t, &r->group.addr, &way->group))
		return false;
	return source || places[0].len;
}

/* A page of a snapshot here. Return: as snap_read(). */
static int read_snapshot(const struct mem_file *file, uint64_t gfn, uint8_t *page)
{
	return file->layers ? mem_layers_read(file->layers, gfn, page) :
			      snap_read(file->snap, gfn, page);
}

/* For mc_server: a page of the snapshot. */
static int read_for_server(void *arg, uint64_t gfn, uint8_t *page)
{
	int state = read_snapshot(arg, gfn, page);

	return state < 0 ? state : state == PAGE_PRESENT;
}

static void asked_by_others(void *arg, const struct mc_span *span)
{
	const struct mem_file *file = arg;

	for (uint32_t i = 0; i < span->pages; i++)
		mem_wake_needed(arg, span->gfn + i);
	if (!(span->flags & MC_RUN_AHEAD))
		memtap_expect(file->m);
}

static size_t wake_others(void *arg, const struct mc_span **spans)
{
	return mem_wake_spans(arg, spans);
}

static const struct mc_server_calls server_calls = {
	.read_page = read_for_server,
	.asked = asked_by_others,
	.wake = wake_others,
};

/* For mc_fetch: a page that is here. */
static int read_for_fetch(void *arg, uint64_t gfn, uint8_t *page)
{
	const struct mem_file *file = arg;

	switch (snap_file_state(file->pages, gfn)) {
	case PAGE_PRESENT:
		return snap_file_read(file->pages, gfn, page) ? -EIO : 1;
	case PAGE_ZERO:
	case PAGE_DEAD:
		return 0;
	default:
		return -ENOENT;
	}
}

static uint32_t lacked(void *arg)
{
	const struct mem_file *file = arg;

	return file->lacking < UINT32_MAX ? (uint32_t)file->lacking : UINT32_MAX - 1;
}

static const struct mc_fetch_calls fetch_calls = {
	.arrived = mem_faults_arrived,
	.read_page = read_for_fetch,
	.asked = mem_faults_asked,
	.pushed = mem_faults_complete,
	.lacks = lacked,
};

/* Return: 0 and file->server or file->fetch, or -errno. */
static int open_wire(struct mem_file *file, const struct mem_wire *wire, bool source)
{
	struct mc_snapshot s = wire_snapshot(file, wire);
	uint32_t nodes = wire->request->nodes ? wire->request->nodes : 1;
	_cleanup_free_ struct mc_address *places = calloc(nodes, sizeof(*places));
	struct mc_way way;

	if (!places)
		return -ENOMEM;
	if (!wire_way(file, wire, source, places, &way))
		return -EINVAL;
	if (source)
		file->server = mc_server_create(file->m->endpoint, &s, &way, &server_calls, file);
	else
		file->fetch = mc_fetch_create(file->m->endpoint, &s, &way, &fetch_calls, file);
	return file->server || file->fetch ? 0 : -errno;
}

int mem_file_freeze(struct mem_file *file, const struct mem_wire *wire, const uint64_t *dead,
		    bool again)
{
	int error = open_wire(file, wire, true);

	if (error)
		return error;
	error = again ? snap_add(file->m->parent, file->pages, &file->snap) :
			snap_freeze(file->m->parent, file->pages, &file->snap);
	if (error) {
		mc_server_destroy(file->server);
		file->server = NULL;
		return error;
	}
	set_dead(file, dead);
	mem_background_rest(file->m);
	file_begun(file, MEM_SNAPSHOT);
	return 0;
}

int mem_file_freeze_disk(struct mem_file *file, const struct mem_wire *wire,
			 struct mem_layers *layers)
{
	int error = open_wire(file, wire, true);

	if (error)
		return error;
	file->layers = layers;
	file_begun(file, MEM_SNAPSHOT);
	return 0;
}

static uint64_t count_lacking(const struct mem_file *file)
{
	uint64_t lacking = 0;

	for (uint64_t gfn = 0; gfn < file->m->pages; gfn++)
		lacking += snap_file_state(file->pages, gfn) == PAGE_ABSENT;
	return lacking;
}

int mem_file_begin(struct mem_file *file, const struct mem_wire *wire, const uint64_t *dead)
{
	int error = open_wire(file, wire, false);

	if (error)
		return error;
	set_dead(file, dead);
	file->lacking = count_lacking(file);
	file_begun(file, MEM_REMOTE);
	return 0;
}

int mem_file_begin_local(struct mem_file *file, struct mem_file *other, const uint64_t *dead)
{
	if (other == file || other->source != MEM_SNAPSHOT)
		return -EINVAL;
	set_dead(file, dead);
	file->other = other;
	other->users++;
	file_begun(file, MEM_LOCAL);
	return 0;
}

static int get_waiting(struct mem_file *file, uint64_t gfn)
{
	(void)file;
	(void)gfn;
	return -EAGAIN;
}

/* Puts a page of `from`, a snapshot, in. */
static int copy_from(struct mem_file *file, const struct mem_file *from, uint64_t gfn)
{
	uint8_t page[SNAP_PAGE_BYTES];
	int state = read_snapshot(from, gfn, page);

	return state < 0 ? state : snap_file_put(file->pages, gfn, page);
}

static int get_snapshot(struct mem_file *file, uint64_t gfn)
{
	return file->layers ? copy_from(file, file, gfn) : snap_fill(file->snap, gfn);
}

static int get_local(struct mem_file *file, uint64_t gfn)
{
	return copy_from(file, file->other, gfn);
}

static int get_remote(struct mem_file *file, uint64_t gfn)
{
	(void)file;
	(void)gfn;
	return PAGE_ABSENT;
}

int mem_file_get_now(struct mem_file *file, uint64_t gfn)
{
	static int (*const get[])(struct mem_file *file, uint64_t gfn) = {
		[MEM_WAITING] = get_waiting, [MEM_SNAPSHOT] = get_snapshot,
		[MEM_LOCAL] = get_local,     [MEM_REMOTE] = get_remote,
		[MEM_RETIRING] = get_waiting, [MEM_RETIRED] = get_waiting,
	};
	_Static_assert(sizeof(get) / sizeof(get[0]) == MEM_SOURCES, "one for each source");

	return get[file->source](file, gfn);
}

void mem_file_destroy(struct mem_file *file)
{
	struct memtap *m = file->m;

	mem_faults_drop(file);
	mem_wake_forget(file);
	mc_fetch_destroy(file->fetch);
	mc_server_destroy(file->server);
	mem_layers_destroy(file->layers);
	if (file->other)
		file->other->users--;
	snap_file_destroy(file->pages);
	LIST_REMOVE(file, link);
	m->file_count--;
	free(file);
	expect_snapshot(m);
}

static void on_retired(void *arg)
{
	struct mem_file *file = arg;

	log_debug("file %u: handed down", file->number);
	snap_file_destroy(file->pages);
	file->pages = NULL;
	file->snap = NULL;
	file->source = MEM_RETIRED;
}

int mem_file_release(struct mem_file *file)
{
	if (file->users)
		return -EINPROGRESS;
	if (file->source == MEM_RETIRING) {
		/* who asks often shall not keep it from being done */
		snap_parent_step(file->m->parent);
		return -EINPROGRESS;
	}
	if (file->snap) {
		mem_wake_forget(file);
		mc_server_destroy(file->server);
		file->server = NULL;
		if (!snap_retire(file->snap, on_retired, file)) {
			file->source = MEM_RETIRING;
			mem_background_kick(file->m);
			return -EINPROGRESS;
		}
	}
	mem_file_destroy(file);
	return 0;
}
