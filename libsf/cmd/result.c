/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf set-result and sf result: bytes from a clone to its parent. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/cmd/cmd.h"
#include "libsf/sf.h"

struct result_options {
	unsigned id;
	int ticket;
	const char *file;
};

static error_t parse_result(int key, char *arg, struct argp_state *state)
{
	struct result_options *o = state->input;

	if (key == 't')
		o->ticket = (int)cmd_number(state, "--ticket", arg, 1, INT32_MAX);
	else if (key == ARGP_KEY_ARG && !o->id)
		o->id = cmd_number(state, "ID", arg, 1, 1024);
	else if (key == ARGP_KEY_ARG && !o->file)
		o->file = arg;
	else if (key == ARGP_KEY_ARG || (key == ARGP_KEY_END && !o->id))
		argp_usage(state);
	else if (key != ARGP_KEY_END)
		return ARGP_ERR_UNKNOWN;
	return 0;
}

/* Writes bytes to a file, or to standard output. Return: 0 or -errno. */
static int write_out(const char *file, const void *data, size_t len)
{
	_cleanup_fd_ int fd = -1;

	if (!file)
		return io_write_full(STDOUT_FILENO, data, len);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return fd < 0 ? -errno : io_write_full(fd, data, len);
}

int cmd_result(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "ticket", 't', "TICKET", 0, "of a clone of TICKET, not the last operation's", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_result,
		.args_doc = "ID [FILE]",
		.doc = "Print what clone ID gave to its parent, or write it to FILE.",
	};
	struct result_options o = { 0 };
	_cleanup_free_ void *data = NULL;
	size_t len;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (!o.ticket && (o.ticket = sf_last_ticket()) < 0)
		return cmd_error("result");
	data = sf_result_ticket(o.ticket, o.id, &len);
	if (!data)
		return cmd_error("result");
	rc = write_out(o.file, data, len);
	if (rc)
		return cmd_complain("%s: %s", o.file ? o.file : "standard output", strerror(-rc));
	return EXIT_SUCCESS;
}

/* Copies all of a stream to a memory file. Return: it, or -errno. */
static int in_memory(int from)
{
	_cleanup_fd_ int fd = memfd_create("sf-result", MFD_CLOEXEC);
	char chunk[32768];
	ssize_t got;

	if (fd < 0)
		return -errno;
	while ((got = read(from, chunk, sizeof(chunk)))) {
		int rc = got < 0 ? -errno : io_write_full(fd, chunk, (size_t)got);

		if (rc && rc != -EINTR)
			return rc;
	}
	return steal_fd(&fd);
}

static error_t parse_file(int key, char *arg, struct argp_state *state)
{
	const char **file = state->input;

	if (key == ARGP_KEY_ARG && !*file)
		*file = arg;
	else if (key == ARGP_KEY_ARG || (key == ARGP_KEY_END && !*file))
		argp_usage(state);
	else if (key != ARGP_KEY_END)
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int cmd_set_result(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_file,
		.args_doc = "FILE",
		.doc = "Give the contents of FILE (`-': standard input) to the parent as this "
		       "clone's result. Back when they are safe; a second result replaces the "
		       "first.",
	};
	_cleanup_fd_ int from = -1, memory = -1;
	const char *file = NULL;

	argp_parse(&argp, argc, argv, 0, NULL, &file);
	if (strcmp(file, "-")) {
		from = open(file, O_RDONLY | O_CLOEXEC);
		if (from < 0)
			return cmd_complain("%s: %s", file, strerror(errno));
	}
	memory = in_memory(from < 0 ? STDIN_FILENO : from);
	if (memory < 0)
		return cmd_complain("%s: %s", file, strerror(-memory));
	return sf_set_result_fd(memory) ? cmd_error("set-result") : EXIT_SUCCESS;
}
