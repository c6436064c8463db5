/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command sf: its commands, one function each, and what they share. */
#ifndef LIBSF_CMD_CMD_H
#define LIBSF_CMD_CMD_H

#include <argp.h>
#include <stdbool.h>

#define EXIT_NOT_WELL  1   /* it was done, and something did not end well */
#define EXIT_ERROR     2   /* it could not be done; a sentence is on standard error */
#define EXIT_RUN_ERROR 255 /* the same for `sf run`, where small numbers count jobs */

/* A command; argv[0] is its full name ("sf clone"). Return: the exit status. */
typedef int cmd_main(int argc, char **argv);

cmd_main cmd_clone, cmd_join, cmd_exit, cmd_kill, cmd_free; /* clone.c */
cmd_main cmd_ticket, cmd_checkpoint, cmd_create, cmd_drop;  /* ticket.c */
cmd_main cmd_result, cmd_set_result;			    /* result.c */
cmd_main cmd_info, cmd_address;				    /* info.c */
cmd_main cmd_run;					    /* run.c */
cmd_main cmd_connect;					    /* connect.c */

/* Parses a number min…max; otherwise says what is wrong with it, and ends with the usage. */
unsigned cmd_number(struct argp_state *state, const char *what, const char *text, unsigned min,
		    unsigned max);

/* Prints "sf WHAT: " and the sentence of libsf's last error. Return: EXIT_ERROR. */
int cmd_error(const char *what);

/* Prints "sf: …". Return: EXIT_ERROR. */
int cmd_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The options that make hints for a ticket; a child parser with struct sf_hints as its input. */
extern const struct argp cmd_hints_argp;

/*
 * Parses up to two numbers, which is all that most commands take. `least` of them must be there;
 * values[] keeps what it had for the others.
 */
void cmd_parse_numbers(int argc, char **argv, const char *args_doc, const char *doc, unsigned least,
		       unsigned most, unsigned *values);

#endif
