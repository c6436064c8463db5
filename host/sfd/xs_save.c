/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a server's state; xs_state.h has the format. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/xs_codec.h"
#include "host/sfd/xs_internal.h"
#include "host/sfd/xs_state.h"

/* The nodes of all trees, each once, children first; a node's mark is its index + 1. */
struct node_table {
	struct xs_node **nodes;
	uint32_t count;
	uint32_t room;
};

static int table_append(struct node_table *table, struct xs_node *node)
{
	uint32_t room = table->room * 2 + 256;
	struct xs_node **nodes = table->nodes;

	if (table->count == table->room) {
		nodes = reallocarray(nodes, room, sizeof(*nodes));
		if (!nodes)
			return -ENOMEM;
		table->nodes = nodes;
		table->room = room;
	}
	nodes[table->count++] = node;
	node->mark = table->count;
	return 0;
}

/* Adds a node and all below it that is not there yet. As deep as paths are, and no deeper. */
static int table_add(struct node_table *table, struct xs_node *node)
{
	if (node->mark)
		return 0;
	for (unsigned i = 0; i < node->nchildren; i++) {
		int err = table_add(table, node->children[i]);

		if (err)
			return err;
	}
	return table_append(table, node);
}

static int table_fill(struct node_table *table, const struct xs_server *xs)
{
	const struct xs_transaction *ta;
	int err = table_add(table, xs->tree.root);

	TAILQ_FOREACH(ta, &xs->transactions.list, link)
		if (!err)
			err = table_add(table, ta->tree.root);
	return err;
}

static void table_fini(struct node_table *table)
{
	for (uint32_t i = 0; i < table->count; i++)
		table->nodes[i]->mark = 0;
	free(table->nodes);
}

static void save_node(struct xs_writer *w, const struct xs_node *node)
{
	xs_put_string(w, node->name);
	xs_put_u64(w, node->generation);
	xs_put_bytes(w, node->value, node->value_len);
	xs_put_u8(w, (uint8_t)node->perms.count);
	for (unsigned i = 0; i < node->perms.count; i++) {
		xs_put_u16(w, node->perms.of[i].domid);
		xs_put_u8(w, node->perms.of[i].may);
	}
	xs_put_u32(w, node->nchildren);
	for (unsigned i = 0; i < node->nchildren; i++)
		xs_put_u32(w, node->children[i]->mark - 1);
}

static void save_transaction(struct xs_writer *w, const struct xs_transaction *ta)
{
	xs_put_u32(w, ta->id);
	xs_put_u32(w, ta->tree.root->mark - 1);
	xs_put_u8(w, ta->failed);
	xs_put_u32(w, ta->bytes);
	xs_put_u32(w, ta->ntouches);
	for (unsigned i = 0; i < ta->ntouches; i++) {
		xs_put_string(w, ta->touches[i]->path);
		xs_put_u64(w, ta->touches[i]->seen);
		xs_put_u8(w, (uint8_t)ta->touches[i]->flags);
	}
}

static void save_watches(struct xs_writer *w, const struct xs_watches *watches)
{
	const struct xs_watch *watch;

	xs_put_u32(w, watches->count);
	TAILQ_FOREACH(watch, &watches->list, link) {
		xs_put_string(w, watch->path);
		xs_put_string(w, watch->token);
		xs_put_u8(w, watch->relative);
	}
}

/* Nothing else waits: answers are sent at once. */
static void save_events(struct xs_writer *w, const struct xs_out *out)
{
	const struct xs_frame *frame;

	xs_put_u32(w, out->events);
	TAILQ_FOREACH(frame, &out->frames, link) {
		if (frame->head.type != XS_WATCH_EVENT)
			continue;
		xs_put_string(w, frame->payload);
		xs_put_string(w, frame->payload + strlen(frame->payload) + 1);
	}
}

static void save_input(struct xs_writer *w, const struct xs_server *xs)
{
	uint8_t bytes[sizeof(xs->in_head) + sizeof(xs->in_payload)];
	struct xsd_sockmsg head = xs->in_head;

	/* A head that is complete is in host order already. */
	if (xs->in_bytes >= sizeof(head)) {
		head.type = htole32(head.type);
		head.req_id = htole32(head.req_id);
		head.tx_id = htole32(head.tx_id);
		head.len = htole32(head.len);
	}
	memcpy(bytes, &head, sizeof(head));
	memcpy(bytes + sizeof(head), xs->in_payload, sizeof(xs->in_payload));
	xs_put_bytes(w, bytes, xs->in_bytes);
}

static void save(struct xs_writer *w, const struct xs_server *xs, const struct node_table *table)
{
	const struct xs_transaction *ta;

	xs_put_u32(w, XS_STATE_MAGIC);
	xs_put_u32(w, XS_STATE_VERSION);
	xs_put_u32(w, xs->domid);
	xs_put_u64(w, xs->generation);
	xs_put_u64(w, xs->received);
	xs_put_u64(w, xs->sent);
	xs_put_u32(w, table->count);
	for (uint32_t i = 0; i < table->count; i++)
		save_node(w, table->nodes[i]);
	xs_put_u32(w, xs->tree.root->mark - 1);
	xs_put_u32(w, xs->transactions.next_id);
	xs_put_u32(w, xs->transactions.count);
	TAILQ_FOREACH(ta, &xs->transactions.list, link)
		save_transaction(w, ta);
	save_watches(w, &xs->watches);
	save_events(w, &xs->out);
	save_input(w, xs);
}

uint8_t *xs_save(const struct xs_server *xs, size_t *len)
{
	struct node_table table = { 0 };
	struct xs_writer w = { 0 };

	w.failed = table_fill(&table, xs);
	if (!w.failed)
		save(&w, xs, &table);
	table_fini(&table);
	if (w.failed) {
		free(w.bytes);
		errno = ENOMEM;
		return NULL;
	}
	*len = w.len;
	return w.bytes;
}
