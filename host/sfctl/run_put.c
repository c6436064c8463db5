/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl run --put: which files, and their way into the guest. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/run.h"
#include "host/sfctl/text.h"
#include "proto/agent-port.h"

int put_list_file(struct put_list *list, const char *from, const char *to, mode_t mode)
{
	struct put_file *files = reallocarray(list->files, list->count + 1, sizeof(*files));
	struct put_file file = { .from = strdup(from), .to = strdup(to), .mode = mode & 07777 };

	if (files)
		list->files = files;
	if (!files || !file.from || !file.to) {
		free(file.from);
		free(file.to);
		return -ENOMEM;
	}
	files[list->count++] = file;
	return 0;
}

void put_list_fini(struct put_list *list)
{
	for (unsigned i = 0; i < list->count; i++) {
		free(list->files[i].from);
		free(list->files[i].to);
	}
	free(list->files);
	free(list->library_path);
	*list = (struct put_list){ 0 };
}

/* One thing met on a walk through a folder. Return: 0 or -errno. */
static int put_entry(struct put_list *list, const FTSENT *entry, const char *root, const char *to)
{
	_cleanup_free_ char *path = NULL;

	switch (entry->fts_info) {
	case FTS_F:
		if (asprintf(&path, "%s%s", to, entry->fts_path + strlen(root)) < 0)
			return -ENOMEM;
		return put_list_file(list, entry->fts_path, path, entry->fts_statp->st_mode);
	case FTS_D:
	case FTS_DP: return 0;
	case FTS_DC: complain("%s is inside itself: left out", entry->fts_path); return 0;
	case FTS_SLNONE:
	case FTS_DEFAULT:
		complain("%s is no file and no folder: left out", entry->fts_path);
		return 0;
	default:
		complain("cannot read %s: %s", entry->fts_path, strerror(entry->fts_errno));
		return -entry->fts_errno;
	}
}

/* A folder with all in it; what symbolic links mean is copied. Return: 0 or -errno. */
static int put_folder(struct put_list *list, char *from, const char *to)
{
	char *roots[] = { from, NULL };
	FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
	FTSENT *entry;
	int error = walk ? 0 : -errno;

	while (!error && (entry = fts_read(walk)))
		error = put_entry(list, entry, from, to);
	if (walk)
		fts_close(walk);
	return error;
}

/*
 * Where FILE goes: PATH, in PATH if that ends with a slash, relative to RUN_HOME. A folder that
 * goes to the root becomes part of it: "".
 */
static char *place_of(const char *file, const char *path, bool folder)
{
	_cleanup_free_ char *copy = strdup(file);
	char *base = copy ? basename(copy) : NULL, *place = NULL;
	bool into = !path || !*path || path[strlen(path) - 1] == '/';
	bool absolute = path && *path == '/';
	int printed;

	if (folder && path && !strcmp(path, "/"))
		return strdup("");
	printed = base ? asprintf(&place, "%s%s%s%s", absolute ? "" : RUN_HOME "/",
				  path ? path : "", into ? base : "", "")
		       : -1;

	return printed < 0 ? NULL : place;
}

/* A libtool wrapper is a script about the real program. Return: that program's path, or NULL. */
static char *unwrapped(const char *file)
{
	_cleanup_free_ char *dir = strdup(file), *base = strdup(file);
	char head[256] = "", *real = NULL;
	_cleanup_fd_ int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (!dir || !base || fd < 0 || read(fd, head, sizeof(head) - 1) <= 0 ||
	    !strstr(head, "temporary wrapper script for"))
		return NULL;
	if (asprintf(&real, "%s/.libs/%s", dirname(dir), basename(base)) < 0)
		return NULL;
	if (access(real, R_OK)) {
		free(real);
		return NULL;
	}
	return real;
}

/* Splits FILE[:PATH]; a file may have a colon in its name. */
static const char *split(char *argument)
{
	char *colon = strrchr(argument, ':');

	if (!colon || !access(argument, F_OK))
		return NULL;
	*colon = 0;
	return colon + 1;
}

int put_list_add(struct put_list *list, const char *argument, char **name, char **given)
{
	_cleanup_free_ char *file = strdup(argument), *real = NULL, *place = NULL;
	const char *path = file ? split(file) : NULL;
	size_t len = file ? strlen(file) : 0;
	struct stat st;
	int error;

	while (len > 1 && file[len - 1] == '/')
		file[--len] = 0;
	if (!file || stat(file, &st)) {
		complain("cannot put %s: %s", file ? file : argument, strerror(errno));
		return -errno;
	}
	place = place_of(file, path, S_ISDIR(st.st_mode));
	if (!place)
		return -ENOMEM;
	if (S_ISDIR(st.st_mode)) {
		error = put_folder(list, file, place);
	} else if (!S_ISREG(st.st_mode)) {
		complain("cannot put %s: it is no file and no folder", file);
		error = -EINVAL;
	} else {
		real = unwrapped(file);
		error = put_list_file(list, real ? real : file, place, st.st_mode);
	}
	if (!error && given) {
		*name = steal_ptr(&file);
		*given = steal_ptr(&place);
	}
	return error;
}

/* ── Sending ── */

struct run_put {
	const struct put_list *list;
	unsigned next;
	struct link *link;
	const char *vm;
	void (*done)(void *arg, int error);
	void *arg;
	int fd;
	int64_t stream; /* -1: not known yet */
	uint64_t left;	/* bytes of the file not sent */
	size_t window;
};

static void put_next(struct run_put *put);

static void put_failed(struct run_put *put, int error, const char *why)
{
	const struct put_file *file = &put->list->files[put->next];

	complain("cannot put %s into the VM as %s: %s", file->from, file->to, why);
	put->done(put->arg, error);
}

static void send_data(struct run_put *put, const void *bytes, size_t len)
{
	link_send(put->link,
		  json_pack("{s:s, s:I, s:i}", "op", "data", "stream", (json_int_t)put->stream,
			    "channel", AGENT_STDIN),
		  bytes, len);
}

/* Sends what the window allows. */
static void put_send(struct run_put *put)
{
	uint8_t bytes[AGENT_MAX_DATA];

	while (put->left && put->window && put->stream >= 0) {
		size_t some = put->left < sizeof(bytes) ? (size_t)put->left : sizeof(bytes);
		ssize_t got = read(put->fd, bytes, some < put->window ? some : put->window);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			int error = got ? errno : EIO;

			send_data(put, NULL, 0); /* gives it up */
			put_failed(put, -error, got ? strerror(error) : "it became shorter");
			return;
		}
		send_data(put, bytes, (size_t)got);
		put->left -= (size_t)got;
		put->window -= (size_t)got;
	}
}

static void on_stream(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	struct run_put *put = arg;

	(void)bytes;
	(void)len;
	if (error == -ECONNRESET)
		return; /* the link's end is told to its owner */
	if (error) {
		put_failed(put, error, why);
		return;
	}
	put->stream = json_integer_value(json_object_get(msg, "stream"));
	put_send(put);
}

/* Asks for the next file's stream. */
static void put_next(struct run_put *put)
{
	const struct put_file *file = &put->list->files[put->next];
	struct stat st;
	json_t *request;

	if (put->next == put->list->count) {
		put->done(put->arg, 0);
		return;
	}
	put->fd = open(file->from, O_RDONLY | O_CLOEXEC);
	if (put->fd < 0 || fstat(put->fd, &st)) {
		put_failed(put, -errno, strerror(errno));
		return;
	}
	put->left = (uint64_t)st.st_size;
	put->stream = -1;
	put->window = AGENT_WINDOW;
	request =
		json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "put", "vm", put->vm, "path", file->to,
			  "mode", (json_int_t)file->mode, "length", (json_int_t)put->left);
	if (!request)
		put_failed(put, -EINVAL, "its name is not UTF-8");
	else
		link_call(put->link, request, NULL, 0, on_stream, put);
}

struct run_put *run_put_new(const struct put_list *list, struct link *link, const char *vm,
			    void (*done)(void *arg, int error), void *arg)
{
	struct run_put *put = calloc(1, sizeof(*put));

	if (!put)
		return NULL;
	*put = (struct run_put){ .list = list,
				 .link = link,
				 .vm = vm,
				 .done = done,
				 .arg = arg,
				 .fd = -1,
				 .stream = -1 };
	return put;
}

void run_put_start(struct run_put *put)
{
	put_next(put);
}

void run_put_free(struct run_put *put)
{
	if (!put)
		return;
	cleanup_close(&put->fd);
	free(put);
}

void run_put_credit(struct run_put *put, int64_t stream, size_t bytes)
{
	if (!put || stream != put->stream)
		return;
	put->window += bytes;
	put_send(put);
}

void run_put_stored(struct run_put *put, int64_t stream, const json_t *result)
{
	const char *error = json_string_value(result);

	if (!put || stream != put->stream)
		return;
	put->stream = -1;
	if (error) {
		put_failed(put, -link_errno_number(error), strerror(link_errno_number(error)));
		return;
	}
	cleanup_close(&put->fd);
	put->fd = -1;
	put->next++;
	put_next(put);
}
