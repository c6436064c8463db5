/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands and arguments, from MPI_Comm_spawn() through Hydra, unchanged.
 *
 * MPICH tells Hydra "execname=NAME", "arg1=VALUE" and so on, a line for each, in messages of 1023
 * bytes (PMI-1): a value cannot have a line's end in it, nor be longer than a message. A command
 * that has such values is started by way of a shell. It gets them in pieces in which the end of a
 * line is written as \n, puts them together, and becomes the command.
 *
 * A command that cannot be started ends the whole job, once Hydra has it. So it is looked up
 * before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "shim.h"

#define HEAD_BYTES  96	/* before the arguments: numbers; the program's name is not counted */
#define TAIL_BYTES  330 /* behind the arguments: numbers, and the port to the parent */
#define PIECE_BYTES 450 /* of a value: the program and its first argument share a message */

/* ---- looking up ---- */

/* Return: 0 if it is a file that may be executed, else -errno. */
static int check_file(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	if (!S_ISREG(status.st_mode))
		return -EACCES;
	return eaccess(path, X_OK) ? -errno : 0;
}

/* Return: "folder/name", or `name` if it is absolute or there is no folder. To be freed. */
static char *join(const char *folder, const char *name)
{
	char *path;

	if (*name == '/' || !folder || !*folder)
		return strdup(name);
	return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/*
 * Looks for a name without a slash in the folders of PATH, those that are relative from `folder`.
 * Return: the file, to be freed; NULL with errno: EACCES if there were only some not executable.
 */
static char *find_in_path(const char *folder, const char *name)
{
	const char *at = getenv("PATH");
	int error = ENOENT;

	if (!at)
		at = "/bin:/usr/bin";
	for (;;) {
		size_t len = strcspn(at, ":");
		_cleanup_free_ char *part = strndup(at, len), *place = NULL, *path = NULL;
		int rc;

		place = part ? join(folder, part) : NULL;
		path = place ? join(*place ? place : ".", name) : NULL;
		if (!path)
			return NULL;
		rc = check_file(path);
		if (!rc)
			return steal_ptr(&path);
		if (rc == -EACCES)
			error = EACCES;
		if (!at[len])
			break;
		at += len + 1;
	}
	errno = error;
	return NULL;
}

/* As command_find(), from `folder`. */
static char *find_from(const char *folder, const char *name)
{
	_cleanup_free_ char *path = NULL;
	int rc;

	if (!*name) {
		errno = ENOENT;
		return NULL;
	}
	if (!strchr(name, '/'))
		return find_in_path(folder, name);
	path = join(folder, name);
	if (!path)
		return NULL;
	rc = check_file(path);
	if (!rc)
		return steal_ptr(&path);
	errno = -rc;
	return NULL;
}

char *command_find(const char *name)
{
	return find_from(NULL, name);
}

static bool is_folder(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISDIR(status.st_mode);
}

/*
 * Looks `name` up from `wdir`, which is meant from the folder in which mpiexec was started. This
 * process began there, too, as a rule; so only what is found from none of the folders that it
 * may be is not there. Return: 0 or -errno; *folder_is_there, whether `wdir` is.
 */
static int look_up(const char *name, const char *wdir, bool *folder_is_there)
{
	const char *const bases[] = { shim_first_folder(), getenv("PWD"), "." };
	int error = ENOENT;

	*folder_is_there = false;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		_cleanup_free_ char *folder = NULL, *found = NULL;

		if (!bases[i])
			continue;
		folder = wdir ? join(bases[i], wdir) : strdup(bases[i]);
		if (!folder)
			return -ENOMEM;
		if (!is_folder(folder))
			continue;
		*folder_is_there = true;
		found = find_from(folder, name);
		if (found)
			return 0;
		error = errno;
	}
	return -error;
}

/* As look_up(), with a sentence. */
static int check_command(const char *name, const char *wdir, char **sentence)
{
	bool folder_is_there;
	int rc = look_up(name, wdir, &folder_is_there), len;

	if (!rc)
		return 0;
	if (wdir && !folder_is_there)
		len = asprintf(sentence, "there is no folder \"%s\" (info key wdir)", wdir);
	else
		len = asprintf(sentence, "the program \"%s\" cannot be started: %s", name,
			       strerror(-rc));
	if (len < 0)
		*sentence = NULL;
	return rc;
}

/* ---- through Hydra ---- */

/* A list of arguments that grows. */
struct arguments {
	char **list;
	size_t count, room;
};

/* Takes `text`, which may be NULL for want of memory. Return: 0 or -ENOMEM. */
static int add_argument(struct arguments *arguments, char *text)
{
	if (text && arguments->count + 1 >= arguments->room) {
		size_t room = arguments->room ? arguments->room * 2 : 16;
		char **grown = realloc(arguments->list, room * sizeof(*grown));

		if (!grown) {
			free(text);
			return -ENOMEM;
		}
		arguments->list = grown;
		arguments->room = room;
	}
	if (!text)
		return -ENOMEM;
	arguments->list[arguments->count++] = text;
	arguments->list[arguments->count] = NULL;
	return 0;
}

/*
 * Puts together what is in pieces: one that begins with "." is or begins a value, one with "+"
 * continues it. Without an end of line or a backslash in it, a piece is as it is.
 */
static const char unwrap[] =
	"n=$#;a=;s=;while [ $n -gt 0 ];do p=$1;shift;n=$((n-1));v=${p#?};"
	"case $v in *\\\\*)v=$(printf %bx \"$v\");v=${v%x};;esac;"
	"case $p in +*)a=$a$v;;*)[ \"$s\" ]&&set -- \"$@\" \"$a\";a=$v;s=1;;esac;done;"
	"set -- \"$@\" \"$a\";exec \"$@\"";

/* Return: whether Hydra takes the value as it is. */
static bool is_plain(const char *value)
{
	return strlen(value) <= PIECE_BYTES && !strchr(value, '\n');
}

/* Adds a value in pieces. Return: 0 or -ENOMEM. */
static int add_pieces(struct arguments *arguments, const char *value)
{
	char kind = '.';

	do {
		char *piece = malloc(PIECE_BYTES + 2);
		size_t len = 1;

		if (!piece)
			return -ENOMEM;
		piece[0] = kind;
		for (; *value && len < PIECE_BYTES - 1; value++) {
			if (*value == '\n' || *value == '\\')
				piece[len++] = '\\';
			piece[len++] = *value == '\n' ? 'n' : *value;
		}
		piece[len] = 0;
		if (add_argument(arguments, piece))
			return -ENOMEM;
		kind = '+';
	} while (*value);
	return 0;
}

/* Return: 0 or -ENOMEM. */
static int add_wrapped(struct command *command, struct arguments *arguments, const char *program,
		       char *const *argv)
{
	command->program = strdup("/bin/sh");
	if (!command->program || add_argument(arguments, strdup("-c")) ||
	    add_argument(arguments, strdup(unwrap)) || add_argument(arguments, strdup("sh")) ||
	    add_pieces(arguments, program))
		return -ENOMEM;
	for (size_t i = 0; argv && argv[i]; i++) {
		if (add_pieces(arguments, argv[i]))
			return -ENOMEM;
	}
	return 0;
}

/* Return: 0 or -ENOMEM. */
static int add_as_they_are(struct command *command, struct arguments *arguments,
			   const char *program, char *const *argv)
{
	command->program = strdup(program);
	if (!command->program)
		return -ENOMEM;
	for (size_t i = 0; argv && argv[i]; i++) {
		if (add_argument(arguments, strdup(argv[i])))
			return -ENOMEM;
	}
	return 0;
}

/* Return: 0; -E2BIG if Hydra has no room for so many, with a sentence. */
static int check_size(const struct command *command, char **sentence)
{
	size_t count = 0, bytes = 0;

	for (; command->argv && command->argv[count]; count++)
		bytes += strlen(command->argv[count]) + 12;
	if (count <= COMMAND_MAX_ARGS && bytes <= COMMAND_MAX_BYTES)
		return 0;
	if (asprintf(sentence,
		     "%zu arguments of %zu bytes are more than Hydra takes (%d, %d bytes)", count,
		     bytes, COMMAND_MAX_ARGS, COMMAND_MAX_BYTES) < 0)
		*sentence = NULL;
	return -E2BIG;
}

int command_prepare(struct command *command, const char *program, char *const *argv,
		    const char *path, const char *wdir, char **sentence)
{
	_cleanup_free_ char *full = NULL;
	struct arguments arguments = { 0 };
	bool plain;
	int rc;

	*command = (struct command){ 0 };
	*sentence = NULL;
	/* Hydra puts it before an absolute name as well */
	if (asprintf(&full, "%s%s%s", path ? path : "", path ? "/" : "", program) < 0) {
		full = NULL;
		return -ENOMEM;
	}
	rc = check_command(full, wdir, sentence);
	if (rc)
		return rc;
	plain = is_plain(full);
	for (size_t i = 0; plain && argv && argv[i]; i++)
		plain = is_plain(argv[i]);
	rc = plain ? add_as_they_are(command, &arguments, full, argv)
		   : add_wrapped(command, &arguments, full, argv);
	command->argv = arguments.list;
	if (!rc)
		rc = check_size(command, sentence);
	if (rc)
		command_free(command);
	return rc;
}

void command_free(struct command *command)
{
	for (size_t i = 0; command->argv && command->argv[i]; i++)
		free(command->argv[i]);
	free(command->argv);
	free(command->program);
	*command = (struct command){ 0 };
}

size_t command_info_room(const struct command *command)
{
	size_t used = TAIL_BYTES;

	if (!command->argv) /* then head and tail are one message */
		used += HEAD_BYTES + strlen(command->program);
	return used < COMMAND_LINE_BYTES ? COMMAND_LINE_BYTES - used : 0;
}
