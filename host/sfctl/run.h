/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run, in its parts: options (run_options.c), the steps from boot to the VM's end (run.c),
 * the files that go in (run_put.c, run_libs.c), this terminal (run_io.c) and what is told of clones
 * (run_progress.c).
 */
#ifndef HOST_SFCTL_RUN_H
#define HOST_SFCTL_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/link.h"
#include "host/sfctl/forward.h"

#define RUN_HOME "/root" /* where files and the command are, if nothing else is said */
#define RUN_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:."

/* A file to be copied into the guest. */
struct put_file {
	char *from, *to;
	mode_t mode;
};

struct put_list {
	struct put_file *files;
	unsigned count;
	char *library_path; /* folders of libraries that the guest's loader does not search; or NULL
			     */
};

/*
 * Adds FILE or FILE:PATH, a folder with all in it. Return: 0 or -errno after a complaint. If
 * `given` is not NULL it gets FILE's place in the guest (the caller's), and *name FILE as it was
 * written.
 */
int put_list_add(struct put_list *list, const char *argument, char **name, char **given);
void put_list_fini(struct put_list *list);

/*
 * Adds the shared libraries that programs in the list need and the guest does not have, whose image
 * is in `guest_dir`, or is `initrd` if that is not NULL. Return: 0 or -errno after a complaint.
 */
int put_list_libraries(struct put_list *list, const char *guest_dir, const char *initrd);

/* Adds one file. Return: 0 or -ENOMEM. */
int put_list_file(struct put_list *list, const char *from, const char *to, mode_t mode);

struct run_options {
	const char *cluster;
	const char *host; /* where to boot; NULL: the first host here */
	uint64_t mem_bytes;
	unsigned cpus;
	bool ipv6;
	const char *name, *append;
	char *kernel, *initrd; /* absolute */
	json_t *images;	       /* absolute */
	bool no_agent;	       /* there is no command: its console is shown */
	const char *json_file;
	bool quiet, progress, tty, no_stdin;
	struct put_list puts;
	struct publish_list publish;
	json_t *env;
	json_t *argv;
};

/* Reads the command line; ends the program if it makes no sense. Return: 0 or -errno after a
 * complaint. */
int run_options_parse(struct run_options *options, const char *cluster, int argc, char **argv);
void run_options_fini(struct run_options *options);

struct event_base;
struct run_io;
struct run_put;
struct run_progress;

/* This terminal and the command's stream. */

struct run_io_handler {
	void (*signal)(void *arg, int signal); /* SIGINT, SIGTERM, SIGHUP came */
	void (*drained)(void *arg);	       /* all output is written */
	void *arg;
};

struct run_io *run_io_new(struct event_base *base, const struct run_options *options,
			  const struct run_io_handler *handler);
void run_io_free(struct run_io *io);

/* What the exec request says of the terminal: an object, or null. */
json_t *run_io_tty(const struct run_io *io);

/* The command runs: forwards input and the terminal's size from now on. */
void run_io_start(struct run_io *io, struct link *link, int64_t stream);

/* Output came: of clone `clone`, or of the command itself (0). */
void run_io_data(struct run_io *io, int channel, int clone, const uint8_t *bytes, size_t len);

/* The guest takes more input. */
void run_io_credit(struct run_io *io, size_t bytes);

/* The command ended: no more input. `discard`: output that waits is not wanted any more. */
void run_io_stop(struct run_io *io, bool discard);

/* The link is not there any more. */
void run_io_unlink(struct run_io *io);

/* True if output waits. */
bool run_io_busy(const struct run_io *io);

/*
 * Sends files, one after the other. `done` is told 0 or -errno after a complaint. To be freed after
 * the link was closed.
 */
struct run_put *run_put_new(const struct put_list *list, struct link *link, const char *vm,
			    void (*done)(void *arg, int error), void *arg);
void run_put_start(struct run_put *put);
void run_put_free(struct run_put *put);
void run_put_credit(struct run_put *put, int64_t stream, size_t bytes);
void run_put_stored(struct run_put *put, int64_t stream, const json_t *result);

/* Tells of boots and clones, a line each, if that is wanted. */
struct run_progress *run_progress_new(const struct run_options *options, struct event_base *base);
void run_progress_free(struct run_progress *progress);
/* Nothing is waited for any more. NULL is fine. */
void run_progress_settle(struct run_progress *progress);
void run_progress_event(struct run_progress *progress, const json_t *event);
void run_progress_line(struct run_progress *progress, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
