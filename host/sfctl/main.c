/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands, and the options that hold for all of them. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "config.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/text.h"
#include "proto/control.h"

static const struct command commands[] = {
	{ "cluster", cmd_cluster, "start and stop a cluster: up, down, list, key" },
	{ "run", cmd_run, "boot a VM, run a command in it, remove it" },
	{ "ps", cmd_ps, "list the VMs and clones of the cluster" },
	{ "hosts", cmd_hosts, "list the hosts of the cluster" },
	{ "show", cmd_show, "show all about one VM or clone" },
	{ "export", cmd_export, "write a disk of a VM or clone to a file" },
	{ "kill", cmd_kill, "end VMs or clones" },
	{ "clean", cmd_clean, "remove what a crash left behind on this machine" },
	{ "doctor", cmd_doctor, "say what this machine lacks, and how to get it" },
	{ NULL, NULL, NULL },
};

void command_list(const struct command *table)
{
	for (; table->name; table++)
		printf("  %-9s %s\n", table->name, table->summary);
}

int command_run(const struct command *table, const char *prefix, struct sfctl *ctl, int argc,
		char **argv)
{
	char name[64];

	for (; table->name; table++) {
		if (strcmp(table->name, argv[0]))
			continue;
		snprintf(name, sizeof(name), "%s %s", prefix, argv[0]);
		argv[0] = name;
		program_invocation_name = name;
		return table->run(ctl, argc, argv);
	}
	complain("no command \"%s\"; see %s --help", argv[0], prefix);
	return EXIT_MISUSE;
}

static error_t parse_cluster(int key, char *arg, struct argp_state *state)
{
	struct sfctl *ctl = state->input;

	if (key != 'C')
		return ARGP_ERR_UNKNOWN;
	ctl->cluster = arg;
	return 0;
}

static error_t parse_listing(int key, char *arg, struct argp_state *state)
{
	struct sfctl *ctl = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = ctl; return 0;
	case 'j': ctl->json = true; return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

error_t parse_nothing(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == ARGP_KEY_INIT)
		state->child_inputs[0] = state->input;
	return key == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp_option cluster_option[] = {
	{ "cluster", 'C', "NAME", 0, "the cluster meant [$SNOWFLOCK_CLUSTER, or \"default\"]", 10 },
	{ 0 },
};
static const struct argp_option listing_option[] = {
	{ "json", 'j', NULL, 0, "print JSON", 9 },
	{ 0 },
};
static const struct argp cluster_argp = { .options = cluster_option, .parser = parse_cluster };
const struct argp_child cluster_options[] = { { &cluster_argp, 0, NULL, 0 }, { 0 } };
static const struct argp listing_argp = { .options = listing_option,
					  .parser = parse_listing,
					  .children = cluster_options };
const struct argp_child listing_options[] = { { &listing_argp, 0, NULL, 0 }, { 0 } };

/* argp ends its usage with the options; the commands come before. */
static void help(void)
{
	printf("Usage: sfctl [-C CLUSTER] COMMAND [ARGUMENT…]\n"
	       "Clones running virtual machines over the hosts of a cluster.\n\n");
	command_list(commands);
	printf("\n  -C, --cluster=NAME  the cluster meant [$SNOWFLOCK_CLUSTER, or \"default\"]\n"
	       "  -V, --version       print the version\n\n"
	       "sfctl COMMAND --help tells about a command. Begin with: sfctl doctor\n");
}

static error_t parse_main(int key, char *arg, struct argp_state *state)
{
	struct sfctl *ctl = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = ctl; return 0;
	case '?': help(); exit(0);
	case ARGP_KEY_ARG:
		state->next--; /* the command and all behind it are not for us */
		exit(command_run(commands, "sfctl", ctl, state->argc - state->next,
				 state->argv + state->next));
	case ARGP_KEY_NO_ARGS: help(); exit(EXIT_MISUSE);
	default: return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "help", '?', NULL, 0, NULL, 0 },
		{ "help", 'h', NULL, OPTION_ALIAS, NULL, 0 },
		{ 0 },
	};
	static const struct argp argp = { .options = options,
					  .parser = parse_main,
					  .children = cluster_options };
	const char *wanted = getenv("SNOWFLOCK_CLUSTER");
	struct sfctl ctl = { .cluster = wanted && *wanted ? wanted : CONTROL_DEFAULT_CLUSTER };

	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN);
	log_init("sfctl", LOG_LVL_WARN);
	argp_program_version = PACKAGE_STRING;
	argp_err_exit_status = EXIT_MISUSE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP, NULL, &ctl);
	return EXIT_MISUSE;
}
