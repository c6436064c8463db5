/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One VM's XenStore: its beginning and end, and the stream of bytes in and out. */
#include "host/sfd/xs_server.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/sfd/xs_internal.h"

static const struct xs_limits default_limits = {
	.nodes = 1000,
	.node_bytes = 2048,
	.watches = 256,
	.transactions = 16,
	.watch_events = 4096,
};

static unsigned limit(unsigned asked, unsigned fallback)
{
	return asked ? asked : fallback;
}

static struct xs_limits limits_of(const struct xs_limits *asked)
{
	if (!asked)
		return default_limits;
	return (struct xs_limits){
		.nodes = limit(asked->nodes, default_limits.nodes),
		.node_bytes = limit(asked->node_bytes, default_limits.node_bytes),
		.watches = limit(asked->watches, default_limits.watches),
		.transactions = limit(asked->transactions, default_limits.transactions),
		.watch_events = limit(asked->watch_events, default_limits.watch_events),
	};
}

struct xs_perms xs_perms_host(unsigned domid)
{
	return (struct xs_perms){
		.count = 2,
		.of = { { .domid = 0 }, { .domid = (uint16_t)domid, .may = XS_MAY_READ } },
	};
}

struct xs_perms xs_perms_guest(unsigned domid)
{
	return (struct xs_perms){ .count = 1, .of = { { .domid = (uint16_t)domid } } };
}

struct xs_server *xs_alloc(unsigned domid, const struct xs_limits *limits,
			   const struct xs_hooks *hooks, void *arg)
{
	struct xs_server *xs;

	if (!domid || domid > XS_DOMID_MAX) {
		errno = EINVAL;
		return NULL;
	}
	xs = calloc(1, sizeof(*xs));
	if (!xs)
		return NULL;
	xs->domid = domid;
	xs_path_home(xs->home, domid);
	xs->limits = limits_of(limits);
	xs->hooks = *hooks;
	xs->arg = arg;
	xs_watches_init(&xs->watches);
	xs_transactions_init(&xs->transactions);
	xs_out_init(&xs->out);
	return xs;
}

struct xs_server *xs_create(unsigned domid, const struct xs_limits *limits,
			    const struct xs_hooks *hooks, void *arg)
{
	struct xs_perms root_perms = xs_perms_host(domid);
	struct xs_server *xs = xs_alloc(domid, limits, hooks, arg);

	if (!xs)
		return NULL;
	if (xs_tree_init(&xs->tree, domid, &xs->generation, &root_perms) ||
	    xs_host_write(xs, xs->home, "", true)) {
		xs_destroy(xs);
		errno = ENOMEM;
		return NULL;
	}
	return xs;
}

void xs_destroy(struct xs_server *xs)
{
	if (!xs)
		return;
	xs_transactions_clear(&xs->transactions);
	xs_watches_clear(&xs->watches);
	xs_out_fini(&xs->out);
	xs_tree_fini(&xs->tree);
	free(xs);
}

void xs_flush(struct xs_server *xs)
{
	struct xs_frame *frame;
	size_t len;

	while ((frame = xs_out_take(&xs->out, !xs->held, &len))) {
		xs->sent += len;
		xs->hooks.send(xs->arg, &frame->head, len);
		free(frame);
	}
}

void xs_tell_host(struct xs_server *xs, const char *path, bool removed)
{
	struct xs_node *node = xs_tree_find(&xs->tree, path);

	if (!xs->hooks.changed)
		return;
	if (removed) {
		xs->hooks.changed(xs->arg, path, NULL, 0);
	} else if (node) {
		/* The reference keeps the value as it is, whatever the hook does to the tree. */
		xs_node_get(node);
		xs->hooks.changed(xs->arg, path, node->value ? node->value : "", node->value_len);
		xs_node_put(node);
	}
}

/* Return: the bytes of head and payload that are still to come, as far as is known. */
static size_t missing_bytes(const struct xs_server *xs)
{
	size_t head_bytes = sizeof(xs->in_head);

	if (xs->in_bytes < head_bytes)
		return head_bytes - xs->in_bytes;
	return head_bytes + xs->in_head.len - xs->in_bytes;
}

/* Takes what belongs to the head or the payload. Return: the bytes taken. */
static size_t take_in(struct xs_server *xs, const char *bytes, size_t len)
{
	size_t head_bytes = sizeof(xs->in_head);
	size_t missing = missing_bytes(xs);
	size_t take = len < missing ? len : missing;

	if (xs->in_bytes < head_bytes)
		memcpy((char *)&xs->in_head + xs->in_bytes, bytes, take);
	else
		memcpy(xs->in_payload + (xs->in_bytes - head_bytes), bytes, take);
	xs->in_bytes += take;
	return take;
}

/* The head has come: brings it into host order. Return: 0 or -EPROTO. */
static int check_head(struct xs_server *xs)
{
	struct xsd_sockmsg *head = &xs->in_head;

	head->type = le32toh(head->type);
	head->req_id = le32toh(head->req_id);
	head->tx_id = le32toh(head->tx_id);
	head->len = le32toh(head->len);
	if (head->len <= XENSTORE_PAYLOAD_MAX)
		return 0;
	log_warn("vm %u: XenStore request of %u bytes, more than %u: the connection is given up",
		 xs->domid, head->len, XENSTORE_PAYLOAD_MAX);
	return -EPROTO;
}

static int handle_in(struct xs_server *xs)
{
	struct xs_request request = {
		.head = xs->in_head,
		.payload = xs->in_payload,
		.len = xs->in_head.len,
	};

	xs->in_bytes = 0;
	if (!xs_request_handle(xs, &request))
		return 0;
	log_err("vm %u: no memory to answer a XenStore request: the connection is given up",
		xs->domid);
	return -EPROTO;
}

int xs_input(struct xs_server *xs, const void *bytes, size_t len)
{
	const char *at = bytes;
	int err = xs->broken ? -EPROTO : 0;

	while (len && !err) {
		size_t taken = take_in(xs, at, len);

		at += taken;
		len -= taken;
		xs->received += taken;
		if (xs->in_bytes == sizeof(xs->in_head))
			err = check_head(xs);
		if (!err && xs->in_bytes >= sizeof(xs->in_head) && !missing_bytes(xs))
			err = handle_in(xs);
		xs_flush(xs);
	}
	xs->broken = err;
	return err;
}

uint64_t xs_received(const struct xs_server *xs)
{
	return xs->received;
}

uint64_t xs_sent(const struct xs_server *xs)
{
	return xs->sent;
}

bool xs_at_boundary(const struct xs_server *xs)
{
	return !xs->in_bytes;
}

void xs_hold(struct xs_server *xs, bool held)
{
	xs->held = held;
	xs_flush(xs);
}
