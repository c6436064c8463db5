/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of sf-mpirun. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "mpi-shim/mpirun.h"

enum long_option {
	OPTION_MIN = 256,
	OPTION_PER_HOST,
	OPTION_HERE,
	OPTION_MPICH,
	OPTION_MPIEXEC,
	OPTION_PPN
};

/* visible, for argp to find it in the program */
__attribute__((visibility("default"))) const char *argp_program_version =
	"sf-mpirun (snowflock) " PACKAGE_VERSION;

static unsigned number(struct argp_state *state, const char *what, const char *text, unsigned max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || value < 1 || value > max)
		argp_error(state, "%s is a number from 1 to %u, not \"%s\"", what, max, text);
	return (unsigned)value;
}

/* One more part, of `words`. */
static void add_part(struct mpirun_options *o, struct argp_state *state, unsigned ranks,
		     char **words)
{
	struct mpirun_part *parts = reallocarray(o->parts, o->part_count + 1, sizeof(*parts));

	if (!parts)
		argp_failure(state, EXIT_MPIRUN, ENOMEM, "the command line");
	if (!ranks)
		argp_error(state, "say how many ranks of %s: -n N", words[0]);
	if (ranks > MPI_MAX_RANKS - o->want.ranks)
		argp_error(state, "more than %u ranks", MPI_MAX_RANKS);
	o->parts = parts;
	o->parts[o->part_count++] = (struct mpirun_part){ .ranks = ranks, .words = words };
	o->want.ranks += ranks;
}

/* Ends the words at the next colon. Return: where what is behind it begins, or NULL at the end. */
static char **cut(char **words)
{
	while (*words && strcmp(*words, ":"))
		words++;
	if (!*words)
		return NULL;
	*words = NULL;
	return words;
}

/* What is behind a colon: "-n N PROGRAM [ARG...]". */
struct behind_colon {
	unsigned ranks;
	char **words;
};

static error_t parse_behind(int key, char *arg, struct argp_state *state)
{
	struct behind_colon *behind = state->input;

	switch (key) {
	case 'n':
		behind->ranks = number(state, "-n", arg, MPI_MAX_RANKS);
		return 0;
	case ARGP_KEY_ARGS:
		behind->words = state->argv + state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no program behind a colon");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option behind_options[] = {
	{ "np", 'n', "N", 0, "so many ranks of this program", 0 }, { 0 }
};
static const struct argp behind_argp = { .options = behind_options,
					 .parser = parse_behind,
					 .args_doc = "PROGRAM [ARG...]" };

/* Takes "PROGRAM ARG... [: -n N PROGRAM ARG...]...". */
static void take_programs(struct mpirun_options *o, struct argp_state *state, unsigned ranks,
			  char **words)
{
	char **next = cut(words);

	if (!words[0])
		argp_error(state, "no program");
	add_part(o, state, ranks, words);
	while (next) {
		struct behind_colon behind = { 0 };
		char **after = cut(next + 1);
		int count = 1;

		next[0] = state->name;
		while (next[count])
			count++;
		argp_parse(&behind_argp, count, next, ARGP_IN_ORDER | ARGP_LONG_ONLY, NULL,
			   &behind);
		next[0] = NULL; /* the end of the part before */
		add_part(o, state, behind.ranks, behind.words);
		next = after;
	}
}

static void add_word(struct mpirun_options *o, struct argp_state *state, char *word)
{
	char **words = reallocarray(o->mpiexec, o->mpiexec_count + 1, sizeof(*words));

	if (!words)
		argp_failure(state, EXIT_MPIRUN, ENOMEM, "the command line");
	o->mpiexec = words;
	o->mpiexec[o->mpiexec_count++] = word;
}

struct parse {
	struct mpirun_options *options;
	unsigned ranks; /* of the first part */
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct parse *parse = state->input;
	struct mpirun_options *o = parse->options;

	switch (key) {
	case 'n':
		parse->ranks = number(state, "-n", arg, MPI_MAX_RANKS);
		return 0;
	case OPTION_PPN:
		o->want.per_clone = number(state, "-ppn", arg, MPI_MAX_RANKS);
		return 0;
	case OPTION_MIN:
		o->want.min_clones = number(state, "--min", arg, MPI_MAX_CLONES);
		return 0;
	case OPTION_PER_HOST:
		o->want.per_host = number(state, "--per-host", arg, MPI_MAX_CLONES);
		return 0;
	case OPTION_HERE:
		o->here = true;
		return 0;
	case OPTION_MPICH:
		o->mpich = arg;
		return 0;
	case OPTION_MPIEXEC:
		add_word(o, state, arg);
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case ARGP_KEY_ARGS:
		take_programs(o, state, parse->ranks, state->argv + state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no program");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options_of_all[] = {
	{ "np", 'n', "N", 0, "so many ranks of the program", 0 },
	{ "ppn", OPTION_PPN, "K", 0, "K ranks in each clone [its CPUs]", 0 },
	{ "min", OPTION_MIN, "M", 0,
	  "fail rather than run in fewer than M clones [fewer than needed have more ranks each]",
	  0 },
	{ "per-host", OPTION_PER_HOST, "H", 0, "at most H clones on one host", 0 },
	{ "here", OPTION_HERE, NULL, 0,
	  "run the ranks in this VM; only what they spawn goes to clones", 0 },
	{ "mpich", OPTION_MPICH, "DIR", 0,
	  "the folder of the libmpich to use; `system': what the program has without us", 0 },
	{ "mpiexec", OPTION_MPIEXEC, "WORD", 0,
	  "a word more for mpiexec, as in --mpiexec=-prepend-rank", 0 },
	{ "quiet", 'q', NULL, 0, "no progress on the terminal", 0 },
	{ 0 }
};

static const struct argp argp = {
	.options = options_of_all,
	.parser = parse_option,
	.args_doc = "PROGRAM [ARG...] [: -n N PROGRAM [ARG...]]...",
	.doc = "Run an MPI program in clones of this VM, which are made for it and end with it.\v"
	       "Standard input goes to rank 0, the output of all comes here, signals go to all. "
	       "The "
	       "ranks' MPI_Comm_spawn() makes more clones.\n\n"
	       "  sf-mpirun -n 8 ./solve input\n"
	       "  sf-mpirun -n 1 ./manager : -n 15 ./worker\n\n"
	       "Exit status: that of mpiexec; 255 an error of sf-mpirun itself, before anything "
	       "was "
	       "started, or a clone was lost; 130 ended by Ctrl-C, as 128 + signal for others.",
};

void mpirun_parse(struct mpirun_options *options, int argc, char **argv)
{
	struct parse parse = { .options = options };

	argp_err_exit_status = EXIT_MPIRUN;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_LONG_ONLY, NULL, &parse);
}

void mpirun_options_fini(struct mpirun_options *options)
{
	free(options->parts);
	free(options->mpiexec);
	*options = (struct mpirun_options){ 0 };
}
