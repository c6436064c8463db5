/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Printing what jobs printed: each job's output whole, standard output and error where they belong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsf/cmd/run.h"

enum job_state { JOB_OPEN, JOB_ENDED, JOB_GIVEN_UP };

struct job_output {
	enum job_state state;
	int status; /* when ended */
	bool printed;
	struct result *result; /* that has its records; NULL: none came */
	size_t first;	       /* offset of its first record there */
};

/* A clone's result, kept until all of its jobs are printed. */
struct result {
	void *data;
	size_t len;
	struct result *next;
};

struct output {
	const struct jobs *jobs;
	bool keep_order, tag;
	unsigned next; /* with keep_order: the job to be printed next */
	unsigned done, failed;
	struct result *results;
	struct job_output job[]; /* [number - 1] */
};

struct output *output_create(const struct jobs *jobs, bool keep_order, bool tag)
{
	struct output *o = calloc(1, sizeof(*o) + jobs->count * sizeof(o->job[0]));

	if (!o)
		return NULL;
	o->jobs = jobs;
	o->keep_order = keep_order;
	o->tag = tag;
	o->next = 1;
	return o;
}

void output_destroy(struct output *o)
{
	while (o && o->results) {
		struct result *result = o->results;

		o->results = result->next;
		free(result->data);
		free(result);
	}
	free(o);
}

unsigned output_done(const struct output *o)
{
	return o->done;
}

unsigned output_failed(const struct output *o)
{
	return o->failed;
}

/* Prints bytes with the job's name before each line. `fresh`: is at the beginning of a line. */
static void print_tagged(FILE *to, const char *name, const char *bytes, size_t len, bool *fresh)
{
	while (len) {
		const char *end = memchr(bytes, '\n', len);
		size_t line = end ? (size_t)(end - bytes) + 1 : len;

		if (*fresh)
			fprintf(to, "%s\t", name);
		fwrite(bytes, 1, line, to);
		*fresh = end;
		bytes += line;
		len -= line;
	}
}

static void print_job(struct output *o, unsigned job)
{
	struct job_output *j = &o->job[job - 1];
	bool fresh[] = { [RECORD_STDOUT] = true, [RECORD_STDERR] = true };
	char number[12];
	const char *name = job_name(o->jobs, job, number);
	size_t offset = j->first;
	struct record record;
	const void *bytes;

	j->printed = true;
	while (j->result &&
	       (bytes = record_next(j->result->data, j->result->len, &offset, &record))) {
		FILE *to = record.kind == RECORD_STDERR ? stderr : stdout;

		if (record.job != job || record.kind == RECORD_END)
			break;
		/* in the order of the job's doing, where both are one terminal or file */
		fflush(to == stdout ? stderr : stdout);
		if (o->tag)
			print_tagged(to, name, bytes, record.length, &fresh[record.kind]);
		else
			fwrite(bytes, 1, record.length, to);
	}
	if (o->tag && !fresh[RECORD_STDOUT])
		putchar('\n');
	if (o->tag && !fresh[RECORD_STDERR])
		fputc('\n', stderr);
	fflush(stdout);
}

/* Prints every job that may be printed by now. */
static void print_ready(struct output *o)
{
	progress_clear();
	for (unsigned job = o->next; job <= o->jobs->count; job++) {
		struct job_output *j = &o->job[job - 1];

		if (j->state == JOB_OPEN && o->keep_order)
			break;
		if (j->state != JOB_OPEN && !j->printed)
			print_job(o, job);
		if (j->printed && job == o->next)
			o->next++;
	}
}

static void job_ended(struct output *o, struct job_output *j, enum job_state state, int status)
{
	j->state = state;
	j->status = status;
	o->done++;
	o->failed += state == JOB_GIVEN_UP || status;
}

void output_take(struct output *o, void *data, size_t len)
{
	struct result *result = calloc(1, sizeof(*result));
	size_t offset = 0, at = 0;
	struct record record;
	const void *bytes;

	if (!result) {
		free(data);
		return;
	}
	*result = (struct result){ .data = data, .len = len, .next = o->results };
	o->results = result;
	for (; (bytes = record_next(data, len, &offset, &record)); at = offset) {
		struct job_output *j;

		if (!record.job || record.job > o->jobs->count)
			break;
		j = &o->job[record.job - 1];
		if (j->state != JOB_OPEN)
			continue;
		if (!j->result) {
			j->result = result;
			j->first = at;
		}
		if (record.kind == RECORD_END)
			job_ended(o, j, JOB_ENDED, ((const struct record_end *)bytes)->status);
	}
	print_ready(o);
}

void output_give_up(struct output *o, unsigned job)
{
	struct job_output *j = &o->job[job - 1];

	if (j->state == JOB_OPEN)
		job_ended(o, j, JOB_GIVEN_UP, 0);
	print_ready(o);
}
