/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What sf-mpirun makes of Hydra's mpiexec: where it is, its words, its environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "mpi-shim/door.h"
#include "mpi-shim/mpirun.h"

#define SHIM_LIBRARY  "libsfmpi.so.0"
#define MPICH_LIBRARY "libmpich.so.12"

static int missing(const char *what, const char *advice)
{
	fprintf(stderr, "sf-mpirun: %s: %s\n", what, advice);
	return -ENOENT;
}

/* Puts a path together. Return: true if it fits and is a file that may be used so (see access()).
 */
static bool found(char path[4096], const char *folder, const char *name, int how)
{
	int len = snprintf(path, 4096, "%s/%s", folder, name);

	if (len > 0 && len < 4096 && !access(path, how))
		return true;
	path[0] = 0;
	return false;
}

/* Looks for a program as execvp() would. Return: true and its path. */
static bool in_path(char path[4096], const char *name)
{
	const char *folders = getenv("PATH");
	_cleanup_free_ char *copy = strdup(folders ? folders : "/usr/bin:/bin");

	for (char *save, *folder = copy ? strtok_r(copy, ":", &save) : NULL; folder;
	     folder = strtok_r(NULL, ":", &save)) {
		if (found(path, folder, name, X_OK))
			return true;
	}
	return false;
}

/*
 * The shim's folder, seen from this program: where it is installed, wherever that was moved to, or
 * where it was built. Without any of these it is where door_program() looks.
 */
static void find_libexec(void)
{
	static const char *const from_here[] = { "../libexec/snowflock", ".", ".." };
	char self[PATH_MAX], folder[PATH_MAX + 32], path[4096], real[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len < 0 || getenv("SF_MPI_LIBEXEC"))
		return;
	self[len] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return;
	*slash = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(from_here); i++) {
		snprintf(folder, sizeof(folder), "%s/%s", self, from_here[i]);
		if (found(path, folder, "sf-mpilaunch", X_OK) && realpath(folder, real)) {
			setenv("SF_MPI_LIBEXEC", real, 1);
			return;
		}
	}
}

/* libsfmpi: with the other programs, where it was built, or where libraries are installed. */
static void find_shim(struct mpirun_paths *paths)
{
	char folder[4096];

	if (door_program(SHIM_LIBRARY, paths->preload, sizeof(paths->preload)) &&
	    !access(paths->preload, R_OK))
		return;
	paths->preload[0] = 0;
	if (door_program(".libs", folder, sizeof(folder)) &&
	    found(paths->preload, folder, SHIM_LIBRARY, R_OK))
		return;
	found(paths->preload, LIBDIR, SHIM_LIBRARY, R_OK);
}

/* Return: 0 or -ENOENT after a sentence. */
static int find_mpich(const struct mpirun_options *o, struct mpirun_paths *paths)
{
	char library[4096], folder[4096];

	paths->mpich[0] = 0;
	if (o->mpich && !strcmp(o->mpich, "system"))
		return 0;
	if (o->mpich &&
	    !(realpath(o->mpich, folder) && found(library, folder, MPICH_LIBRARY, R_OK)))
		return missing(o->mpich, "there is no " MPICH_LIBRARY " in it");
	if (o->mpich || (door_program("mpich", folder, sizeof(folder)) &&
			 found(library, folder, MPICH_LIBRARY, R_OK)))
		strcpy(paths->mpich, folder);
	return 0;
}

/* Finds out in time that a program is not there. Return: 0 or -ENOENT after a sentence. */
static int find_programs(const struct mpirun_options *o)
{
	char path[4096];

	if (o->mpiexec_count) /* they may say where */
		return 0;
	for (unsigned i = 0; i < o->part_count; i++) {
		const char *program = o->parts[i].words[0];

		if (strchr(program, '/') ? access(program, X_OK) : !in_path(path, program))
			return missing(program, strchr(program, '/') ? strerror(errno)
								     : "there is no such program");
	}
	return 0;
}

int hydra_find(const struct mpirun_options *o, struct mpirun_paths *paths)
{
	int error;

	find_libexec();
	if (!in_path(paths->mpiexec, "mpiexec.hydra") &&
	    !found(paths->mpiexec, "/usr/bin", "mpiexec.hydra", X_OK))
		return missing("mpiexec.hydra is missing",
			       "install the package mpich, or put the shim's tree into the guest");
	if (!door_program("sf-mpilaunch", paths->launcher, sizeof(paths->launcher)) ||
	    access(paths->launcher, X_OK))
		return missing("sf-mpilaunch is missing", "is the shim installed?");
	find_shim(paths);
	error = find_mpich(o, paths);
	return error ? error : find_programs(o);
}

/* ── Words ── */

struct words {
	char **list;
	unsigned count;
};

static void add(struct words *words, const char *word)
{
	words->list[words->count++] = (char *)word;
}

/* How many words that will be, and the NULL. */
static unsigned room_for(const struct mpirun_options *o)
{
	unsigned room = 16 + o->mpiexec_count;

	for (unsigned i = 0; i < o->part_count; i++) {
		room += 4;
		for (char **word = o->parts[i].words; *word; word++)
			room++;
	}
	return room;
}

char **hydra_words(const struct mpirun_options *o, const struct mpirun_paths *paths,
		   const char *hosts, const char *address)
{
	/* no resource manager: a Slurm or PBS around us is none of the VM's */
	const char *const always[] = {
		paths->mpiexec,	 "-rmk",       "user",	"-launcher", "rsh", "-launcher-exec",
		paths->launcher, "-localhost", address, "-hosts",    hosts,
	};
	size_t numbers_len = (size_t)o->part_count * 12;
	unsigned room = room_for(o);
	/* one piece of memory: the words, then the numbers among them */
	struct words words = { .list = calloc(1, room * sizeof(char *) + numbers_len) };
	char *text = (char *)(words.list + room);

	if (!words.list)
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
		add(&words, always[i]);
	for (unsigned i = 0; i < o->mpiexec_count; i++)
		add(&words, o->mpiexec[i]);
	for (unsigned i = 0; i < o->part_count; i++, text += 12) {
		if (i)
			add(&words, ":");
		snprintf(text, 12, "%u", o->parts[i].ranks);
		add(&words, "-n");
		add(&words, text);
		for (char **word = o->parts[i].words; *word; word++)
			add(&words, *word);
	}
	return words.list;
}

/* ── Environment ── */

/* What would lead Hydra elsewhere than its words say. */
static const char *const confusing[] = {
	"HYDRA_LAUNCHER_EXTRA_ARGS",
	"HYDRA_LAUNCHER_AUTOFORK",
	"HYDRA_IFACE",
	"HYDRA_HOST_FILE",
	"HYDRA_HOSTNAME_PROPAGATION",
	"HYDRA_PROXY_RETRY_COUNT",
	"HYDI_CONTROL_FD",
	"PMI_FD",
	"PMI_PORT",
	"PMI_RANK",
	"PMI_SIZE",
	"PMI_ID",
};

/* Puts `value` first in a list with colons, unless it is there. Return: 0 or -ENOMEM. */
static int put_first(const char *name, const char *value)
{
	const char *old = getenv(name);
	size_t len = strlen(value);
	_cleanup_free_ char *list = NULL;

	if (!len)
		return 0;
	if (old && !strncmp(old, value, len) && strchr(":", old[len]))
		return 0;
	if (asprintf(&list, "%s%s%s", value, old && *old ? ":" : "", old ? old : "") < 0)
		return -ENOMEM;
	return setenv(name, list, 1) ? -ENOMEM : 0;
}

/* A number that the ranks' spawns shall go by; 0: none. Return: 0 or -ENOMEM. */
static int put_number(const char *name, unsigned value)
{
	char text[12];

	if (!value)
		return 0;
	snprintf(text, sizeof(text), "%u", value);
	return setenv(name, text, 1) ? -ENOMEM : 0;
}

int hydra_environment(const struct mpirun_options *o, const struct mpirun_paths *paths)
{
	const struct mpi_want *want = &o->want;

	for (unsigned i = 0; i < ARRAY_SIZE(confusing); i++)
		unsetenv(confusing[i]);
	if (put_first("LD_PRELOAD", paths->preload) || put_first("LD_LIBRARY_PATH", paths->mpich) ||
	    put_number("SF_MPI_PER_CLONE", want->per_clone) ||
	    put_number("SF_MPI_MIN_CLONES", want->min_clones) ||
	    put_number("SF_MPI_PER_HOST", want->per_host))
		return -ENOMEM;
	return 0;
}
