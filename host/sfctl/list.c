/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl ps, hosts, show, kill: one request each. */
#include <stdio.h>
#include <string.h>

#include "host/sfctl/client.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/table.h"
#include "host/sfctl/text.h"

static const struct table_column vm_columns[] = {
	{ "ID", "id", NULL, 0 },
	{ "NAME", "name", NULL, 0 },
	{ "KIND", "kind", NULL, 0 },
	{ "HOST", "host", NULL, 0 },
	{ "STATE", "state", NULL, 0 },
	{ "CPUS", "cpus", NULL, 1 },
	{ "MEMORY", "mem_bytes", cell_size, 1 },
	{ "DISKS", "disks", cell_disks, 0 },
	{ "ADDRESS", "address", NULL, 0 },
	{ "PID", "pid", NULL, 1 },
	{ "UP", "uptime_ms", cell_span, 0 },
	{ 0 },
};

static const struct table_column host_columns[] = {
	{ "NAME", "name", NULL, 0 },
	{ "ADDRESS", "address", NULL, 0 },
	{ "STATE", "state", NULL, 0 },
	{ "VMS", "vms", NULL, 1 },
	{ "MEMORY", "mem_bytes", cell_size, 1 },
	{ "FREE", "mem_free_bytes", cell_size, 1 },
	{ "ACCEL", "accel", NULL, 0 },
	{ "CPU", "cpu", NULL, 0 },
	{ "PAGES BY", "mode", NULL, 0 },
	{ "HEARD BY", "heard_by", NULL, 1 },
	{ 0 },
};

/* Asks for a listing and prints it. */
static int list(const struct sfctl *ctl, const char *op, const char *key,
		const struct table_column *columns)
{
	json_t *answer = client_ask(ctl->cluster, NULL, json_pack("{s:s}", "op", op));
	json_t *rows = json_object_get(answer, key);

	if (!answer)
		return EXIT_TROUBLE;
	if (!json_is_array(rows)) {
		complain("the daemon's answer has no \"%s\"", key);
		json_decref(answer);
		return EXIT_TROUBLE;
	}
	if (ctl->json)
		print_json(rows);
	else
		table_print(columns, rows);
	json_decref(answer);
	return 0;
}

int cmd_ps(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = { .parser = parse_nothing,
					  .children = listing_options,
					  .doc = "List the VMs and clones of the cluster." };

	argp_parse(&argp, argc, argv, 0, NULL, ctl);
	return list(ctl, "ps", "vms", vm_columns);
}

int cmd_hosts(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = { .parser = parse_nothing,
					  .children = listing_options,
					  .doc = "List the hosts of the cluster." };

	argp_parse(&argp, argc, argv, 0, NULL, ctl);
	return list(ctl, "hosts", "hosts", host_columns);
}

/* For commands on VMs: the first of the IDs in argv is left in *first. */
struct ids {
	struct sfctl *ctl;
	int first;
	bool many;
};

static error_t parse_ids(int key, char *arg, struct argp_state *state)
{
	struct ids *ids = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = ids->ctl; return 0;
	case ARGP_KEY_ARGS:
		ids->first = state->next;
		if (!ids->many && state->argc - state->next > 1)
			argp_error(state, "one ID, please");
		return 0;
	case ARGP_KEY_NO_ARGS: argp_error(state, "which one? sfctl ps lists the IDs"); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

int cmd_show(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = { .parser = parse_ids,
					  .children = listing_options,
					  .args_doc = "ID",
					  .doc = "Show all about a VM or clone." };
	struct ids ids = { .ctl = ctl };
	json_t *answer;

	argp_parse(&argp, argc, argv, 0, NULL, &ids);
	answer = client_ask(ctl->cluster, argv[ids.first],
			    json_pack("{s:s, s:s}", "op", "show", "id", argv[ids.first]));
	if (!answer)
		return EXIT_TROUBLE;
	json_object_del(answer, "re");
	if (ctl->json)
		print_json(answer);
	else
		print_tree(answer, 0);
	json_decref(answer);
	return 0;
}

int cmd_kill(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_ids,
		.children = cluster_options,
		.args_doc = "ID...",
		.doc = "End VMs, each with all that came of it, or single clones (h1.2/3)."
	};
	struct ids ids = { .ctl = ctl, .many = true };
	int status = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &ids);
	for (int i = ids.first; i < argc; i++) {
		json_t *request = json_pack("{s:s, s:s}", "op", "kill", "id", argv[i]);
		json_t *answer = client_ask(ctl->cluster, argv[i], request);

		if (!answer)
			status = EXIT_TROUBLE;
		json_decref(answer);
	}
	return status;
}
