/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf: what libsf can do, for scripts and for people. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "config.h"
#include "libsf/cmd/cmd.h"
#include "libsf/sf.h"

static const struct command {
	const char *name;
	cmd_main *main;
	const char *help;
} commands[] = {
	{ "run", cmd_run, "run a command in clones and bring its output home" },
	{ "clone", cmd_clone, "clone this VM; prints 0 in the parent, 1… in the clones" },
	{ "join", cmd_join, "wait until all clones have ended" },
	{ "exit", cmd_exit, "end this VM, which is a clone" },
	{ "kill", cmd_kill, "end all clones" },
	{ "info", cmd_info, "show who this VM is, and its tickets and clones" },
	{ "address", cmd_address, "print the address of the parent or of a clone" },
	{ "connect", cmd_connect, "connect standard input and output to a port of this VM" },
	{ "set-result", cmd_set_result, "in a clone: give a file to the parent" },
	{ "result", cmd_result, "in the parent: print what a clone gave" },
	{ "ticket", cmd_ticket, "ask for room for clones, to be ready later" },
	{ "free", cmd_free, "give a ticket back, with the results of its clones" },
	{ "checkpoint", cmd_checkpoint, "keep this instant, to make clones of it later" },
	{ "create", cmd_create, "make clones that begin at a checkpoint" },
	{ "drop", cmd_drop, "give a checkpoint back" },
};

/* visible, for argp to find it in the program */
__attribute__((visibility("default"))) const char *argp_program_version =
	"sf (snowflock) " PACKAGE_VERSION;

unsigned cmd_number(struct argp_state *state, const char *what, const char *text, unsigned min,
		    unsigned max)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number < min || number > max)
		argp_error(state, "%s is a number from %u to %u, not \"%s\"", what, min, max, text);
	return (unsigned)number;
}

int cmd_error(const char *what)
{
	fflush(stdout);
	fprintf(stderr, "sf %s: %s\n", what, sf_error());
	return EXIT_ERROR;
}

int cmd_complain(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("sf: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_ERROR;
}

static error_t parse_hint(int key, char *arg, struct argp_state *state)
{
	struct sf_hints *hints = state->input;

	switch (key) {
	case 'm':
		hints->min = cmd_number(state, "--min", arg, 1, 1024);
		return 0;
	case 'p':
		hints->per_host = cmd_number(state, "--per-host", arg, 1, 1024);
		return 0;
	case 'c':
		hints->vcpus = cmd_number(state, "--vcpus", arg, 1, 1024);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option hint_options[] = {
	{ "min", 'm', "K", 0, "fail rather than make fewer than K clones", 1 },
	{ "per-host", 'p', "K", 0, "at most K clones on one host", 1 },
	{ "vcpus", 'c', "V", 0, "virtual CPUs of each clone", 1 },
	{ 0 }
};
const struct argp cmd_hints_argp = { .options = hint_options, .parser = parse_hint };

struct numbers {
	unsigned least, most, count;
	unsigned *values;
};

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
	struct numbers *n = state->input;

	if (key == ARGP_KEY_ARG && n->count < n->most)
		n->values[n->count++] = cmd_number(state, "the argument", arg, 0, INT32_MAX);
	else if (key == ARGP_KEY_END && n->count < n->least)
		argp_usage(state);
	else if (key == ARGP_KEY_ARG)
		argp_usage(state);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

void cmd_parse_numbers(int argc, char **argv, const char *args_doc, const char *doc, unsigned least,
		       unsigned most, unsigned *values)
{
	struct argp argp = { .parser = parse_numbers, .args_doc = args_doc, .doc = doc };
	struct numbers numbers = { .least = least, .most = most, .values = values };

	argp_parse(&argp, argc, argv, 0, NULL, &numbers);
}

/* The list of commands for --help. */
static char *help_filter(int key, const char *text, void *input)
{
	char *list = NULL;
	size_t size;
	FILE *out;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC || !(out = open_memstream(&list, &size)))
		return (char *)text;
	fputs("Commands:\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].help);
	fputs("\n`sf COMMAND --help' tells more.\n\n"
	      "Exit status: 0; 1 a clone did not end well; 2 an error, which standard error\n"
	      "says in a sentence; 64 wrong usage. sf run has its own.",
	      out);
	fclose(out);
	return list;
}

struct choice {
	const struct command *command;
	int at; /* its place in argv */
};

static error_t parse_command(int key, char *arg, struct argp_state *state)
{
	struct choice *choice = state->input;

	if (key == ARGP_KEY_NO_ARGS)
		argp_usage(state);
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(arg, commands[i].name))
			choice->command = &commands[i];
	}
	if (!choice->command)
		argp_error(state, "there is no command \"%s\"", arg);
	choice->at = state->next - 1;
	state->next = state->argc; /* the rest is the command's */
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_command,
		.args_doc = "COMMAND [ARG...]",
		.doc = "Clone the virtual machine this runs in, and work with the clones.\v ",
		.help_filter = help_filter,
	};
	struct choice choice = { 0 };
	char name[32];

	argv[0] = strcpy(name, "sf");
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice);
	snprintf(name, sizeof(name), "sf %s", choice.command->name);
	argv[choice.at] = name;
	return choice.command->main(argc - choice.at, argv + choice.at);
}
