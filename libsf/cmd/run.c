/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `sf run`: one command in many clones, as GNU parallel would in many processes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "libsf/cmd/cmd.h"
#include "libsf/cmd/run.h"
#include "libsf/sf.h"

#define MAX_FAILED_STATUS 100 /* more failed jobs than that: one more */
#define TICK_MS		  1000
#define MAX_PROCS	  256

enum long_option { OPTION_TAG = 256, OPTION_GROUP, OPTION_PROCS };

struct run_options {
	unsigned n; /* clones asked for; 0: one for each argument */
	unsigned procs; /* of each clone, at a time; 0: as many as it has CPUs */
	bool keep_order, tag, quiet;
	const char *arg_file;
	struct sf_hints hints;
	struct jobs jobs;
};

static volatile sig_atomic_t interrupted; /* the signal */

static void on_signal(int number)
{
	interrupted = number;
}

/* Has the signals that end a command noted, or (false) back as they come. */
static void catch_signals(bool on)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on ? on_signal : SIG_DFL };

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

/* Splits "CMD ARG... [::: ARGUMENT...]" and reads the arguments' file. */
static void take_command(struct run_options *o, struct argp_state *state, char **words)
{
	unsigned at = 0;
	int rc = 0;

	o->jobs.command = words;
	while (words[at] && strcmp(words[at], ":::"))
		at++;
	if (!at)
		argp_error(state, "no command");
	if (words[at]) {
		words[at] = NULL;
		if (!words[at + 1])
			argp_error(state, "no argument behind :::");
		while (!rc && words[++at])
			rc = jobs_add_argument(&o->jobs, words[at]);
	}
	if (!rc && o->arg_file)
		rc = jobs_read_arguments(&o->jobs, o->arg_file);
	if (rc)
		argp_failure(state, EXIT_RUN_ERROR, -rc, "%s", o->arg_file ? o->arg_file : ":::");
	if (!o->jobs.arguments && !o->arg_file)
		o->jobs.count = o->n * (o->procs ? o->procs : 1);
	if (!o->jobs.arguments && !o->arg_file && !o->n)
		argp_error(state,
			   "say how many clones (-n N), or give arguments (::: or --arg-file)");
}

static error_t parse_run(int key, char *arg, struct argp_state *state)
{
	struct run_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->hints;
		return 0;
	case 'n':
		o->n = cmd_number(state, "-n", arg, 1, 1024);
		return 0;
	case 'a':
		o->arg_file = arg;
		return 0;
	case 'k':
		o->keep_order = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case OPTION_PROCS:
		o->procs = cmd_number(state, "--procs", arg, 1, MAX_PROCS);
		return 0;
	case OPTION_TAG:
		o->tag = true;
		return 0;
	case OPTION_GROUP:
		return 0;
	case ARGP_KEY_ARGS:
		take_command(o, state, state->argv + state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no command");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option run_options[] = {
	{ "clones", 'n', "N", 0, "use N clones (without arguments: do the command N times)", 0 },
	{ "procs", OPTION_PROCS, "K", 0,
	  "in each clone, up to K jobs at a time [its CPUs]; with -n and without arguments: do "
	  "the command N x K times", 0 },
	{ "arg-file", 'a', "FILE", 0, "each line of FILE (`-': standard input) is an argument", 0 },
	{ "tag", OPTION_TAG, NULL, 0, "put the job's argument or number before each line", 0 },
	{ "keep-order", 'k', NULL, 0, "print in the order of the jobs, not as they end", 0 },
	{ "group", OPTION_GROUP, NULL, 0, "print each job's output whole (always so)", 0 },
	{ "quiet", 'q', NULL, 0, "no progress on the terminal", 0 },
	{ 0 }
};
static const struct argp_child run_children[] = { { &cmd_hints_argp, 0, NULL, 0 }, { 0 } };
static const struct argp run_argp = {
	.options = run_options,
	.parser = parse_run,
	.children = run_children,
	.args_doc = "[--] COMMAND [WORD...] [::: ARGUMENT...]",
	.doc = "Run COMMAND in clones of this VM, once for each argument, and bring output and "
	       "exit status home.\v"
	       "In COMMAND's words {} becomes the job's argument (without arguments: its "
	       "number), {#} its number from 1, {n} the number of jobs, {%} the clone's id. "
	       "Without {} an argument is put last. SF_ID, SF_COUNT, SF_ADDRESS and SF_JOB are "
	       "in the environment; standard input is empty. Where fewer clones than jobs can "
	       "be had, each does several, in turn.\n\n"
	       "  sf run -n 32 -- search --part {} --of {n} big.index\n"
	       "  sf run -n 8 -- gzip -9 ::: *.fa\n\n"
	       "Exit status: 0, or how many jobs failed (101: more than 100); 255 an error of "
	       "sf run itself; 130 ended by Ctrl-C, as 128 + signal for others. The clones are "
	       "ended then.",
};

static const char *const how_lost[] = {
	[SF_STATE_STARTING] = "did not end", [SF_STATE_RUNNING] = "did not end",
	[SF_STATE_EXITED] = "exited",	     [SF_STATE_KILLED] = "was killed",
	[SF_STATE_LOST] = "was lost",	     [SF_STATE_FAILED] = "never ran",
};
_Static_assert(ARRAY_SIZE(how_lost) == SF_STATE_FAILED + 1, "words for every state");

/* Says what became of a clone that did not bring its result. */
static void tell_lost(unsigned clone, const struct sf_status *status)
{
	progress_clear();
	if (status->state == SF_STATE_EXITED)
		cmd_complain("clone %u on %s exited with status %d and without its output", clone,
			     status->host, status->status);
	else if (!interrupted)
		cmd_complain("clone %u%s%s %s: %s", clone, status->host[0] ? " on " : "",
			     status->host,
			     how_lost[status->state], status->reason);
}

/* Takes what a clone that ended has left. */
static void collect(struct output *output, const struct jobs *jobs, int ticket, unsigned clone,
		    unsigned clones)
{
	struct sf_status status;
	void *data = NULL;
	size_t len;

	if (sf_status_ticket(ticket, clone, &status))
		cmd_error("run");
	else if (status.state != SF_STATE_EXITED || !(data = sf_result_ticket(ticket, clone, &len)))
		tell_lost(clone, &status);
	if (data)
		output_take(output, data, len);
	for (unsigned job = clone; job <= jobs->count; job += clones)
		output_give_up(output, job);
}

static void show_progress(const struct output *output, unsigned jobs, unsigned running,
			  time_t start)
{
	progress_show("sf run: %u of %u jobs done, %u failed; %u clones running, %llds",
		      output_done(output), jobs, output_failed(output), running,
		      (long long)(time(NULL) - start));
}

/* Follows the clones until all have ended. Return: 0, or EXIT_RUN_ERROR. */
static int follow(struct output *output, const struct jobs *jobs, int ticket, unsigned clones)
{
	unsigned running = clones;
	time_t start = time(NULL);
	bool killed = false;

	for (;;) {
		int id;

		show_progress(output, jobs->count, running, start);
		id = sf_wait_any(ticket, TICK_MS);
		if (!id)
			break;
		if (id > 0) {
			running--;
			collect(output, jobs, ticket, (unsigned)id, clones);
		} else if (errno != EINTR && errno != ETIMEDOUT) {
			progress_clear();
			cmd_error("run");
			return EXIT_RUN_ERROR;
		}
		if (interrupted && !killed) {
			progress_clear();
			if (sf_kill_ticket(ticket))
				cmd_error("run");
			killed = true;
			catch_signals(false); /* the next one ends this process at once */
		}
	}
	progress_clear();
	/* clones that are not even listed did nothing */
	for (unsigned job = 1; job <= jobs->count; job++)
		output_give_up(output, job);
	return EXIT_SUCCESS;
}

/* In the parent, from the clone on. Return: the exit status. */
static int see_home(const struct run_options *o, int ticket, unsigned clones)
{
	struct output *output = output_create(&o->jobs, o->keep_order, o->tag);
	unsigned failed;
	int status;

	if (!output) {
		sf_kill_ticket(ticket);
		cmd_complain("no memory for the output");
		return EXIT_RUN_ERROR;
	}
	status = follow(output, &o->jobs, ticket, clones);
	failed = output_failed(output);
	output_destroy(output);
	sf_ticket_free(ticket);
	if (interrupted)
		return 128 + interrupted;
	if (status)
		return status;
	return failed > MAX_FAILED_STATUS ? MAX_FAILED_STATUS + 1 : (int)failed;
}

static int run(const struct run_options *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned procs = o->procs ? o->procs : cpus > 0 ? (unsigned)cpus : 1;
	/* without a word about either, a clone for each job */
	unsigned most = o->procs ? (o->jobs.count + procs - 1) / procs : o->jobs.count;
	unsigned n = o->n && o->n < o->jobs.count ? o->n : most;
	int ticket, granted, made, id;

	if (n > 1024)
		n = 1024;
	ticket = sf_request_ticket(n, &o->hints);
	granted = ticket < 0 ? -1 : sf_ticket_granted(ticket);
	if (granted < 0)
		return cmd_error("run"), EXIT_RUN_ERROR;
	if ((unsigned)granted < n)
		cmd_complain("%d clones instead of %u: some do several jobs", granted, n);
	fflush(NULL); /* what is still in a buffer would be printed by every clone too */
	catch_signals(true);
	id = sf_clone_ticket(ticket);
	made = id < 0 ? -1 : sf_count();
	if (id > 0) {
		catch_signals(false);
		work_in_clone(&o->jobs, (unsigned)id, made > id ? (unsigned)made : (unsigned)id,
			      procs);
	}
	if (made < 1) {
		cmd_error("run");
		sf_ticket_free(ticket);
		return EXIT_RUN_ERROR;
	}
	return see_home(o, ticket, (unsigned)made);
}

int cmd_run(int argc, char **argv)
{
	struct run_options o = { .hints = SF_HINTS_INIT };
	int status = EXIT_SUCCESS;

	argp_parse(&run_argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	progress_init(o.quiet);
	if (o.jobs.count)
		status = run(&o);
	jobs_fini(&o.jobs);
	return status;
}
