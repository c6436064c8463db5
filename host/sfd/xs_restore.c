/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a server's state, which another host sent: xs_state.h has the format.
 *
 * Nothing is believed. Nodes name only nodes before them as children, so there is no loop; how
 * deep and how large a tree is gets checked before it is used, because nodes can be shared.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/xs_codec.h"
#include "host/sfd/xs_internal.h"
#include "host/sfd/xs_state.h"

#define DEPTH_MAX (XENSTORE_ABS_PATH_MAX / 2 + 1)	/* "/a/a/…": of nodes, with the root */

struct restore {
	struct xs_reader r;
	struct xs_server *xs;
	unsigned from_domid;
	char from_home[XS_HOME_SIZE];
	struct xs_node **nodes;	/* one reference each */
	uint16_t *depths;	/* of what is below each and itself */
	uint32_t count;
	uint32_t trees;	/* read so far */
};

/* Reads a number that must be less than `end`. */
static uint32_t get_below(struct xs_reader *r, uint32_t end)
{
	uint32_t value = xs_get_u32(r);

	if (value >= end)
		r->failed = true;
	return r->failed ? 0 : value;
}

static bool get_bool(struct xs_reader *r)
{
	uint8_t value = xs_get_u8(r);

	if (value > 1)
		r->failed = true;
	return value;
}

/* Reads a generation: one that has been. */
static uint64_t get_generation(struct restore *re)
{
	uint64_t value = xs_get_u64(&re->r);

	if (value > re->xs->generation)
		re->r.failed = true;
	return value;
}

/*
 * Reads an absolute path and moves it from the old home to the new. Return: false if it was at the
 * new home before: where the parent looked for another domain, and the clone has its own nodes.
 */
static bool get_path(struct restore *re, char path[XS_PATH_SIZE], bool special)
{
	bool moves = re->from_domid != re->xs->domid;
	char old[XS_PATH_SIZE];

	xs_get_string(&re->r, old, sizeof(old));
	if (!xs_path_valid(old, special) ||
	    xs_path_move(path, old, re->from_home, re->xs->home) || !xs_path_valid(path, special)) {
		re->r.failed = true;
		strcpy(path, "/");
	}
	return !(moves && xs_path_below(old, re->xs->home));
}

/* Reads permissions; those of the parent become the clone's. */
static struct xs_perms get_perms(struct restore *re)
{
	struct xs_perms perms = { .count = xs_get_u8(&re->r) };

	if (!perms.count || perms.count > XS_PERMS_MAX) {
		re->r.failed = true;
		perms.count = 1;
	}
	for (unsigned i = 0; i < perms.count; i++) {
		struct xs_perm *perm = &perms.of[i];

		perm->domid = xs_get_u16(&re->r);
		perm->may = xs_get_u8(&re->r);
		if (perm->domid == re->from_domid)
			perm->domid = (uint16_t)re->xs->domid;
		if (perm->may > (XS_MAY_READ | XS_MAY_WRITE))
			re->r.failed = true;
	}
	if (perms.of[0].domid && perms.of[0].domid != re->xs->domid)
		re->r.failed = true;
	return perms;
}

/* Reads the children of the next node. */
static void get_children(struct restore *re, struct xs_node *node)
{
	uint32_t count = xs_get_count(&re->r, UINT32_MAX, sizeof(uint32_t));
	const struct xs_node *last = NULL;
	uint16_t depth = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = get_below(&re->r, re->count);
		struct xs_node *child;

		if (re->r.failed)
			break;
		child = re->nodes[index];
		if (!*child->name || (last && strverscmp(last->name, child->name) >= 0) ||
		    xs_node_adopt(node, child)) {
			re->r.failed = true;
			return;
		}
		last = xs_node_get(child);
		if (re->depths[index] > depth)
			depth = re->depths[index];
	}
	re->depths[re->count] = depth + 1;
	if (depth >= DEPTH_MAX)
		re->r.failed = true;
}

static void get_node(struct restore *re)
{
	char name[XS_PATH_SIZE];
	struct xs_perms perms;
	struct xs_node *node;
	const void *value;
	uint64_t generation;
	size_t len;

	xs_get_string(&re->r, name, sizeof(name));
	generation = get_generation(re);
	value = xs_get_bytes(&re->r, XENSTORE_PAYLOAD_MAX, &len);
	perms = get_perms(re);
	if (re->r.failed || !generation || (*name && !xs_path_name_valid(name))) {
		re->r.failed = true;
		return;
	}
	node = xs_node_create(name, &perms);
	if (!node || xs_node_set_value(node, value, len)) {
		re->r.failed = true;
		xs_node_put(node);
		return;
	}
	node->generation = generation;
	get_children(re, node);
	re->nodes[re->count++] = node;
}

static void get_nodes(struct restore *re)
{
	uint32_t count = xs_get_count(&re->r, XS_STATE_NODES_MAX, XS_STATE_NODE_BYTES);

	re->nodes = calloc(count, sizeof(*re->nodes));
	re->depths = calloc(count, sizeof(*re->depths));
	if (!re->nodes || !re->depths)
		re->r.failed = true;
	for (uint32_t i = 0; i < count && !re->r.failed; i++)
		get_node(re);
}

struct census {
	struct xs_tree *tree;
	uint32_t mark;	/* of the nodes that were seen in this tree */
};

/* Trees share nodes, but each has a node once; so a walk ends after as many as there are. */
static int count_node(void *arg, const char *path, struct xs_node *node)
{
	struct census *census = arg;

	if (node->mark == census->mark || !xs_path_valid(path, false))
		return -EINVAL;
	node->mark = census->mark;
	census->tree->owned += node->perms.of[0].domid == census->tree->domid;
	return 0;
}

/* Makes a tree of the node whose index comes next. Return: 0, or -EINVAL with nothing to fini. */
static int get_tree(struct restore *re, struct xs_tree *tree)
{
	struct census census = { .tree = tree, .mark = ++re->trees };
	uint32_t index = get_below(&re->r, re->count);
	const char *name = strrchr(re->xs->home, '/') + 1;

	if (re->r.failed || *re->nodes[index]->name)
		return -EINVAL;
	*tree = (struct xs_tree){
		.root = xs_node_get(re->nodes[index]),
		.generation = &re->xs->generation,
		.domid = re->xs->domid,
	};
	if (!xs_node_walk(tree->root, "/", count_node, &census) &&
	    xs_tree_find(tree, re->from_home) &&
	    (re->from_domid == re->xs->domid || !xs_tree_rename(tree, re->from_home, name)))
		return 0;
	xs_tree_fini(tree);
	return -EINVAL;
}

static void get_touches(struct restore *re, struct xs_transaction *ta)
{
	uint32_t count = xs_get_count(&re->r, XS_TOUCHES_MAX, XS_STATE_TOUCH_BYTES);

	for (uint32_t i = 0; i < count && !re->r.failed; i++) {
		char path[XS_PATH_SIZE];
		bool own = get_path(re, path, false);
		uint64_t seen = get_generation(re);
		uint8_t flags = xs_get_u8(&re->r);

		if (flags > XS_TOUCH_ALL)
			re->r.failed = true;
		/* A longer home must not bring one over its limit: its bytes are as saved. */
		ta->bytes = 0;
		if (own && !re->r.failed && xs_transaction_note(ta, path, seen, flags))
			re->r.failed = true;
	}
}

static void get_transaction(struct restore *re)
{
	uint32_t id = xs_get_u32(&re->r);
	struct xs_transaction *ta = NULL;
	struct xs_tree tree;
	uint32_t bytes;

	if (!id || get_tree(re, &tree)) {
		re->r.failed = true;
		return;
	}
	ta = xs_transaction_begin(&re->xs->transactions, id, &tree);
	xs_tree_fini(&tree);
	if (!ta) {
		re->r.failed = true;
		return;
	}
	ta->failed = get_bool(&re->r);
	bytes = get_below(&re->r, XS_TRANSACTION_BYTES_MAX + 1);
	get_touches(re, ta);
	ta->bytes = bytes;
}

static void get_transactions(struct restore *re)
{
	uint32_t next_id = xs_get_u32(&re->r);
	uint32_t count = xs_get_count(&re->r, re->xs->limits.transactions,
				      XS_STATE_TRANSACTION_BYTES);

	for (uint32_t i = 0; i < count && !re->r.failed; i++)
		get_transaction(re);
	re->xs->transactions.next_id = next_id;
}

static void get_watches(struct restore *re)
{
	uint32_t count = xs_get_count(&re->r, re->xs->limits.watches, XS_STATE_WATCH_BYTES);

	for (uint32_t i = 0; i < count && !re->r.failed; i++) {
		char path[XS_PATH_SIZE], token[XENSTORE_PAYLOAD_MAX];
		bool own = get_path(re, path, true);
		bool relative;

		xs_get_string(&re->r, token, sizeof(token));
		relative = get_bool(&re->r);
		if (relative && (!xs_path_below(path, re->xs->home) ||
				 !strcmp(path, re->xs->home)))
			re->r.failed = true;
		if (own && !re->r.failed &&
		    !xs_watch_add(&re->xs->watches, path, token, relative))
			re->r.failed = true;
	}
}

/* An event that the longer name of the new home makes too long for the wire is not sent. */
static void get_event(struct restore *re)
{
	char old[XS_PATH_SIZE], path[XS_PATH_SIZE], token[XENSTORE_PAYLOAD_MAX];

	xs_get_string(&re->r, old, sizeof(old));
	xs_get_string(&re->r, token, sizeof(token));
	if (xs_path_resolve(path, re->from_home, old, true) ||
	    xs_path_move(path, old, re->from_home, re->xs->home))
		re->r.failed = true;
	if (!re->r.failed && xs_out_add_event(&re->xs->out, path, path, token, UINT_MAX))
		re->r.failed = true;
}

static void get_events(struct restore *re)
{
	uint32_t count = xs_get_count(&re->r, UINT32_MAX, XS_STATE_EVENT_BYTES);

	for (uint32_t i = 0; i < count && !re->r.failed; i++)
		get_event(re);
}

/* Reads what has come of a request: never a whole one, which would have been handled. */
static void get_input(struct restore *re)
{
	struct xs_server *xs = re->xs;
	struct xsd_sockmsg *head = &xs->in_head;
	size_t len;
	const char *bytes = xs_get_bytes(&re->r, sizeof(*head) + XENSTORE_PAYLOAD_MAX, &len);
	size_t head_len = len < sizeof(*head) ? len : sizeof(*head);

	if (!len)
		return;
	memcpy(head, bytes, head_len);
	memcpy(xs->in_payload, bytes + head_len, len - head_len);
	xs->in_bytes = len;
	if (len < sizeof(*head))
		return;
	head->type = le32toh(head->type);
	head->req_id = le32toh(head->req_id);
	head->tx_id = le32toh(head->tx_id);
	head->len = le32toh(head->len);
	if (head->len > XENSTORE_PAYLOAD_MAX || len >= sizeof(*head) + head->len)
		re->r.failed = true;
}

/* Reads everything before the nodes. */
static void get_start(struct restore *re)
{
	if (xs_get_u32(&re->r) != XS_STATE_MAGIC || xs_get_u32(&re->r) != XS_STATE_VERSION)
		re->r.failed = true;
	re->from_domid = xs_get_u32(&re->r);
	if (!re->from_domid || re->from_domid > XS_DOMID_MAX)
		re->r.failed = true;
	xs_path_home(re->from_home, re->from_domid);
	re->xs->generation = xs_get_u64(&re->r);
	re->xs->received = xs_get_u64(&re->r);
	re->xs->sent = xs_get_u64(&re->r);
}

static void get_state(struct restore *re)
{
	get_start(re);
	get_nodes(re);
	if (get_tree(re, &re->xs->tree))
		re->r.failed = true;
	if (re->r.failed)
		return;
	get_transactions(re);
	get_watches(re);
	get_events(re);
	get_input(re);
	if (re->r.left)
		re->r.failed = true;
}

struct xs_server *xs_restore(unsigned domid, const struct xs_limits *limits,
			     const struct xs_hooks *hooks, void *arg, const uint8_t *state,
			     size_t len)
{
	struct restore re = {
		.r = { .at = state, .left = len },
		.xs = xs_alloc(domid, limits, hooks, arg),
	};

	if (!re.xs)
		return NULL;
	re.xs->held = true;
	get_state(&re);
	for (uint32_t i = 0; i < re.count; i++) {
		re.nodes[i]->mark = 0;
		xs_node_put(re.nodes[i]);
	}
	free(re.nodes);
	free(re.depths);
	if (!re.r.failed)
		return re.xs;
	xs_destroy(re.xs);
	errno = EINVAL;
	return NULL;
}
