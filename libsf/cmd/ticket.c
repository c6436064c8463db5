/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf ticket, checkpoint, create, drop: clones prepared now and made later. */
#include <stdio.h>
#include <stdlib.h>

#include "libsf/cmd/cmd.h"
#include "libsf/sf.h"

struct ticket_options {
	unsigned n;
	struct sf_hints hints;
};

static error_t parse_ticket(int key, char *arg, struct argp_state *state)
{
	struct ticket_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->hints;
		return 0;
	case ARGP_KEY_ARG:
		if (o->n)
			argp_usage(state);
		o->n = cmd_number(state, "N", arg, 1, 1024);
		return 0;
	case ARGP_KEY_END:
		if (!o->n)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_ticket(int argc, char **argv)
{
	static const struct argp_child children[] = { { &cmd_hints_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.parser = parse_ticket,
		.children = children,
		.args_doc = "N",
		.doc = "Ask for room for up to N clones and print the ticket and how many it is "
		       "good for, as in \"3 8\". For `sf clone --ticket' and `sf create'.",
	};
	struct ticket_options o = { .hints = SF_HINTS_INIT };
	int ticket, granted;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	ticket = sf_request_ticket(o.n, &o.hints);
	if (ticket < 0)
		return cmd_error("ticket");
	granted = sf_ticket_granted(ticket);
	if (granted < 0)
		return cmd_error("ticket");
	printf("%d %d\n", ticket, granted);
	return EXIT_SUCCESS;
}

int cmd_checkpoint(int argc, char **argv)
{
	int checkpoint, id;

	cmd_parse_numbers(
		argc, argv, "",
		"Keep this instant and print the checkpoint's number and 0. In every clone made "
		"of it later, this command comes back and prints the number and the clone's id.",
		0, 0, NULL);
	id = sf_checkpoint_parent(&checkpoint);
	if (id < 0)
		return cmd_error("checkpoint");
	printf("%d %d\n", checkpoint, id);
	return EXIT_SUCCESS;
}

int cmd_create(int argc, char **argv)
{
	unsigned numbers[2];
	int made;

	cmd_parse_numbers(
		argc, argv, "CHECKPOINT TICKET",
		"Make clones that begin at CHECKPOINT with TICKET; prints how many were made.", 2,
		2, numbers);
	made = sf_create_clones((int)numbers[0], (int)numbers[1]);
	if (made < 0)
		return cmd_error("create");
	printf("%d\n", made);
	return EXIT_SUCCESS;
}

int cmd_drop(int argc, char **argv)
{
	unsigned checkpoint;

	cmd_parse_numbers(argc, argv, "CHECKPOINT",
			  "Give a checkpoint back; clones made of it go on.", 1, 1, &checkpoint);
	return sf_checkpoint_free((int)checkpoint) ? cmd_error("drop") : EXIT_SUCCESS;
}
