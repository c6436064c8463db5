/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf clone, join, exit, kill, free: the simple calls, one command each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "libsf/cmd/cmd.h"
#include "libsf/sf.h"

struct clone_options {
	unsigned n;
	int ticket; /* 0: ask for one */
	struct sf_hints hints;
};

static error_t parse_clone(int key, char *arg, struct argp_state *state)
{
	struct clone_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->hints;
		return 0;
	case 't':
		o->ticket = (int)cmd_number(state, "--ticket", arg, 1, INT32_MAX);
		return 0;
	case ARGP_KEY_ARG:
		if (o->n)
			argp_usage(state);
		o->n = cmd_number(state, "N", arg, 1, 1024);
		return 0;
	case ARGP_KEY_END:
		if (!o->n == !o->ticket)
			argp_error(state, "give either the number of clones or a ticket");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_clone(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "ticket", 't', "TICKET", 0, "clone with a ticket of `sf ticket'", 0 },
		{ 0 }
	};
	static const struct argp_child children[] = { { &cmd_hints_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse_clone,
		.children = children,
		.args_doc = "N",
		.doc = "Make up to N clones of this VM. Every process is in the clones too; "
		       "this one prints where it is: 0 in the parent, 1 and up in the clones.\v"
		       "As in\n\n"
		       "  id=$(sf clone 4) || exit\n"
		       "  if [ \"$id\" -gt 0 ]; then work \"$id\"; sf exit; fi\n"
		       "  sf join\n\n"
		       "The results and states of the clones stay until `sf free'.",
	};
	struct clone_options o = { .hints = SF_HINTS_INIT };
	int id;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (!o.ticket) {
		o.ticket = sf_request_ticket(o.n, &o.hints);
		if (o.ticket < 0)
			return cmd_error("clone");
	}
	id = sf_clone_ticket(o.ticket);
	if (id < 0) {
		int status = cmd_error("clone");

		if (o.n)
			sf_ticket_free(o.ticket);
		return status;
	}
	printf("%d\n", id);
	return EXIT_SUCCESS;
}

/* Prints how a clone ended, unless it ended well. Return: true if so. */
static bool ended_well(int ticket, int id)
{
	struct sf_status status;

	if (sf_status_ticket(ticket, (unsigned)id, &status)) {
		printf("clone %d: %s\n", id, sf_error());
		return false;
	}
	switch (status.state) {
	case SF_STATE_EXITED:
		if (status.status)
			printf("clone %d on %s: exited with status %d\n", id, status.host,
			       status.status);
		return !status.status;
	case SF_STATE_KILLED:
		printf("clone %d on %s: killed: %s\n", id, status.host, status.reason);
		return false;
	case SF_STATE_FAILED:
		printf("clone %d: never ran: %s\n", id, status.reason);
		return false;
	default:
		printf("clone %d on %s: lost: %s\n", id, status.host, status.reason);
		return false;
	}
}

/* The ticket given, or the VM's last. Return: it, or -1. */
static int ticket_or_last(int argc, char **argv, const char *doc)
{
	unsigned ticket = 0;

	cmd_parse_numbers(argc, argv, "[TICKET]", doc, 0, 1, &ticket);
	return ticket ? (int)ticket : sf_last_ticket();
}

int cmd_join(int argc, char **argv)
{
	int ticket = ticket_or_last(
		argc, argv,
		"Wait until all clones of the last operation, or of TICKET, have ended. Prints "
		"a line for each that did not end well, as it ends; the exit status is 1 then, "
		"and 0 if every clone exited with 0.");
	int id = 0, status = EXIT_SUCCESS;

	while (ticket > 0 && ((id = sf_wait_any(ticket, -1)) > 0 || errno == EINTR)) {
		if (id > 0 && !ended_well(ticket, id))
			status = EXIT_NOT_WELL;
		fflush(stdout);
		errno = 0;
	}
	return ticket < 0 || id < 0 ? cmd_error("join") : status;
}

int cmd_exit(int argc, char **argv)
{
	unsigned status = 0;
	int id;

	cmd_parse_numbers(
		argc, argv, "[STATUS]",
		"End this VM, which is a clone, with STATUS (0 to 255). What it is to leave "
		"behind is given to the parent by `sf set-result' before.",
		0, 1, &status);
	if (status > 255)
		return cmd_complain("a status is a number from 0 to 255");
	/* where sf_exit() would end this process alone, that is an error of the command */
	id = sf_id();
	if (id <= 0)
		return id ? cmd_error("exit")
			  : cmd_complain("this VM is no clone: it does not end by `sf exit'");
	sf_exit((int)status);
}

int cmd_kill(int argc, char **argv)
{
	int ticket = ticket_or_last(
		argc, argv, "End what is left of the clones of the last operation, or of TICKET.");

	return ticket < 0 || sf_kill_ticket(ticket) ? cmd_error("kill") : EXIT_SUCCESS;
}

int cmd_free(int argc, char **argv)
{
	unsigned ticket;

	cmd_parse_numbers(
		argc, argv, "TICKET",
		"Give a ticket back that is not to be used, or whose clones have all ended; "
		"their results go with it.",
		1, 1, &ticket);
	return sf_ticket_free((int)ticket) ? cmd_error("free") : EXIT_SUCCESS;
}
