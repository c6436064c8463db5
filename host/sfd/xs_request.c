/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The requests of the guest: what each takes, what it answers; errors are xenstored's. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/xs_internal.h"

#define DOMID_SELF 0x7ff0u

/* Queues an answer of the request's own type. Return: 0, -E2BIG or -ENOMEM. */
static int answer(struct xs_server *xs, const struct xs_request *rq, const void *bytes, size_t len)
{
	struct xsd_sockmsg head = rq->head;

	if (len > XENSTORE_PAYLOAD_MAX)
		return -E2BIG;
	head.len = (uint32_t)len;
	return xs_out_add(&xs->out, &head, bytes);
}

static int answer_text(struct xs_server *xs, const struct xs_request *rq, const char *text)
{
	return answer(xs, rq, text, strlen(text) + 1);
}

static int answer_ok(struct xs_server *xs, const struct xs_request *rq)
{
	return answer_text(xs, rq, "OK");
}

/* Answers an error by its name on the wire; one that has none is told as EINVAL. */
static int answer_error(struct xs_server *xs, const struct xs_request *rq, int err)
{
	struct xs_request error = { .head = rq->head };
	const char *name = "EINVAL";

	for (size_t i = 0; i < ARRAY_SIZE(xsd_errors); i++)
		if (xsd_errors[i].errnum == -err)
			name = xsd_errors[i].errstring;
	error.head.type = XS_ERROR;
	return answer_text(xs, &error, name);
}

/* Splits off strings. Return: how many zero bytes the payload has; the first `max` are in at[]. */
static unsigned split(const struct xs_request *rq, const char *at[], unsigned max)
{
	const char *from = rq->payload, *end = rq->payload + rq->len;
	const char *zero;
	unsigned count = 0;

	for (; from < end && (zero = memchr(from, '\0', (size_t)(end - from))); from = zero + 1) {
		if (count < max)
			at[count] = from;
		count++;
	}
	return count;
}

/* Return: the payload if it is exactly one string, or NULL. */
static const char *only_string(const struct xs_request *rq)
{
	const char *zero = memchr(rq->payload, '\0', rq->len);

	return zero && zero == rq->payload + rq->len - 1 ? rq->payload : NULL;
}

/* Reads a whole decimal number up to `max`. Return: false if it is not one. */
static bool parse_number(const char *text, uint32_t max, uint32_t *number)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	value = strtoull(text, &end, 10);
	*number = (uint32_t)value;
	return !*end && value <= max;
}

/* Makes the absolute form of a node's path, given as `text` or (NULL) not at all. */
static int node_path(const struct xs_server *xs, char path[XS_PATH_SIZE], const char *text)
{
	return text ? xs_path_resolve(path, xs->home, text, false) : -EINVAL;
}

/* Finds the node that the request's first string names, to be read. */
static int readable_node(struct xs_server *xs, struct xs_transaction *ta, const char *text,
			 struct xs_node **node)
{
	char path[XS_PATH_SIZE];
	int err = node_path(xs, path, text);

	return err ? err : xs_guest_find(xs, ta, path, XS_MAY_READ, node);
}

/* Return: the children's names, each with its zero byte, to be freed; or NULL (errno). */
static char *names_of_children(const struct xs_node *node, size_t *len)
{
	char *names, *at;

	*len = 0;
	for (unsigned i = 0; i < node->nchildren; i++)
		*len += strlen(node->children[i]->name) + 1;
	names = at = malloc(*len + 1);
	if (!names)
		return NULL;
	for (unsigned i = 0; i < node->nchildren; i++)
		at = stpcpy(at, node->children[i]->name) + 1;
	return names;
}

static int do_directory(struct xs_server *xs, struct xs_transaction *ta,
			const struct xs_request *rq)
{
	_cleanup_free_ char *names = NULL;
	struct xs_node *node;
	size_t len;
	int err = readable_node(xs, ta, only_string(rq), &node);

	if (err)
		return err;
	names = names_of_children(node, &len);
	return names ? answer(xs, rq, names, len) : -ENOMEM;
}

/* Return: the bytes of whole names, `offset` on, that fit in `room`. */
static size_t whole_names(const char *names, size_t len, size_t offset, size_t room)
{
	size_t fit = 0;

	while (offset + fit < len) {
		size_t next = strlen(names + offset + fit) + 1;

		if (fit + next > room)
			break;
		fit += next;
	}
	return fit;
}

/* The end of the list is told by one more zero byte. */
static int do_directory_part(struct xs_server *xs, struct xs_transaction *ta,
			     const struct xs_request *rq)
{
	_cleanup_free_ char *names = NULL;
	char part[XENSTORE_PAYLOAD_MAX];
	const char *args[2];
	struct xs_node *node;
	size_t len, part_len, fit = 0;
	uint32_t offset;
	int err;

	if (split(rq, args, 2) != 2 || !parse_number(args[1], UINT32_MAX, &offset))
		return -EINVAL;
	err = readable_node(xs, ta, args[0], &node);
	if (err)
		return err;
	names = names_of_children(node, &len);
	if (!names)
		return -ENOMEM;
	part_len = (size_t)sprintf(part, "%" PRIu64, node->generation) + 1;
	if (offset < len) {
		fit = whole_names(names, len, offset, sizeof(part) - part_len - 1);
		memcpy(part + part_len, names + offset, fit);
		part_len += fit;
	}
	if (offset + fit >= len)
		part[part_len++] = '\0';
	return answer(xs, rq, part, part_len);
}

static int do_read(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	struct xs_node *node;
	int err = readable_node(xs, ta, only_string(rq), &node);

	return err ? err : answer(xs, rq, node->value, node->value_len);
}

static int do_write(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	char path[XS_PATH_SIZE];
	const char *text;
	size_t skip;
	int err;

	if (!split(rq, &text, 1))
		return -EINVAL;
	err = node_path(xs, path, text);
	if (err)
		return err;
	skip = strlen(text) + 1;
	err = xs_guest_write(xs, ta, path, rq->payload + skip, rq->len - skip);
	return err ? err : answer_ok(xs, rq);
}

static int do_mkdir(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	char path[XS_PATH_SIZE];
	int err = node_path(xs, path, only_string(rq));

	if (!err)
		err = xs_guest_make(xs, ta, path);
	return err ? err : answer_ok(xs, rq);
}

static int do_rm(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	char path[XS_PATH_SIZE];
	int err = node_path(xs, path, only_string(rq));

	if (!err)
		err = xs_guest_remove(xs, ta, path);
	return err ? err : answer_ok(xs, rq);
}

/* The special events have permissions too, in Xen; they are none of a guest's business. */
static int perms_path(const struct xs_server *xs, char path[XS_PATH_SIZE], const char *text)
{
	if (text && *text == '@')
		return -EACCES;
	return node_path(xs, path, text);
}

static int do_get_perms(struct xs_server *xs, struct xs_transaction *ta,
			const struct xs_request *rq)
{
	char texts[XS_PERMS_MAX * XS_PERM_TEXT_SIZE];
	char path[XS_PATH_SIZE];
	struct xs_node *node;
	size_t len = 0;
	int err = perms_path(xs, path, only_string(rq));

	if (!err)
		err = xs_guest_find(xs, ta, path, XS_MAY_READ, &node);
	if (err)
		return err;
	for (unsigned i = 0; i < node->perms.count; i++) {
		xs_perm_print(texts + len, &node->perms.of[i]);
		len += strlen(texts + len) + 1;
	}
	return answer(xs, rq, texts, len);
}

static int do_set_perms(struct xs_server *xs, struct xs_transaction *ta,
			const struct xs_request *rq)
{
	const char *args[1 + XS_PERMS_MAX];
	unsigned count = split(rq, args, ARRAY_SIZE(args));
	struct xs_perms perms = { .count = count - 1 };
	char path[XS_PATH_SIZE];
	int err;

	if (count < 2)
		return -EINVAL;
	if (perms.count > XS_PERMS_MAX)
		return -ENOSPC;
	for (unsigned i = 0; i < perms.count; i++)
		if (!xs_perm_parse(&perms.of[i], args[1 + i]))
			return -EINVAL;
	err = perms_path(xs, path, args[0]);
	if (!err)
		err = xs_guest_set_perms(xs, ta, path, &perms);
	return err ? err : answer_ok(xs, rq);
}

static int do_watch(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	struct xs_watch *watch;
	char path[XS_PATH_SIZE];
	const char *args[2];
	int err;

	(void)ta;
	if (split(rq, args, 2) != 2 || xs_path_resolve(path, xs->home, args[0], true))
		return -EINVAL;
	if (xs_watch_find(&xs->watches, path, args[1]))
		return -EEXIST;
	if (xs->watches.count >= xs->limits.watches)
		return -E2BIG;
	watch = xs_watch_add(&xs->watches, path, args[1], *args[0] != '/' && *args[0] != '@');
	if (!watch)
		return -errno;
	err = answer_ok(xs, rq);
	xs_watch_fire(xs, watch);
	return err;
}

static int do_unwatch(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	struct xs_watch *watch;
	char path[XS_PATH_SIZE];
	const char *args[2];

	(void)ta;
	if (split(rq, args, 2) != 2 || xs_path_resolve(path, xs->home, args[0], true))
		return -EINVAL;
	watch = xs_watch_find(&xs->watches, path, args[1]);
	if (!watch)
		return -ENOENT;
	xs_watch_remove(&xs->watches, watch);
	return answer_ok(xs, rq);
}

static int do_reset_watches(struct xs_server *xs, struct xs_transaction *ta,
			    const struct xs_request *rq)
{
	(void)ta;
	xs_watches_clear(&xs->watches);
	xs_transactions_clear(&xs->transactions);
	return answer_ok(xs, rq);
}

static int do_transaction_start(struct xs_server *xs, struct xs_transaction *ta,
				const struct xs_request *rq)
{
	char id[16];

	if (ta)
		return -EBUSY;
	if (xs->transactions.count >= xs->limits.transactions)
		return -ENOSPC;
	ta = xs_transaction_begin(&xs->transactions, 0, &xs->tree);
	if (!ta)
		return -errno;
	snprintf(id, sizeof(id), "%" PRIu32, ta->id);
	return answer_text(xs, rq, id);
}

/* Ends the transaction in any case, but for a request that does not say how. */
static int do_transaction_end(struct xs_server *xs, struct xs_transaction *ta,
			      const struct xs_request *rq)
{
	const char *how = only_string(rq);
	int err = 0;

	if (!how || (strcmp(how, "T") && strcmp(how, "F")))
		return -EINVAL;
	if (!ta)
		return -ENOENT;
	if (*how == 'T')
		err = xs_transaction_commit(xs, ta);
	xs_transaction_drop(&xs->transactions, ta);
	return err ? err : answer_ok(xs, rq);
}

static int do_get_domain_path(struct xs_server *xs, struct xs_transaction *ta,
			      const struct xs_request *rq)
{
	const char *text = only_string(rq);
	char home[XS_HOME_SIZE];
	uint32_t domid;

	(void)ta;
	if (!text || !parse_number(text, UINT16_MAX, &domid))
		return -EINVAL;
	xs_path_home(home, domid);
	return answer_text(xs, rq, home);
}

/* A guest knows of itself and the host, and sees no other. */
static int do_is_domain_introduced(struct xs_server *xs, struct xs_transaction *ta,
				   const struct xs_request *rq)
{
	const char *text = only_string(rq);
	uint32_t domid;

	(void)ta;
	if (!text || !parse_number(text, UINT16_MAX, &domid))
		return -EINVAL;
	return answer_text(xs, rq,
			   !domid || domid == xs->domid || domid == DOMID_SELF ? "T" : "F");
}

/* For domain 0 alone. */
static int do_refuse(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq)
{
	(void)xs;
	(void)ta;
	(void)rq;
	return -EACCES;
}

struct handler {
	int (*handle)(struct xs_server *xs, struct xs_transaction *ta, const struct xs_request *rq);
	bool any_transaction;	/* the transaction's number means nothing */
};

/* What is not here (answers, RESTRICT, what newer Xens added) gets ENOSYS. */
static const struct handler handlers[] = {
	[XS_CONTROL] = { do_refuse, true },
	[XS_DIRECTORY] = { do_directory, false },
	[XS_READ] = { do_read, false },
	[XS_GET_PERMS] = { do_get_perms, false },
	[XS_WATCH] = { do_watch, true },
	[XS_UNWATCH] = { do_unwatch, true },
	[XS_TRANSACTION_START] = { do_transaction_start, false },
	[XS_TRANSACTION_END] = { do_transaction_end, false },
	[XS_INTRODUCE] = { do_refuse, true },
	[XS_RELEASE] = { do_refuse, true },
	[XS_GET_DOMAIN_PATH] = { do_get_domain_path, false },
	[XS_WRITE] = { do_write, false },
	[XS_MKDIR] = { do_mkdir, false },
	[XS_RM] = { do_rm, false },
	[XS_SET_PERMS] = { do_set_perms, false },
	[XS_IS_DOMAIN_INTRODUCED] = { do_is_domain_introduced, false },
	[XS_RESUME] = { do_refuse, true },
	[XS_SET_TARGET] = { do_refuse, true },
	[XS_RESET_WATCHES] = { do_reset_watches, false },
	[XS_DIRECTORY_PART] = { do_directory_part, false },
};
_Static_assert(ARRAY_SIZE(handlers) == XS_DIRECTORY_PART + 1, "the last type known here");

static int handle(struct xs_server *xs, const struct xs_request *rq)
{
	struct xs_transaction *ta = NULL;
	const struct handler *handler;

	if (rq->head.type >= ARRAY_SIZE(handlers) || !handlers[rq->head.type].handle)
		return -ENOSYS;
	handler = &handlers[rq->head.type];
	if (rq->head.tx_id && !handler->any_transaction) {
		ta = xs_transaction_find(&xs->transactions, rq->head.tx_id);
		if (!ta)
			return -ENOENT;
	}
	return handler->handle(xs, ta, rq);
}

int xs_request_handle(struct xs_server *xs, const struct xs_request *request)
{
	int err = handle(xs, request);

	return err ? answer_error(xs, request, err) : 0;
}
