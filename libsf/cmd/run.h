/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of `sf run`: jobs are made into commands (jobs.c), done in clones (work.c), whose
 * output comes home as records (record.c) and is printed (output.c).
 */
#ifndef LIBSF_CMD_RUN_H
#define LIBSF_CMD_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "libsf/sf.h"

/* ---- jobs.c ---- */

/* What is to be done: the command, once for every argument, or `count` times. */
struct jobs {
	char **command;	  /* NULL-ended; borrowed */
	unsigned count;	  /* jobs are numbered from 1 */
	char **arguments; /* count of them, or NULL: none */
};

/* A word for a job's tag: its argument, or its number; written to `number` if need be. */
const char *job_name(const struct jobs *jobs, unsigned job, char number[12]);

/*
 * The words of a job's command, with {} {#} {%} {n} replaced, for the clone `clone`. Return:
 * NULL-ended, the caller's to free() with one job_words_free(), or NULL.
 */
char **job_words(const struct jobs *jobs, unsigned job, unsigned clone);
void job_words_free(char **words);

/* Adds each line of a file (`-`: standard input) as an argument. Return: 0 or -errno. */
int jobs_read_arguments(struct jobs *jobs, const char *file);

/* Adds one argument, which is copied. Return: 0 or -errno. */
int jobs_add_argument(struct jobs *jobs, const char *argument);

void jobs_fini(struct jobs *jobs);

/* ---- record.c: a clone's result ---- */

/*
 * The result is a sequence of records, each a header and `length` bytes. It is written and read by
 * the same program in copies of one machine: host byte order.
 */
enum record_kind {
	RECORD_STDOUT = 1, /* bytes the job printed */
	RECORD_STDERR = 2,
	RECORD_END = 3, /* struct record_end; no more of this job */
};

struct record {
	uint32_t job;
	uint32_t kind;	 /* enum record_kind */
	uint32_t length; /* bytes that follow */
};

struct record_end {
	int32_t status; /* as in $? of a shell */
	uint32_t reserved;
};

/* Appends a record. Return: 0 or -errno. */
int record_write(int fd, uint32_t job, enum record_kind kind, const void *bytes, size_t len);

/*
 * Reads the next record at *offset of `len` bytes and moves *offset behind it. Return: its bytes,
 * borrowed; NULL at the end, or where no whole valid record is.
 */
const void *record_next(const void *data, size_t len, size_t *offset, struct record *record);

/* ---- work.c ---- */

/*
 * In clone `clone` of `clones`: does its share of the jobs in up to `procs` processes at a time, gives
 * the records home, ends the VM.
 */
_Noreturn void work_in_clone(const struct jobs *jobs, unsigned clone, unsigned clones,
			     unsigned procs);

/* Return: the clone that does a job. */
static inline unsigned work_clone_of(unsigned job, unsigned clones)
{
	return (job - 1) % clones + 1;
}

/* ---- output.c ---- */

struct output;

/*
 * Prints jobs' output, each whole, as they come or in order; `tag`: each line after the job's name.
 */
struct output *output_create(const struct jobs *jobs, bool keep_order, bool tag);
void output_destroy(struct output *output);

/* Takes over a clone's result, and prints what may be printed by now. */
void output_take(struct output *output, void *result, size_t len);

/* A job that will bring nothing (more): counts as failed unless it has ended. */
void output_give_up(struct output *output, unsigned job);

unsigned output_done(const struct output *output); /* jobs that ended, well or not */
unsigned output_failed(const struct output *output);

/* ---- progress.c ---- */

/* One line on the terminal, rewritten in place; nothing where standard error is no terminal. */
void progress_init(bool quiet);
void progress_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_clear(void);

#endif
