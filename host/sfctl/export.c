/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl export: asks the daemon of the host where a VM or clone is, tells how far it is. */
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/client.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/text.h"

#define EXIT_INTERRUPTED 130

struct export {
	struct sfctl *ctl;
	const char *id, *file;
	unsigned disk;
	struct event_base *base;
	bool told;  /* how far it is */
	int status; /* what export will exit with */
};

static const struct argp_option options[] = {
	{ "disk", 'd', "N", 0, "which of its disks [0]", 1 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct export *e = state->input;
	char *end;

	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = e->ctl; return 0;
	case 'd':
		e->disk = (unsigned)strtoul(arg, &end, 10);
		if (*end || end == arg || *arg == '-')
			argp_error(state, "--disk wants a number");
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num > 1)
			argp_error(state, "one ID and one file, please");
		*(state->arg_num ? &e->file : &e->id) = arg;
		return 0;
	case ARGP_KEY_END:
		if (!e->file)
			argp_error(state, "what, and where to? as in  sfctl export h1.1 disk.raw");
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* The host a VM or clone is on. Return: false after a complaint. */
static bool find_host(const struct export *e, char host[HOST_NAME_BYTES])
{
	json_t *answer = client_ask(e->ctl->cluster, NULL, json_pack("{s:s}", "op", "ps"));
	const char *name = NULL;
	json_t *vm;
	size_t i;

	json_array_foreach (json_object_get(answer, "vms"), i, vm) {
		const char *id = json_string_value(json_object_get(vm, "id"));

		if (id && !strcmp(id, e->id))
			name = json_string_value(json_object_get(vm, "host"));
	}
	if (name)
		snprintf(host, HOST_NAME_BYTES, "%s", name);
	else if (answer)
		complain("there is no VM or clone %s: sfctl ps lists the IDs", e->id);
	json_decref(answer);
	return name;
}

/* The file's absolute path: the daemon has another working directory. */
static bool absolute(const char *file, char path[PATH_MAX])
{
	char dir[PATH_MAX];

	if (*file == '/')
		return snprintf(path, PATH_MAX, "%s", file) < PATH_MAX;
	return getcwd(dir, sizeof(dir)) &&
	       snprintf(path, PATH_MAX, "%s/%s", dir, file) < PATH_MAX;
}

static void clear_line(struct export *e)
{
	if (e->told)
		fputs("\r\033[K", stderr);
	e->told = false;
}

static void end(struct export *e, int status)
{
	clear_line(e);
	e->status = status;
	event_base_loopbreak(e->base);
}

static void on_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *event = json_string_value(json_object_get(msg, "ev"));
	double done = json_number_value(json_object_get(msg, "bytes"));
	double all = json_number_value(json_object_get(msg, "of"));
	struct export *e = arg;

	(void)link, (void)bytes, (void)len;
	if (!event || strcmp(event, "export") || all <= 0 || !isatty(STDERR_FILENO))
		return;
	e->told = true;
	fprintf(stderr, "\r%s: %.0f %%", e->file, done / all * 100);
}

static void on_exported(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			size_t len)
{
	struct export *e = arg;

	(void)msg, (void)bytes, (void)len;
	end(e, error ? EXIT_TROUBLE : 0);
	if (error)
		complain("%s", error == -ECONNRESET ? "the daemon went away" : why);
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	(void)link, (void)error, (void)why;
	end(arg, EXIT_TROUBLE);
}

static void on_interrupt(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	end(arg, EXIT_INTERRUPTED); /* the daemon gives it up when the connection ends */
}

static int export_from(struct export *e, const char *host, const char *path)
{
	static const struct link_handler handler = { .message = on_message, .down = on_down };
	char name[HOST_NAME_BYTES];
	struct event *intr = NULL, *term = NULL;
	struct link *link = NULL;

	e->base = event_base_new();
	if (e->base) {
		intr = evsignal_new(e->base, SIGINT, on_interrupt, e);
		term = evsignal_new(e->base, SIGTERM, on_interrupt, e);
		link = client_connect(e->base, e->ctl->cluster, host, &handler, e, name,
				      sizeof(name));
	}
	if (link && intr && term) {
		event_add(intr, NULL);
		event_add(term, NULL);
		link_call(link,
			  json_pack("{s:s, s:s, s:i, s:s}", "op", "export", "id", e->id, "disk",
				    (int)e->disk, "path", path),
			  NULL, 0, on_exported, e);
		event_base_dispatch(e->base);
		if (e->status != EXIT_TROUBLE) /* else it may be down, and gone */
			link_close(link);
	}
	if (intr)
		event_free(intr);
	if (term)
		event_free(term);
	if (e->base)
		event_base_free(e->base);
	return e->status;
}

int cmd_export(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.children = cluster_options,
		.args_doc = "ID FILE",
		.doc = "Write a disk of a VM or clone, as it is now, to FILE: a new raw image, "
		       "sparse. The VM goes on. FILE is there when all of it is, or not at all."
	};
	struct export e = { .ctl = ctl, .status = EXIT_TROUBLE };
	char host[HOST_NAME_BYTES], path[PATH_MAX];

	argp_parse(&argp, argc, argv, 0, NULL, &e);
	if (!absolute(e.file, path)) {
		complain("%s: the path is too long", e.file);
		return EXIT_TROUBLE;
	}
	return find_host(&e, host) ? export_from(&e, host, path) : EXIT_TROUBLE;
}
