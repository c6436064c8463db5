/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files over the agent's port. A file that comes in is written under a temporary name beside its
 * own and renamed when it is whole, so nobody ever sees a part of it.
 */
#define _GNU_SOURCE
#include "agent/transfer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define CREDIT_STEP (AGENT_WINDOW / 4)	/* room is given back in pieces of at least this */
#define TEMP_SUFFIX ".XXXXXX"

struct transfer_in {
	struct transfer_in *next;
	uint32_t number;
	int fd;
	mode_t mode;
	uint64_t left_bytes;
	uint32_t taken_bytes;	/* room not given back yet */
	char *path;
	char *temp;
};

struct transfer_out {
	struct transfer_out *next;
	uint32_t number;
	int fd;
	uint64_t length_bytes, sent_bytes;
	uint32_t credit_bytes;
	bool cut;		/* the file was shorter than promised, and sfd knows */
	void (*done)(void *arg, int error);
	void *arg;
};

/* -- in ---------------------------------------------------------------------------------- */

static struct transfer_in *find_in(const struct transfers *transfers, uint32_t number)
{
	struct transfer_in *in = transfers->in;

	while (in && in->number != number)
		in = in->next;
	return in;
}

/* Ends an incoming file: it takes its name if `error` is 0. `tell`: sfd waits for that. */
static void in_end(struct transfers *transfers, struct transfer_in *in, int error, bool tell)
{
	struct transfer_in **at = &transfers->in;

	while (*at != in)
		at = &(*at)->next;
	*at = in->next;
	transfers->in_count--;
	if (!error && fchmod(in->fd, in->mode))
		error = errno;
	if (in->fd >= 0 && close(in->fd) && !error)
		error = errno;
	if (!error && rename(in->temp, in->path))
		error = errno;
	if (error && in->temp)
		unlink(in->temp);
	if (tell) {
		struct agent_status status = { .value = error };

		port_send(transfers->port, AGENT_STORED, 0, in->number, &status, sizeof(status));
	}
	free(in->path);
	free(in->temp);
	free(in);
}

/* Makes the folders above a path. Return: 0 or an errno. */
static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int failed;

		*slash = 0;
		failed = mkdir(path, 0755) && errno != EEXIST;
		*slash = '/';
		if (failed)
			return errno;
	}
	return 0;
}

/* Opens the temporary file. Return: 0 or an errno. */
static int in_open(struct transfer_in *in)
{
	int error = make_parents(in->path);

	if (error)
		return error;
	if (asprintf(&in->temp, "%s" TEMP_SUFFIX, in->path) < 0) {
		in->temp = NULL;
		return ENOMEM;
	}
	in->fd = mkostemp(in->temp, O_CLOEXEC);
	if (in->fd >= 0)
		return 0;
	error = errno;
	free(steal_ptr(&in->temp));
	return error;
}

/* Begins an incoming file; takes `path` over. Return: 0 or -errno: broken host. */
static int in_begin(struct transfers *transfers, uint32_t number, char *path, mode_t mode,
		    uint64_t length)
{
	struct transfer_in *in = calloc(1, sizeof(*in));
	int error;

	if (!in || !path || transfers->in_count >= AGENT_MAX_STREAMS) {
		free(path);
		free(in);
		return in && path ? -EPROTO : -ENOMEM;
	}
	*in = (struct transfer_in){ .next = transfers->in, .number = number, .fd = -1, .path = path,
				    .mode = mode & 07777, .left_bytes = length };
	transfers->in = in;
	transfers->in_count++;
	error = path[0] == '/' ? in_open(in) : EINVAL;
	if (error || !length)
		in_end(transfers, in, error, true);
	return 0;
}

bool transfer_put(struct transfers *transfers, uint32_t stream, const uint8_t *payload, size_t len,
		  int *error)
{
	const struct agent_put *put = (const struct agent_put *)payload;
	const char *path = (const char *)(put + 1);
	size_t path_len = len - sizeof(*put);

	if (!path_len || strnlen(path, path_len) != path_len - 1)
		*error = -EPROTO;
	else
		*error = in_begin(transfers, stream, strdup(path), put->mode, put->length);
	return true;
}

bool transfer_result(struct transfers *transfers, uint32_t stream,
		     const struct agent_result *result, int *error)
{
	char *path;

	if (result->length > AGENT_MAX_RESULT || !result->id) {
		*error = -EPROTO;
		return true;
	}
	if (asprintf(&path, "%s/%u.%u", transfers->result_dir, result->ticket, result->id) < 0)
		path = NULL;
	*error = in_begin(transfers, stream, path, 0644, result->length);
	return true;
}

int transfers_forget(const struct transfers *transfers, uint32_t ticket)
{
	DIR *dir = opendir(transfers->result_dir);
	const struct dirent *entry;
	char prefix[16];
	int error = 0;

	if (!dir)
		return -errno;
	snprintf(prefix, sizeof(prefix), "%u.", ticket);
	while ((entry = readdir(dir))) {
		if (!strncmp(entry->d_name, prefix, strlen(prefix)) &&
		    unlinkat(dirfd(dir), entry->d_name, 0))
			error = -errno;
	}
	closedir(dir);
	return error;
}

static void in_data(struct transfers *transfers, struct transfer_in *in, const uint8_t *data,
		    size_t len)
{
	int error = -io_write_full(in->fd, data, len);

	in->left_bytes -= len;
	in->taken_bytes += (uint32_t)len;
	if (error || !in->left_bytes) {
		in_end(transfers, in, error, true);
	} else if (in->taken_bytes >= CREDIT_STEP) {
		port_credit(transfers->port, in->number, in->taken_bytes);
		in->taken_bytes = 0;
	}
}

bool transfer_data(struct transfers *transfers, uint32_t stream, const uint8_t *data, size_t len,
		   int *error)
{
	struct transfer_in *in = find_in(transfers, stream);

	if (!in)
		return false;
	*error = len > in->left_bytes ? -EPROTO : 0;
	if (!len)
		in_end(transfers, in, ECANCELED, true);
	else if (!*error)
		in_data(transfers, in, data, len);
	return true;
}

/* -- out --------------------------------------------------------------------------------- */

/* The first of the results to send, if it is this stream and under way. */
static struct transfer_out *find_out(const struct transfers *transfers, uint32_t number)
{
	struct transfer_out *out = transfers->out;

	return out && out->number == number ? out : NULL;
}

static void out_pump(struct transfers *transfers)
{
	struct transfer_out *out = transfers->out;
	struct port *port = transfers->port;

	while (out && !out->cut && out->sent_bytes < out->length_bytes && out->credit_bytes) {
		uint64_t limit = out->length_bytes - out->sent_bytes;
		size_t room;
		uint8_t *data = port_data(port, &room);
		ssize_t got;

		if (!data)
			return;
		if (limit > out->credit_bytes)
			limit = out->credit_bytes;
		if (limit > room)
			limit = room;
		got = pread(out->fd, data, (size_t)limit, (off_t)out->sent_bytes);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			out->cut = true;
			got = 0;
		}
		out->sent_bytes += (uint64_t)got;
		out->credit_bytes -= (uint32_t)got;
		port_data_send(port, AGENT_STDIN, out->number, (uint32_t)got);
	}
}

static void out_start(struct transfers *transfers)
{
	struct transfer_out *out = transfers->out;
	struct agent_result result = { .length = out ? out->length_bytes : 0 };

	if (!out)
		return;
	transfers->last_number = (transfers->last_number + 1) % AGENT_STREAM_OF_AGENT;
	out->number = transfers->last_number | AGENT_STREAM_OF_AGENT;
	port_send(transfers->port, AGENT_RESULT, 0, out->number, &result, sizeof(result));
	out_pump(transfers);
}

static void out_end(struct transfers *transfers, int error)
{
	struct transfer_out *out = transfers->out;

	transfers->out = out->next;
	close(out->fd);
	out->done(out->arg, error);
	free(out);
}

int transfer_send_result(struct transfers *transfers, int fd, uint64_t length,
			 void (*done)(void *arg, int error), void *arg)
{
	struct transfer_out **at = &transfers->out;
	struct transfer_out *out;
	struct stat st;

	if (length > AGENT_MAX_RESULT)
		return -EFBIG;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < length)
		return -EINVAL;
	out = calloc(1, sizeof(*out));
	if (!out)
		return -ENOMEM;
	*out = (struct transfer_out){ .fd = fd, .length_bytes = length, .done = done, .arg = arg,
				      .credit_bytes = AGENT_WINDOW };
	while (*at)
		at = &(*at)->next;
	*at = out;
	if (transfers->out == out)
		out_start(transfers);
	return 0;
}

bool transfer_credit(struct transfers *transfers, uint32_t stream, uint32_t bytes, int *error)
{
	struct transfer_out *out = find_out(transfers, stream);

	if (!out)
		return false;
	*error = bytes > AGENT_WINDOW - out->credit_bytes ? -EPROTO : 0;
	if (*error)
		return true;
	out->credit_bytes += bytes;
	out_pump(transfers);
	return true;
}

bool transfer_stored(struct transfers *transfers, uint32_t stream, int error)
{
	if (!find_out(transfers, stream))
		return false;
	out_end(transfers, error);
	out_start(transfers);
	return true;
}

bool transfer_has(const struct transfers *transfers, uint32_t stream)
{
	return find_in(transfers, stream) || find_out(transfers, stream);
}

void transfers_drained(struct transfers *transfers)
{
	out_pump(transfers);
}

void transfers_become_clone(struct transfers *transfers)
{
	while (transfers->in)
		in_end(transfers, transfers->in, ECANCELED, false);
	while (transfers->out)
		out_end(transfers, ECANCELED);
}

void transfers_init(struct transfers *transfers, struct port *port, const char *result_dir)
{
	*transfers = (struct transfers){ .port = port, .result_dir = result_dir };
}
