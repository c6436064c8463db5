/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl cluster: its table; list, key and down. up is in cluster_up.c. */
#include "host/sfctl/cluster.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/link.h"
#include "host/sfctl/daemon.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/table.h"
#include "host/sfctl/text.h"
#include "host/vnet/embed.h"

static int cmd_cluster_list(struct sfctl *ctl, int argc, char **argv);
static int cmd_cluster_key(struct sfctl *ctl, int argc, char **argv);

static const struct command cluster_commands[] = {
	{ "up", cmd_cluster_up, "make hosts on this machine, or start this machine's daemon" },
	{ "down", cmd_cluster_down, "end the daemons here, and all that came of them" },
	{ "list", cmd_cluster_list, "list the clusters on this machine" },
	{ "key", cmd_cluster_key, "make a key for a cluster of several machines" },
	{ NULL, NULL, NULL },
};

struct search {
	const char *name;
	bool found;
};

static void match(const char *cluster, void *arg)
{
	struct search *search = arg;

	search->found |= !strcmp(cluster, search->name);
}

bool cluster_is_embedded(const char *cluster)
{
	struct search search = { .name = cluster };

	embed_list(match, &search);
	return search.found;
}

/* Removes the folders, which hold nothing that lives. */
static int remove_folders(const char *cluster, const char *host)
{
	char dir[PATH_MAX];
	int error;

	cluster_path(cluster, host, dir);
	error = folder_remove(dir);
	if (error)
		complain("cannot remove %s: %s", dir, strerror(-error));
	if (!host && !error)
		rmdir(run_dir()); /* only if this was the last one */
	return error;
}

int cluster_take_down(const char *cluster, const char *host)
{
	int ended = daemons_end(cluster, host), spaces = 0, error;

	if (ended < 0) {
		complain("cannot end the daemons of cluster \"%s\": %s", cluster, strerror(-ended));
		return ended;
	}
	if (!host)
		spaces = embed_destroy(cluster);
	error = remove_folders(cluster, host);
	return error ? error : ended + (spaces > 0 ? spaces : 0);
}

struct down {
	struct sfctl *ctl;
	const char *host;
};

static error_t parse_down(int key, char *arg, struct argp_state *state)
{
	struct down *down = state->input;

	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = down->ctl; return 0;
	case 'H': down->host = arg; return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

int cmd_cluster_down(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "host", 'H', "NAME", 0, "only this host's daemon", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_down,
		.children = cluster_options,
		.doc = "End the cluster's daemons on this machine, with all VMs."
	};
	struct down down = { .ctl = ctl };
	char dir[PATH_MAX];
	_cleanup_fd_ int lock = -1;
	int error;

	argp_parse(&argp, argc, argv, 0, NULL, &down);
	if (!cluster_name_valid(ctl->cluster) || (down.host && strchr(down.host, '/'))) {
		complain("that is no name of a cluster or host");
		return EXIT_MISUSE;
	}
	cluster_path(ctl->cluster, down.host, dir);
	if (access(dir, F_OK) && (down.host || !cluster_is_embedded(ctl->cluster))) {
		complain("there is no %s: nothing to do", dir);
		return EXIT_TROUBLE;
	}
	error = cluster_lock(ctl->cluster, &lock);
	if (error == -EBUSY) {
		complain("cluster \"%s\" is being started or ended right now", ctl->cluster);
		return EXIT_TROUBLE;
	}
	return cluster_take_down(ctl->cluster, down.host) < 0 ? EXIT_TROUBLE : 0;
}

/* What is known of a cluster without asking it. Return: the caller's. */
static json_t *describe(const char *cluster)
{
	_cleanup_free_ struct host_folder *folders = NULL;
	unsigned count = 0, alive = 0;
	char dir[PATH_MAX];

	cluster_path(cluster, NULL, dir);
	cluster_folders(cluster, &folders, &count);
	for (unsigned i = 0; i < count; i++)
		alive += folders[i].alive;
	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:s}", "name", cluster, "kind",
			 cluster_is_embedded(cluster) ? "embedded" : "real", "hosts", (int)count,
			 "running", (int)alive, "state",
			 !alive	       ? "dead" :
			 alive < count ? "partly" :
					 "up",
			 "folder", dir);
}

static int cmd_cluster_list(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_nothing,
		.children = listing_options,
		.doc = "List the clusters that have daemons on this machine."
	};
	static const struct table_column columns[] = {
		{ "NAME", "name", NULL, 0 },
		{ "KIND", "kind", NULL, 0 },
		{ "HOSTS", "hosts", NULL, 1 },
		{ "RUNNING", "running", NULL, 1 },
		{ "STATE", "state", NULL, 0 },
		{ "FOLDER", "folder", NULL, 0 },
		{ 0 },
	};
	json_t *rows = json_array();
	char **names;
	unsigned count;
	int error;

	argp_parse(&argp, argc, argv, 0, NULL, ctl);
	error = cluster_names(&names, &count);
	if (error) {
		complain("cannot read %s: %s", run_dir(), strerror(-error));
		json_decref(rows);
		return EXIT_TROUBLE;
	}
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(rows, describe(names[i]));
	names_free(names, count);
	if (ctl->json)
		print_json(rows);
	else
		table_print(columns, rows);
	json_decref(rows);
	return 0;
}

static int cmd_cluster_key(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_nothing,
		.children = cluster_options,
		.doc = "Write a new random key to standard output, which is a file or a pipe. Every "
		       "host of a cluster needs the same one; who has it may join."
	};
	uint8_t key[LINK_KEY_BYTES];
	int error;

	argp_parse(&argp, argc, argv, 0, NULL, ctl);
	if (isatty(STDOUT_FILENO)) {
		complain(
			"a key is %d random bytes, not for a terminal: "
			 "(umask 077; sfctl cluster key > FILE)",
			LINK_KEY_BYTES);
		return EXIT_MISUSE;
	}
	error = getrandom(key, sizeof(key), 0) == sizeof(key) ?
			io_write_full(STDOUT_FILENO, key, sizeof(key)) :
			-EIO;
	if (error)
		complain("cannot write the key: %s", strerror(-error));
	return error ? EXIT_TROUBLE : 0;
}

int cmd_cluster(struct sfctl *ctl, int argc, char **argv)
{
	bool help = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
				 !strcmp(argv[1], "-?"));

	if (argc < 2 || help) {
		printf("Usage: sfctl cluster COMMAND [ARGUMENT…]\n\n");
		command_list(cluster_commands);
		return help ? 0 : EXIT_MISUSE;
	}
	return command_run(cluster_commands, "sfctl cluster", ctl, argc - 1, argv + 1);
}
