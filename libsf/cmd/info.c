/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sf info and sf address: who this VM is, and its clones.
 *
 * The list of tickets is read from the tree that proto/xenstore-tree.h describes; the rest is
 * libsf's. What is shown is collected as JSON first, so that both forms say the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <xenstore.h>

#include "common/cleanup.h"
#include "libsf/cmd/cmd.h"
#include "libsf/sf.h"
#include "proto/kmod.h"
#include "proto/xenstore-tree.h"

static const char *const state_names[] = {
	[SF_STATE_STARTING] = "starting", [SF_STATE_RUNNING] = "running",
	[SF_STATE_EXITED] = "exited",	  [SF_STATE_KILLED] = "killed",
	[SF_STATE_LOST] = "lost",	  [SF_STATE_FAILED] = "failed",
};
_Static_assert(ARRAY_SIZE(state_names) == SF_STATE_FAILED + 1, "a name for every state");

static void set_text(json_t *object, const char *name, const char *text)
{
	json_object_set_new(object, name, text && *text ? json_string(text) : json_null());
}

/* Copies a node of the tree into the object, as text or as a number; null if there is none. */
static void set_node(json_t *object, const char *name, bool number, struct xs_handle *xs,
		     const char *path)
{
	_cleanup_free_ char *value = NULL;
	unsigned len;

	value = xs_read(xs, XBT_NULL, path, &len);
	if (value && number)
		json_object_set_new(object, name, json_integer(strtoll(value, NULL, 10)));
	else
		set_text(object, name, value);
}

static json_t *clone_json(int ticket, unsigned id)
{
	char address[SF_ADDRESS_BYTES];
	struct sf_status status;
	json_t *clone;

	if (sf_status_ticket(ticket, id, &status))
		return NULL;
	clone = json_pack("{s:i, s:s}", "id", (int)id, "state", state_names[status.state]);
	set_text(clone, "host", status.host);
	set_text(clone, "address",
		 sf_address_ticket(ticket, id, address, sizeof(address)) ? NULL : address);
	if (status.state == SF_STATE_EXITED)
		json_object_set_new(clone, "status", json_integer(status.status));
	if (status.result_bytes >= 0)
		json_object_set_new(clone, "result_bytes", json_integer(status.result_bytes));
	if (status.reason[0])
		set_text(clone, "reason", status.reason);
	return clone;
}

static int by_number(const void *a, const void *b)
{
	return atoi(*(char *const *)a) - atoi(*(char *const *)b);
}

static json_t *ticket_json(struct xs_handle *xs, const char *ticket)
{
	json_t *object = json_pack("{s:i}", "ticket", atoi(ticket)), *clones = json_array();
	_cleanup_free_ char **names = NULL;
	unsigned count = 0;
	char path[96];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%s/state", ticket);
	set_node(object, "state", false, xs, path);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%s/granted", ticket);
	set_node(object, "granted", true, xs, path);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%s/running", ticket);
	set_node(object, "running", true, xs, path);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%s/clone", ticket);
	names = xs_directory(xs, XBT_NULL, path, &count);
	if (names)
		qsort(names, count, sizeof(*names), by_number);
	for (unsigned i = 0; names && i < count; i++) {
		json_t *clone = clone_json(atoi(ticket), (unsigned)atoi(names[i]));

		if (clone)
			json_array_append_new(clones, clone);
	}
	json_object_set_new(object, "clones", clones);
	return object;
}

/* The kernel module. Return: it; null if it is not loaded, or nobody tells us. */
static json_t *module_json(void)
{
	_cleanup_fd_ int fd = open(SFK_DEVICE, O_RDWR | O_CLOEXEC);
	struct sfk_where where;

	if (fd < 0 && errno == EACCES)
		return json_object(); /* only root is told more */
	if (fd < 0 || ioctl(fd, SFK_WHERE, &where))
		return json_null();
	return json_pack("{s:i, s:I, s:I}", "version", (int)where.version, "gfn",
			 (json_int_t)where.gfn, "pages", (json_int_t)where.pages);
}

/* Everything there is to show. Return: it, or NULL with libsf's error. */
static json_t *collect(void)
{
	char address[SF_ADDRESS_BYTES];
	_cleanup_free_ char **names = NULL;
	json_t *info, *tickets = json_array();
	struct xs_handle *xs;
	unsigned count = 0;
	int id = sf_id();

	xs = id < 0 ? NULL : xs_open(0);
	if (!xs) {
		json_decref(tickets);
		return NULL;
	}
	info = json_pack("{s:i, s:i}", "id", id, "count", sf_count());
	set_node(info, "name", false, xs, "name");
	set_text(info, "address",
		 sf_address((unsigned)id, address, sizeof(address)) ? NULL : address);
	set_node(info, "gateway", false, xs, SF_XS_ROOT "/net/gateway");
	set_node(info, "limit", true, xs, SF_XS_ROOT "/limit");
	json_object_set_new(info, "module", module_json());
	names = xs_directory(xs, XBT_NULL, SF_XS_TICKET, &count);
	if (names)
		qsort(names, count, sizeof(*names), by_number);
	for (unsigned i = 0; names && i < count; i++)
		json_array_append_new(tickets, ticket_json(xs, names[i]));
	json_object_set_new(info, "tickets", tickets);
	xs_close(xs);
	return info;
}

/* Return: the member as text, or "-". */
static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "-";
}

static int number_of(const json_t *object, const char *name)
{
	return (int)json_integer_value(json_object_get(object, name));
}

static void print_clone(const json_t *clone)
{
	const json_t *bytes = json_object_get(clone, "result_bytes");

	printf("  clone %-4d %-15s  %-12s %s", number_of(clone, "id"), text_of(clone, "address"),
	       text_of(clone, "host"), text_of(clone, "state"));
	if (json_object_get(clone, "status"))
		printf(" with status %d", number_of(clone, "status"));
	if (bytes)
		printf(", result of %lld bytes", (long long)json_integer_value(bytes));
	if (json_object_get(clone, "reason"))
		printf(": %s", text_of(clone, "reason"));
	putchar('\n');
}

static void print_module(const json_t *module)
{
	fputs("module   ", stdout);
	if (!json_is_object(module))
		puts("none: clones take longer to be themselves (see snowflock(7))");
	else if (!json_object_get(module, "version"))
		puts("loaded");
	else
		printf("version %d, window of %d pages at page %#llx\n",
		       number_of(module, "version"), number_of(module, "pages"),
		       (long long)json_integer_value(json_object_get(module, "gfn")));
}

static void print_info(const json_t *info)
{
	const json_t *ticket, *clone;
	size_t i, k;

	printf("id       %d%s\n", number_of(info, "id"),
	       number_of(info, "id") ? "" : " (no clone)");
	printf("name     %s\n", text_of(info, "name"));
	printf("address  %s\n", text_of(info, "address"));
	printf("gateway  %s\n", text_of(info, "gateway"));
	printf("count    %d in the last clone operation\n", number_of(info, "count"));
	printf("limit    %d clones in a ticket\n", number_of(info, "limit"));
	print_module(json_object_get(info, "module"));
	json_array_foreach(json_object_get(info, "tickets"), i, ticket) {
		printf("ticket %d: %s, good for %d clones, %d running\n",
		       number_of(ticket, "ticket"), text_of(ticket, "state"),
		       number_of(ticket, "granted"), number_of(ticket, "running"));
		json_array_foreach(json_object_get(ticket, "clones"), k, clone)
			print_clone(clone);
	}
}

static error_t parse_info(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	(void)arg;
	if (key == 'j')
		*json = true;
	else if (key == ARGP_KEY_ARG)
		argp_usage(state);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int cmd_info(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "print one JSON object", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_info,
		.doc = "Show who this VM is, and the states of its tickets and their clones.",
	};
	bool as_json = false;
	json_t *info;

	argp_parse(&argp, argc, argv, 0, NULL, &as_json);
	info = collect();
	if (!info)
		return cmd_error("info");
	if (as_json) {
		json_dumpf(info, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_info(info);
	}
	json_decref(info);
	return EXIT_SUCCESS;
}

int cmd_address(int argc, char **argv)
{
	char address[SF_ADDRESS_BYTES];
	unsigned id = INT32_MAX;
	int own;

	cmd_parse_numbers(
		argc, argv, "[ID]",
		"Print the address of VM ID (0: the parent) on the private network of parent "
		"and clones; without ID, this VM's own.",
		0, 1, &id);
	if (id == INT32_MAX) {
		own = sf_id();
		if (own < 0)
			return cmd_error("address");
		id = (unsigned)own;
	}
	if (sf_address(id, address, sizeof(address)))
		return cmd_error("address");
	puts(address);
	return EXIT_SUCCESS;
}
