/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl run: its command line. */
#include <argp.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/paths.h"
#include "host/sfctl/run.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/text.h"

#define DEFAULT_MEM (512ull << 20)
#define MIN_MEM (64ull << 20)
#define MAX_CPUS 64

enum {
	OPT_PUT = 256,
	OPT_ENV,
	OPT_KERNEL,
	OPT_INITRD,
	OPT_APPEND,
	OPT_JSON,
	OPT_QUIET,
	OPT_PROGRESS,
	OPT_HOST,
	OPT_IPV6,
	OPT_IMAGE,
	OPT_NO_AGENT,
	OPT_PUBLISH
};

static const struct argp_option options_table[] = {
	{ "mem", 'm', "SIZE", 0, "memory of the VM [512M]", 1 },
	{ "cpus", 'c', "N", 0, "CPUs of the VM [1]", 1 },
	{ "ipv6", OPT_IPV6, NULL, 0, "the VM and its clones have IPv6 among themselves", 1 },
	{ "name", 'N', "NAME", 0, "its name, for sfctl ps", 1 },
	{ "host", OPT_HOST, "NAME", 0,
	  "the host to boot it on, which is on this machine [the first]", 1 },
	{ "image", OPT_IMAGE, "FILE", 0,
	  "a disk, from a raw or qcow2 image, which is only read; the VM boots from the first "
	  "unless a kernel is named",
	  1 },
	{ "no-agent", OPT_NO_AGENT, NULL, 0,
	  "expect no agent in the VM: no command; show its console until it ends", 1 },
	{ "kernel", OPT_KERNEL, "FILE", 0, "another kernel than the guest image's", 1 },
	{ "initrd", OPT_INITRD, "FILE", 0, "another initial RAM disk", 1 },
	{ "append", OPT_APPEND, "OPTIONS", 0, "more options for the kernel", 1 },
	{ "put", OPT_PUT, "FILE[:PATH]", 0,
	  "copy a file or folder into the VM, into " RUN_HOME
	  " or to PATH; programs with the shared "
	  "libraries they need",
	  2 },
	{ "env", OPT_ENV, "NAME=VALUE", 0, "add to the command's environment", 2 },
	{ "publish", OPT_PUBLISH, "[ADDRESS:]PORT:GUESTPORT", 0,
	  "connections to PORT of this machine lead to GUESTPORT of the VM [127.0.0.1]", 2 },
	{ "tty", 't', NULL, 0, "give the command a terminal", 2 },
	{ "no-stdin", 'n', NULL, 0, "read nothing from standard input", 2 },
	{ "json", OPT_JSON, "FILE", 0, "write the record of all clones to FILE", 3 },
	{ "progress", OPT_PROGRESS, NULL, 0, "tell of clones on standard error, terminal or not",
	  3 },
	{ "quiet", OPT_QUIET, NULL, 0, "tell nothing", 3 },
	{ 0 },
};

/* What is known only when all options are read. */
struct parse {
	struct sfctl ctl;
	struct run_options *options;
	char **names, **places; /* --put FILE and its place in the guest */
	unsigned puts;
	int error;
};

static void add_put(struct parse *p, const char *arg)
{
	char **names = reallocarray(p->names, p->puts + 1, sizeof(*names));
	char **places = names ? reallocarray(p->places, p->puts + 1, sizeof(*places)) : NULL;

	p->names = names ? names : p->names;
	p->places = places ? places : p->places;
	if (!places) {
		p->error = -ENOMEM;
		return;
	}
	p->error = put_list_add(&p->options->puts, arg, &names[p->puts], &places[p->puts]);
	if (!p->error)
		p->puts++;
}

static void add_env(struct parse *p, const char *arg, struct argp_state *state)
{
	const char *equals = strchr(arg, '=');
	json_t *value = equals ? json_string(equals + 1) : NULL;
	char *name = strndup(arg, equals ? (size_t)(equals - arg) : 0);

	if (!equals || equals == arg || !value || json_object_set_new(p->options->env, name, value))
		argp_error(state, "--env wants NAME=VALUE");
	free(name);
}

/* A file that the daemon opens, which has another working directory. */
static char *absolute(const char *path, struct argp_state *state)
{
	char *full = realpath(path, NULL);

	if (!full)
		argp_error(state, "there is no %s", path);
	return full;
}

static void add_image(struct run_options *o, const char *path, struct argp_state *state)
{
	char *full = absolute(path, state);

	if (json_array_append_new(o->images, json_string(full)))
		argp_error(state, "the path %s is not UTF-8", path);
	free(full);
}

/* Nobody in the VM takes files or runs commands. */
static void check_no_agent(const struct run_options *o, struct argp_state *state)
{
	if (o->no_agent &&
	    (o->puts.count || json_array_size(o->argv) || o->tty || o->json_file))
		argp_error(state, "with --no-agent there is no command, and no --put, --tty, --json");
}

/* Found out before the run, not after it. */
static void check_record(const char *path, struct argp_state *state)
{
	char *copy = strdup(path);

	if (copy && access(dirname(copy), W_OK))
		argp_error(state, "cannot write %s: %s", path, strerror(errno));
	free(copy);
}

/* The command: one of the files put is called by its place in the guest. */
static void set_command(struct parse *p, struct argp_state *state)
{
	const char *command = state->argv[state->next];

	for (unsigned i = 0; i < p->puts; i++) {
		if (!strcmp(command, p->names[i]))
			command = p->places[i];
	}
	json_array_append_new(p->options->argv, json_string(command));
	for (int i = state->next + 1; i < state->argc; i++) {
		if (json_array_append_new(p->options->argv, json_string(state->argv[i])))
			argp_error(state, "the command's argument %d is not UTF-8",
				   i - state->next);
	}
}

static void parse_numbers(int key, const char *arg, struct run_options *o, struct argp_state *state)
{
	char *end;

	if (key == 'm' && (size_parse(arg, &o->mem_bytes) || o->mem_bytes < MIN_MEM))
		argp_error(state, "--mem wants a size of at least 64M, as in 512M or 4G");
	if (key == 'c') {
		o->cpus = (unsigned)strtoul(arg, &end, 10);
		if (*end || end == arg || o->cpus < 1 || o->cpus > MAX_CPUS)
			argp_error(state, "--cpus wants a number from 1 to %d", MAX_CPUS);
	}
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;
	struct run_options *o = p->options;

	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = &p->ctl; return 0;
	case 'm':
	case 'c': parse_numbers(key, arg, o, state); return 0;
	case 'N': o->name = arg; return 0;
	case 't': o->tty = true; return 0;
	case 'n': o->no_stdin = true; return 0;
	case OPT_HOST: o->host = arg; return 0;
	case OPT_IPV6: o->ipv6 = true; return 0;
	case OPT_JSON: check_record(o->json_file = arg, state); return 0;
	case OPT_QUIET: o->quiet = true; return 0;
	case OPT_PROGRESS: o->progress = true; return 0;
	case OPT_ENV: add_env(p, arg, state); return 0;
	case OPT_PUBLISH:
		if (publish_list_add(&o->publish, arg))
			argp_error(state, "--publish wants [ADDRESS:]PORT:GUESTPORT, as in 8080:80, "
					  "not %s", arg);
		return 0;
	case OPT_APPEND: o->append = arg; return 0;
	case OPT_KERNEL:
		free(o->kernel);
		o->kernel = absolute(arg, state);
		return 0;
	case OPT_INITRD:
		free(o->initrd);
		o->initrd = absolute(arg, state);
		return 0;
	case OPT_IMAGE: add_image(o, arg, state); return 0;
	case OPT_NO_AGENT: o->no_agent = true; return 0;
	case OPT_PUT:
		if (!p->error)
			add_put(p, arg);
		return 0;
	case ARGP_KEY_ARGS: set_command(p, state); return 0;
	case ARGP_KEY_NO_ARGS:
		if (!o->no_agent)
			argp_error(state, "which command? as in  sfctl run -- uname -a");
		return 0;
	case ARGP_KEY_END: check_no_agent(o, state); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static void parse_fini(struct parse *p)
{
	while (p->puts) {
		free(p->names[--p->puts]);
		free(p->places[p->puts]);
	}
	free(p->names);
	free(p->places);
}

/* Where the loader finds the libraries that were put beside the usual places. */
static void set_library_path(struct run_options *o)
{
	const char *own = json_string_value(json_object_get(o->env, "LD_LIBRARY_PATH"));

	if (!o->puts.library_path)
		return;
	if (own)
		json_object_set_new(o->env, "LD_LIBRARY_PATH",
				    json_sprintf("%s:%s", own, o->puts.library_path));
	else
		json_object_set_new(o->env, "LD_LIBRARY_PATH", json_string(o->puts.library_path));
}

/* The folder with the guest image that the daemon boots. */
static void find_guest(const struct run_options *o, char dir[PATH_MAX])
{
	_cleanup_free_ struct host_folder *folders = NULL;
	char link[PATH_MAX + sizeof(GUEST_LINK)];
	unsigned count = 0, i = 0;

	cluster_folders(o->cluster, &folders, &count);
	while (o->host && i < count && strcmp(o->host, folders[i].name))
		i++;
	if (i < count) {
		snprintf(link, sizeof(link), "%s/" GUEST_LINK, folders[i].dir);
		if (realpath(link, dir))
			return;
	}
	paths_guest(NULL, dir);
}

int run_options_parse(struct run_options *o, const char *cluster, int argc, char **argv)
{
	static const struct argp argp = {
		.options = options_table,
		.parser = parse_option,
		.children = cluster_options,
		.args_doc = "[--] COMMAND [ARGUMENT...]\n--image FILE --no-agent",
		.doc = "Boot a VM on the cluster, copy files in, run COMMAND in it with this terminal, "
		       "remove the VM and all that came of it.\v"
		       "The exit status is the command's, 128 + N if signal N ended it, 125 if sfctl "
		       "or the cluster failed. Ctrl-C goes to the command; a second one ends the VM."
	};
	struct parse p = { .ctl.cluster = cluster, .options = o };
	char guest[PATH_MAX];

	*o = (struct run_options){
		.mem_bytes = DEFAULT_MEM, .cpus = 1, .env = json_object(), .argv = json_array(),
		.images = json_array()
	};
	json_object_set_new(o->env, "PATH", json_string(RUN_PATH));
	argp_err_exit_status = EXIT_RUN_TROUBLE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &p);
	o->cluster = p.ctl.cluster;
	parse_fini(&p);
	if (p.error)
		return p.error;
	/* an image has libraries of its own, which fit its loader */
	if (json_array_size(o->images) && !o->initrd)
		return 0;
	find_guest(o, guest);
	p.error = put_list_libraries(&o->puts, guest, o->initrd);
	set_library_path(o);
	return p.error;
}

void run_options_fini(struct run_options *o)
{
	put_list_fini(&o->puts);
	publish_list_fini(&o->publish);
	json_decref(o->env);
	json_decref(o->argv);
	json_decref(o->images);
	free(o->kernel);
	free(o->initrd);
}
