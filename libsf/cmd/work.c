/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `sf run` in a clone: doing jobs, one after another in each process, and keeping what they print. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/cmd/run.h"
#include "proto/agent-port.h"

#define NOT_FOUND   127 /* exit statuses of a shell */
#define NOT_RUN	    126
#define NO_RESULT   125	  /* of a clone: what it did could not be sent */
#define CUT_RESERVE 65536 /* bytes of a result kept free for the ends of jobs */

struct capture {
	int memory; /* the records so far */
	uint64_t limit; /* bytes there may be */
	uint64_t bytes;
	uint32_t job;
	bool cut; /* the job printed more than there is room for */
};

static void keep(struct capture *c, enum record_kind kind, const void *bytes, size_t len)
{
	/* a clone may have many jobs: each has its end sent, and what does not fit is cut */
	if (c->bytes + len + sizeof(struct record) > c->limit - CUT_RESERVE ||
	    record_write(c->memory, c->job, kind, bytes, len))
		c->cut = true;
	else
		c->bytes += len + sizeof(struct record);
}

/* Passes on what the job prints until both pipes are at their end. */
static void drain(struct capture *c, int out, int err)
{
	struct pollfd pipes[] = { { .fd = out, .events = POLLIN },
				  { .fd = err, .events = POLLIN } };
	char chunk[32768];

	while (pipes[0].fd >= 0 || pipes[1].fd >= 0) {
		if (poll(pipes, ARRAY_SIZE(pipes), -1) < 0)
			continue;
		for (unsigned i = 0; i < ARRAY_SIZE(pipes); i++) {
			ssize_t got;

			if (pipes[i].fd < 0 || !pipes[i].revents)
				continue;
			got = read(pipes[i].fd, chunk, sizeof(chunk));
			if (got > 0)
				keep(c, i ? RECORD_STDERR : RECORD_STDOUT, chunk, (size_t)got);
			else if (!got || errno != EINTR)
				pipes[i].fd = -1;
		}
	}
}

/* In the child process: becomes the job. */
static _Noreturn void exec_job(char **words, int out, int err)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(err, STDERR_FILENO) < 0)
		_exit(NOT_RUN);
	execvp(words[0], words);
	dprintf(STDERR_FILENO, "sf run: %s: %s\n", words[0], strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : NOT_RUN);
}

/* Return: as in $? of a shell. */
static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return NOT_RUN;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs a job's words and keeps what they print. Return: as in $? of a shell. */
static int run_words(struct capture *c, char **words)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, status = NOT_RUN;
	pid_t pid = -1;

	if (!pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC))
		pid = fork();
	if (!pid)
		exec_job(words, out[1], err[1]);
	cleanup_close(&out[1]);
	cleanup_close(&err[1]);
	if (pid > 0) {
		drain(c, out[0], err[0]);
		status = wait_for(pid);
	}
	cleanup_close(&out[0]);
	cleanup_close(&err[0]);
	return status;
}

/* Does one job. Return: as in $? of a shell. */
static int do_job(struct capture *c, const struct jobs *jobs, unsigned job, unsigned clone)
{
	static const char cut_note[] = "sf run: the output was cut: there is no room for more\n";
	char **words = job_words(jobs, job, clone);
	struct record_end end = { .status = NOT_RUN };
	char number[12];

	c->job = job;
	c->cut = false;
	snprintf(number, sizeof(number), "%u", job);
	setenv("SF_JOB", number, 1);
	if (words)
		end.status = run_words(c, words);
	job_words_free(words);
	if (c->cut) {
		record_write(c->memory, job, RECORD_STDERR, cut_note, sizeof(cut_note) - 1);
		end.status = end.status ? end.status : 1;
	}
	/* an end that cannot be kept is as good as a job that never ended */
	record_write(c->memory, job, RECORD_END, &end, sizeof(end));
	return end.status;
}

static void set_environment(unsigned clone, unsigned clones)
{
	char address[SF_ADDRESS_BYTES], number[12];

	snprintf(number, sizeof(number), "%u", clone);
	setenv("SF_ID", number, 1);
	snprintf(number, sizeof(number), "%u", clones);
	setenv("SF_COUNT", number, 1);
	if (!sf_address(clone, address, sizeof(address)))
		setenv("SF_ADDRESS", address, 1);
}

/* One of a clone's processes, and what it leaves. */
struct proc {
	struct capture capture;
	pid_t pid; /* 0: none */
};

/* Does every job from `first` on in steps of `step`. Return: the last status that is not 0. */
static int do_jobs(struct capture *c, const struct jobs *jobs, unsigned first, unsigned step,
		   unsigned clone)
{
	int status = 0;

	for (unsigned job = first; job <= jobs->count; job += step) {
		int job_status = do_job(c, jobs, job, clone);

		status = job_status ? job_status : status;
	}
	return status;
}

/* Has jobs done by a process of its own. */
static void proc_start(struct proc *p, const struct jobs *jobs, unsigned first, unsigned step,
		       unsigned clone)
{
	p->pid = p->capture.memory < 0 ? -1 : fork();
	if (!p->pid)
		_exit(do_jobs(&p->capture, jobs, first, step, clone));
}

/* Waits for a process and puts its records behind those of the first. Return: as do_jobs(). */
static int proc_collect(struct proc *p, struct capture *all)
{
	int status = p->pid > 0 ? wait_for(p->pid) : NOT_RUN;
	char bytes[32768];
	off_t at = 0;
	ssize_t got;

	while (p->capture.memory >= 0 &&
	       (got = pread(p->capture.memory, bytes, sizeof(bytes), at)) > 0) {
		at += got;
		if (io_write_full(all->memory, bytes, (size_t)got))
			return NOT_RUN;
	}
	cleanup_close(&p->capture.memory);
	return status;
}

/* Job j of the clone's own goes to process (j - 1) mod `procs`; the first of them is this one. */
static int do_share(struct capture *all, const struct jobs *jobs, unsigned clone, unsigned clones,
		    unsigned procs)
{
	_cleanup_free_ struct proc *others = calloc(procs, sizeof(*others));
	int status;

	if (!others)
		return NOT_RUN;
	all->limit = AGENT_MAX_RESULT / procs;
	for (unsigned i = 1; i < procs; i++) {
		others[i].capture = (struct capture){ .memory = memfd_create("sf-run", MFD_CLOEXEC),
						      .limit = all->limit };
		proc_start(&others[i], jobs, clone + i * clones, procs * clones, clone);
	}
	status = do_jobs(all, jobs, clone, procs * clones, clone);
	for (unsigned i = 1; i < procs; i++) {
		int other = proc_collect(&others[i], all);

		status = other ? other : status;
	}
	return status;
}

void work_in_clone(const struct jobs *jobs, unsigned clone, unsigned clones, unsigned procs)
{
	struct capture c = { .memory = memfd_create("sf-run", MFD_CLOEXEC) };
	unsigned own = clone <= jobs->count ? (jobs->count - clone) / clones + 1 : 1;
	int status;

	if (c.memory < 0)
		sf_exit(NO_RESULT);
	set_environment(clone, clones);
	status = do_share(&c, jobs, clone, clones, procs < own ? procs : own);
	if (sf_set_result_fd(c.memory)) {
		fprintf(stderr, "sf run: clone %u: %s\n", clone, sf_error());
		status = NO_RESULT;
	}
	sf_exit(status);
}
