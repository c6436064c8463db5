/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library is in its process: its beginning, its connection to the keeper, its MPICH.
 *
 * The connection is made by the first spawn and kept: it holds the clones that have nothing to run
 * yet, and keeps the keeper from ending between two spawns. A child process has none of it.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "door.h"
#include "sf.h"
#include "wire.h"

/* ---- this process ---- */

static char first_folder[PATH_MAX];

void *shim_mpich(const char *name)
{
	static const char *const libraries[] = { "libmpich.so.12", "libmpi.so.12" };
	void *found = dlsym(RTLD_NEXT, name); /* ours is before it */

	/* of a library that something else than the program's start loaded, for itself alone */
	for (size_t i = 0; !found && i < ARRAY_SIZE(libraries); i++) {
		void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);

		if (library)
			found = dlsym(library, name);
	}
	return found;
}

void shim_say(const char *call, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	dprintf(STDERR_FILENO, "snowflock: %s: %s\n", call, text);
}

bool shim_alone(void)
{
	return !getenv("PMI_FD") && !getenv("PMI_PORT") && !getenv("PMI_RANK");
}

bool shim_in_clone(void)
{
	const char *way = getenv(MPI_ENV);

	return way && *way;
}

const char *shim_first_folder(void)
{
	return *first_folder ? first_folder : ".";
}

/* ---- the keeper ---- */

/* Held while the keeper is asked, which waits for hosts, but never for another rank. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int keeper = -1;
static atomic_bool no_vm;

static void forget_keeper(void)
{
	if (keeper >= 0)
		close(steal_fd(&keeper));
}

/* In the child of a fork(): the connection is the parent's, and so are the clones. */
static void after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	forget_keeper();
}

static bool hung_up(int sock)
{
	struct pollfd end = { .fd = sock, .events = POLLRDHUP };

	return poll(&end, 1, 0) > 0;
}

/* Under the lock. Return: as shim_connect(). */
static int connect_locked(char **sentence)
{
	if (keeper >= 0 && hung_up(keeper))
		forget_keeper();
	if (keeper >= 0)
		return 0;
	keeper = door_open(MPI_ASKER);
	if (keeper >= 0)
		return 0;
	if (keeper != -ENODEV &&
	    asprintf(sentence, "the keeper of the clones cannot be reached: %s",
		     strerror(-keeper)) < 0)
		*sentence = NULL;
	return keeper;
}

int shim_connect(char **sentence)
{
	int rc = -ENODEV;

	*sentence = NULL;
	if (!atomic_load(&no_vm)) {
		pthread_mutex_lock(&lock);
		rc = connect_locked(sentence);
		pthread_mutex_unlock(&lock);
	}
	if (rc == -ENODEV)
		atomic_store(&no_vm, true);
	return rc;
}

/* Under the lock, and again if an earlier keeper is gone. Return: as shim_want(). */
static int want_locked(const struct mpi_want *want, uint32_t *group, char **hosts, char **sentence)
{
	struct mpi_grant grant;

	for (;;) {
		bool old = keeper >= 0;
		int rc = connect_locked(sentence);

		if (rc)
			return rc;
		rc = door_want(keeper, want, group, &grant, hosts, sentence);
		if (!rc || (rc != -EPROTO && !hung_up(keeper)))
			return rc;
		forget_keeper();
		if (!old)
			return rc;
		free(*sentence);
		*sentence = NULL;
	}
}

int shim_want(const struct shim_wish *wish, uint32_t *group, char **hosts, char **sentence)
{
	struct mpi_want want = { .ranks = wish->ranks,
				 .per_clone = wish->per_clone,
				 .min_clones = wish->min_clones,
				 .per_host = wish->per_host };
	int rc;

	*hosts = *sentence = NULL;
	if (wish->ranks > MPI_MAX_RANKS) {
		if (asprintf(sentence, "%u processes are more than %u at once", wish->ranks,
			     MPI_MAX_RANKS) < 0)
			*sentence = NULL;
		return -E2BIG;
	}
	pthread_mutex_lock(&lock);
	rc = want_locked(&want, group, hosts, sentence);
	pthread_mutex_unlock(&lock);
	return rc;
}

void shim_drop(uint32_t group)
{
	pthread_mutex_lock(&lock);
	if (keeper >= 0 && wire_send(keeper, MPI_DROP, group, NULL))
		forget_keeper();
	pthread_mutex_unlock(&lock);
}

/* ---- a program that was started alone ---- */

/*
 * What sf-mpirun shall start: `name` as it was called if that leads to this program, else the file.
 * Return: in `path`; NULL if it cannot be told.
 */
static const char *own_program(const char *name, char path[PATH_MAX])
{
	_cleanup_free_ char *found = name ? command_find(name) : NULL;
	struct stat named, running;
	ssize_t len;

	if (stat("/proc/self/exe", &running))
		return NULL;
	if (found && !stat(found, &named) && named.st_dev == running.st_dev &&
	    named.st_ino == running.st_ino)
		return name;
	len = readlink("/proc/self/exe", path, PATH_MAX - 1);
	if (len < 0)
		return NULL;
	path[len] = 0;
	return path;
}

/* Runs sf-mpirun from beside the shim's other programs, else from where users' programs are. */
static void run_mpirun(char **argv)
{
	char path[PATH_MAX];

	if (door_program("sf-mpirun", path, sizeof(path)))
		execv(path, argv);
	execv(BINDIR "/sf-mpirun", argv);
}

/* This program once more, as the only rank of an MPI job in this VM. Back only if that fails. */
static void start_again(int argc, char **argv)
{
	static const char *const mpirun[] = { "sf-mpirun", "--here", "-n", "1", "--" };
	_cleanup_free_ char **again = calloc(ARRAY_SIZE(mpirun) + (size_t)argc + 2, sizeof(char *));
	char path[PATH_MAX];
	const char *program = own_program(argc > 0 ? argv[0] : NULL, path);

	if (!again || !program)
		return;
	memcpy(again, mpirun, sizeof(mpirun));
	again[ARRAY_SIZE(mpirun)] = (char *)program;
	for (int i = 1; i < argc; i++)
		again[ARRAY_SIZE(mpirun) + (size_t)i] = argv[i];
	setenv("SF_MPI_SINGLETON", "0", 1); /* once is enough */
	run_mpirun(again);
	unsetenv("SF_MPI_SINGLETON");
}

/*
 * MPICH cannot spawn from a program that no process manager started. So such a program, before it
 * has done anything, gets one.
 */
__attribute__((constructor)) static void begin(int argc, char **argv)
{
	const char *wanted = getenv("SF_MPI_SINGLETON");

	if (!getcwd(first_folder, sizeof(first_folder)))
		*first_folder = 0;
	pthread_atfork(NULL, NULL, after_fork);
	if ((wanted && !strcmp(wanted, "0")) || !shim_alone() || shim_in_clone() ||
	    getauxval(AT_SECURE) || !dlsym(RTLD_DEFAULT, "PMPI_Init") ||
	    dlsym(RTLD_DEFAULT, "ompi_mpi_comm_world") || sf_id())
		return;
	start_again(argc, argv);
}
