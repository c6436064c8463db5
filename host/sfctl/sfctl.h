/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl: the operator's command. main.c finds the command in its table; each command reads its own
 * options with argp and talks to a daemon (client.h) or to this machine (folder.h, daemon.h).
 */
#ifndef HOST_SFCTL_SFCTL_H
#define HOST_SFCTL_SFCTL_H

#include <argp.h>
#include <stdbool.h>

#define EXIT_TROUBLE 1	     /* what was asked for did not work */
#define EXIT_MISUSE 2	     /* it was not understood */
#define EXIT_RUN_TROUBLE 125 /* `run`: it was not the command that failed */

/* What holds for every command. */
struct sfctl {
	const char *cluster;
	bool json; /* a listing for programs */
};

struct command {
	const char *name;
	/* argv[0] is "sfctl NAME". Return: the exit status. */
	int (*run)(struct sfctl *ctl, int argc, char **argv);
	const char *summary;
};

/* Finds argv[0] in a table that ends with a nameless row and runs it as "PREFIX argv[0]". */
int command_run(const struct command *table, const char *prefix, struct sfctl *ctl, int argc,
		char **argv);

/* Prints a table of commands to standard output. */
void command_list(const struct command *table);

/* Children for a command's argp, with struct sfctl as input: -C, and -C and --json. */
extern const struct argp_child cluster_options[], listing_options[];

/* For a command that has no arguments: an argp parser that knows only its children. */
error_t parse_nothing(int key, char *arg, struct argp_state *state);

int cmd_clean(struct sfctl *ctl, int argc, char **argv);
int cmd_cluster(struct sfctl *ctl, int argc, char **argv);
int cmd_doctor(struct sfctl *ctl, int argc, char **argv);
int cmd_export(struct sfctl *ctl, int argc, char **argv);
int cmd_hosts(struct sfctl *ctl, int argc, char **argv);
int cmd_kill(struct sfctl *ctl, int argc, char **argv);
int cmd_ps(struct sfctl *ctl, int argc, char **argv);
int cmd_run(struct sfctl *ctl, int argc, char **argv);
int cmd_show(struct sfctl *ctl, int argc, char **argv);

#endif
