/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MPI_Comm_spawn() and MPI_Comm_spawn_multiple(), before MPICH's own.
 *
 * Only the root knows what is to be spawned, and it alone asks for clones. It then tells the other
 * ranks of the communicator what came of it, so that all do the same: MPICH's call as the program
 * made it, where there is nothing for us to do; MPICH's call with the clones' addresses; or an
 * error, by way of the communicator's error handler, before MPICH knew of anything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "shim.h"

#define EXPORT	   __attribute__((visibility("default")))
#define PAIR_BYTES 32 /* that Hydra needs for an info key beside key and value */

/* ---- MPICH's functions ---- */

/* clang-format off */
#define CALLS(X)                                                                           \
	X(Bcast) X(Comm_call_errhandler) X(Comm_rank) X(Comm_size) X(Comm_spawn)           \
	X(Comm_spawn_multiple) X(Comm_test_inter) X(Finalized) X(Get_library_version)      \
	X(Info_create) X(Info_delete) X(Info_dup) X(Info_free) X(Info_get)                 \
	X(Info_get_nkeys) X(Info_get_nthkey) X(Info_get_valuelen) X(Info_set) X(Initialized)
/* clang-format on */

#define MEMBER(name) __typeof__(&PMPI_##name) name;
static struct mpich {
	CALLS(MEMBER)
} mpich;
#define ENTRY(name) { "PMPI_" #name, offsetof(struct mpich, name) },
static const struct {
	const char *name;
	size_t offset;
} calls[] = { CALLS(ENTRY) };

static bool mpich_is_there;

static void find_mpich(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		void *function = shim_mpich(calls[i].name);

		if (!function)
			return;
		memcpy((char *)&mpich + calls[i].offset, &function, sizeof(function));
	}
	mpich_is_there = true;
}

/* ---- what the program asked for, what MPICH is asked for ---- */

/* One call. At ranks other than the root, what the arrays point to has no meaning. */
struct request {
	const char *call; /* its name */
	int count;
	char **commands;
	char ***argvs; /* or MPI_ARGVS_NULL */
	const int *maxprocs;
	const MPI_Info *infos;
	int root;
	MPI_Comm comm;
	MPI_Comm *intercomm;
	int *errcodes; /* or MPI_ERRCODES_IGNORE */
};

/* What the root makes of it. plan_free() when done. */
struct plan {
	int count;
	struct command *commands;
	char **programs; /* theirs, in a row; so with the arguments */
	char ***argvs;
	MPI_Info *infos;
	uint32_t group;
	char *hosts;
	int hosts_fd; /* a file with them, for Hydra to read, or -1 */
};

/* What the root tells the others. */
enum deed { PASS, GO, FAIL };
struct verdict {
	int32_t deed;
	int32_t error; /* a class of MPI's, for FAIL */
	int32_t total; /* processes; 0 if that is not known */
};

static int plan_init(struct plan *plan, int count)
{
	size_t n = (size_t)count;

	*plan = (struct plan){ .count = count, .hosts_fd = -1 };
	plan->commands = calloc(n, sizeof(*plan->commands));
	plan->programs = calloc(n, sizeof(*plan->programs));
	plan->argvs = calloc(n, sizeof(*plan->argvs));
	plan->infos = calloc(n, sizeof(*plan->infos));
	if (!plan->commands || !plan->programs || !plan->argvs || !plan->infos)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		plan->infos[i] = MPI_INFO_NULL;
	return 0;
}

static void plan_free(struct plan *plan)
{
	for (int i = 0; plan->commands && i < plan->count; i++)
		command_free(&plan->commands[i]);
	for (int i = 0; plan->infos && i < plan->count; i++) {
		if (plan->infos[i] != MPI_INFO_NULL)
			mpich.Info_free(&plan->infos[i]);
	}
	free(plan->commands);
	free(plan->programs);
	free(plan->argvs);
	free(plan->infos);
	free(plan->hosts);
	if (plan->hosts_fd >= 0)
		close(plan->hosts_fd);
	*plan = (struct plan){ .hosts_fd = -1 };
}

/* MPICH's call. MPI_Comm_spawn() is not one of the other: its processes have another MPI_APPNUM. */
static int call_mpich(const struct request *request)
{
	if (!strcmp(request->call, "MPI_Comm_spawn"))
		return mpich.Comm_spawn(request->commands[0], request->argvs[0],
					request->maxprocs[0], request->infos[0], request->root,
					request->comm, request->intercomm, request->errcodes);
	return mpich.Comm_spawn_multiple(request->count, request->commands, request->argvs,
					 request->maxprocs, request->infos, request->root,
					 request->comm, request->intercomm, request->errcodes);
}

/* ---- info ---- */

/* Return: the value of a key, to be freed; NULL if there is none. */
static char *info_value(MPI_Info info, const char *key)
{
	char *value;
	int len, found = 0;

	if (info == MPI_INFO_NULL || mpich.Info_get_valuelen(info, key, &len, &found) || !found)
		return NULL;
	value = malloc((size_t)len + 1);
	if (!value || mpich.Info_get(info, key, len, value, &found) || !found) {
		free(value);
		return NULL;
	}
	return value;
}

static bool info_has(MPI_Info info, const char *key)
{
	int len, found = 0;

	return info != MPI_INFO_NULL && !mpich.Info_get_valuelen(info, key, &len, &found) && found;
}

/* Return: whether the program itself says where its processes shall be. */
static bool has_own_place(const struct request *request)
{
	static const char *const keys[] = { "host", "hosts", "hostfile" };

	for (int i = 0; i < request->count; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
			if (info_has(request->infos[i], keys[k]))
				return true;
		}
	}
	return false;
}

/* Return: how many bytes of a message to Hydra an info is. */
static size_t info_bytes(MPI_Info info)
{
	char key[MPI_MAX_INFO_KEY + 1];
	int keys = 0, len, found;
	size_t bytes = 0;

	if (info == MPI_INFO_NULL || mpich.Info_get_nkeys(info, &keys))
		return 0;
	for (int i = 0; i < keys; i++) {
		if (!mpich.Info_get_nthkey(info, i, key) &&
		    !mpich.Info_get_valuelen(info, key, &len, &found) && found)
			bytes += PAIR_BYTES + strlen(key) + (size_t)len;
	}
	return bytes;
}

/* Our own keys, and by what environment variable sf-mpirun says the same for all spawns. */
static const struct {
	const char *key, *variable;
	size_t offset;
} wishes[] = {
	{ "sf_per_clone", "SF_MPI_PER_CLONE", offsetof(struct shim_wish, per_clone) },
	{ "sf_min_clones", "SF_MPI_MIN_CLONES", offsetof(struct shim_wish, min_clones) },
	{ "sf_per_host", "SF_MPI_PER_HOST", offsetof(struct shim_wish, per_host) },
};

/* Return: 0 and *number, or -EINVAL. */
static int parse_number(const char *text, uint32_t *number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > INT_MAX)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

/*
 * Reads a wish from the first info that has it, else from the environment. Return: 0 or MPI's error
 * class.
 */
static int read_wish(const struct request *request, size_t which, struct shim_wish *wish)
{
	uint32_t *number = (uint32_t *)((char *)wish + wishes[which].offset);
	const char *all = getenv(wishes[which].variable);

	for (int i = 0; i < request->count; i++) {
		_cleanup_free_ char *own = info_value(request->infos[i], wishes[which].key);

		if (!own)
			continue;
		if (!parse_number(own, number))
			return 0;
		shim_say(request->call, "info key %s: \"%s\" is no number", wishes[which].key, own);
		return MPI_ERR_INFO_VALUE;
	}
	if (!all || !*all || !parse_number(all, number))
		return 0;
	shim_say(request->call, "%s: \"%s\" is no number", wishes[which].variable, all);
	return MPI_ERR_SPAWN;
}

/* Copies a command's info, without what Hydra need not see any more. Return: 0 or MPI's error. */
static int copy_info(MPI_Info info, MPI_Info *copy)
{
	int rc;

	if (info == MPI_INFO_NULL)
		return 0;
	rc = mpich.Info_dup(info, copy);
	if (!rc && info_has(*copy, "path")) /* is in the program's name, see command_prepare() */
		rc = mpich.Info_delete(*copy, "path");
	for (size_t i = 0; !rc && i < ARRAY_SIZE(wishes); i++) {
		if (info_has(*copy, wishes[i].key))
			rc = mpich.Info_delete(*copy, wishes[i].key);
	}
	return rc;
}

/* ---- the root: what is to be done ---- */

/* Says why not, in `sentence`, which it frees. Return: `error`. */
static int refuse(const struct request *request, int error, char *sentence)
{
	shim_say(request->call, "%s", sentence ? sentence : "not enough memory");
	free(sentence);
	return error;
}

/* Whether there is an MPICH here that can spawn, and Hydra. Return: 0 or MPI's error class. */
static int check_mpich(const struct request *request)
{
	char version[MPI_MAX_LIBRARY_VERSION_STRING + 1] = "";
	int len;

	mpich.Get_library_version(version, &len);
	if (strstr(version, "ch4:ucx")) {
		shim_say(request->call,
			 "this MPICH (ch4:ucx) cannot spawn: make the one that can with mkmpich "
			 "and start the program by sf-mpirun --mpich=DIR; see libsfmpi(7)");
		return MPI_ERR_SPAWN;
	}
	if (shim_alone()) {
		shim_say(request->call, "this program was started without sf-mpirun or mpiexec: "
					"start it by sf-mpirun --here -n 1; see libsfmpi(7)");
		return MPI_ERR_SPAWN;
	}
	return 0;
}

/* Return: 0 and how many processes are wanted, or MPI's error class. */
static int check_arguments(const struct request *request, int32_t *total)
{
	int64_t sum = 0;

	for (int i = 0; i < request->count; i++) {
		if (!request->commands[i] || request->maxprocs[i] < 0) {
			shim_say(request->call, "command %d: no program, or %d processes", i,
				 request->maxprocs[i]);
			return MPI_ERR_ARG;
		}
		sum += request->maxprocs[i];
	}
	if (sum > INT32_MAX) {
		shim_say(request->call, "too many processes");
		return MPI_ERR_SPAWN;
	}
	*total = (int32_t)sum;
	return 0;
}

/* Looks up all commands, and has them ready for Hydra. Return: 0 or MPI's error class. */
static int prepare_commands(const struct request *request, struct plan *plan)
{
	if (plan_init(plan, request->count))
		return refuse(request, MPI_ERR_NO_MEM, NULL);
	for (int i = 0; i < request->count; i++) {
		_cleanup_free_ char *path = info_value(request->infos[i], "path");
		_cleanup_free_ char *wdir = info_value(request->infos[i], "wdir");
		char **argv = request->argvs ? request->argvs[i] : NULL;
		char *sentence;

		if (command_prepare(&plan->commands[i], request->commands[i], argv, path, wdir,
				    &sentence))
			return refuse(request, MPI_ERR_SPAWN, sentence);
		if (copy_info(request->infos[i], &plan->infos[i]))
			return refuse(request, MPI_ERR_INFO, strdup("an info cannot be copied"));
		if (info_bytes(plan->infos[i]) > command_info_room(&plan->commands[i]))
			return refuse(request, MPI_ERR_SPAWN,
				      strdup("the infos are longer than Hydra takes"));
		plan->programs[i] = plan->commands[i].program;
		plan->argvs[i] = plan->commands[i].argv;
	}
	return 0;
}

/* A file of hosts that mpiexec reads here. Return: its name in `name` of `len` bytes, or NULL. */
static const char *make_hostfile(struct plan *plan, char *name, size_t len)
{
	plan->hosts_fd = memfd_create("hosts", MFD_CLOEXEC);
	if (plan->hosts_fd < 0)
		return NULL;
	for (const char *at = plan->hosts; *at;) {
		int host = (int)strcspn(at, ",");

		if (dprintf(plan->hosts_fd, "%.*s\n", host, at) < 0)
			return NULL;
		at += host + (at[host] == ',');
	}
	snprintf(name, len, "/proc/%d/fd/%d", getpid(), plan->hosts_fd);
	return name;
}

/*
 * Puts the hosts into the first info; Hydra takes them for all commands. Where they are too many
 * for a message, and mpiexec is in this VM, into a file. Return: 0 or MPI's error class.
 */
static int place_hosts(const struct request *request, struct plan *plan)
{
	const char *key = "host", *value = plan->hosts;
	MPI_Info *info = &plan->infos[0];
	char name[64];

	if (strlen(value) >= MPI_MAX_INFO_VAL ||
	    info_bytes(*info) + PAIR_BYTES + strlen(key) + strlen(value) >
		    command_info_room(&plan->commands[0])) {
		key = "hostfile";
		value = shim_in_clone() ? NULL : make_hostfile(plan, name, sizeof(name));
	}
	if (!value)
		return refuse(request, MPI_ERR_SPAWN,
			      strdup("Hydra does not take so many clones from here: spawn less at "
				     "once, or more on each (info key sf_per_clone)"));
	if (*info == MPI_INFO_NULL && mpich.Info_create(info))
		return refuse(request, MPI_ERR_INFO, NULL);
	return mpich.Info_set(*info, key, value) ? refuse(request, MPI_ERR_INFO, NULL) : 0;
}

/* Has the clones made. Return: 0 or MPI's error class. */
static int want_clones(const struct request *request, int32_t total, struct plan *plan)
{
	struct shim_wish wish = { .ranks = (uint32_t)total };
	char *sentence;
	int error;

	for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
		error = read_wish(request, i, &wish);
		if (error)
			return error;
	}
	if (shim_want(&wish, &plan->group, &plan->hosts, &sentence))
		return refuse(request, MPI_ERR_SPAWN, sentence);
	return place_hosts(request, plan);
}

/* Return: what all ranks shall do; for GO, *plan has what the root does. */
static struct verdict decide(const struct request *request, struct plan *plan)
{
	struct verdict verdict = { .deed = PASS };
	char *sentence;
	int rc;

	if (request->count < 1 || has_own_place(request))
		return verdict;
	rc = shim_connect(&sentence);
	if (rc == -ENODEV)
		return verdict;
	verdict.deed = FAIL;
	if (rc) {
		verdict.error = refuse(request, MPI_ERR_SPAWN, sentence);
		return verdict;
	}
	verdict.error = check_arguments(request, &verdict.total);
	if (!verdict.error && !verdict.total) {
		verdict.deed = PASS;
		return verdict;
	}
	if (!verdict.error)
		verdict.error = check_mpich(request);
	if (!verdict.error)
		verdict.error = prepare_commands(request, plan);
	if (!verdict.error)
		verdict.error = want_clones(request, verdict.total, plan);
	if (!verdict.error)
		verdict.deed = GO;
	return verdict;
}

/* ---- all ranks ---- */

/* Nothing is spawned. Return: the error, unless the communicator's handler does not come back. */
static int fail(const struct request *request, const struct verdict *verdict)
{
	*request->intercomm = MPI_COMM_NULL;
	for (int i = 0; request->errcodes != MPI_ERRCODES_IGNORE && i < verdict->total; i++)
		request->errcodes[i] = verdict->error;
	mpich.Comm_call_errhandler(request->comm, verdict->error);
	return verdict->error;
}

/*
 * MPICH's call, on the clones (the root's `plan`). It gets error codes from all ranks or none, and
 * from the root in any case: what it does depends on that, which it should not. Return: its.
 */
static int go(const struct request *request, const struct verdict *verdict, const struct plan *plan)
{
	_cleanup_free_ int *errcodes = calloc((size_t)verdict->total, sizeof(*errcodes));
	struct request ours = *request;
	int rc;

	if (plan) {
		ours.commands = plan->programs;
		ours.argvs = plan->argvs;
		ours.infos = plan->infos;
	}
	if (errcodes)
		ours.errcodes = errcodes;
	rc = call_mpich(&ours);
	if (request->errcodes != MPI_ERRCODES_IGNORE && errcodes)
		memcpy(request->errcodes, errcodes, (size_t)verdict->total * sizeof(*errcodes));
	return rc;
}

/* Return: whether all ranks can talk about it: else the call is MPICH's, to say what is wrong. */
static bool is_collective(const struct request *request, int *rank)
{
	int initialized = 0, finalized = 1, inter = 1, size;

	if (request->comm == MPI_COMM_NULL || !request->intercomm ||
	    mpich.Initialized(&initialized) || !initialized || mpich.Finalized(&finalized) ||
	    finalized || mpich.Comm_test_inter(request->comm, &inter) || inter ||
	    mpich.Comm_size(request->comm, &size) || mpich.Comm_rank(request->comm, rank))
		return false;
	return request->root >= 0 && request->root < size;
}

static int spawn(const struct request *request)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct plan plan = { .hosts_fd = -1 };
	struct verdict verdict = { .deed = PASS };
	int rank, rc;

	pthread_once(&once, find_mpich);
	if (!mpich_is_there) {
		shim_say(request->call, "there is no MPICH in this program");
		return MPI_ERR_OTHER;
	}
	if (!is_collective(request, &rank))
		return call_mpich(request);
	if (rank == request->root)
		verdict = decide(request, &plan);
	rc = mpich.Bcast(&verdict, sizeof(verdict), MPI_BYTE, request->root, request->comm);
	if (!rc && verdict.deed == GO)
		rc = go(request, &verdict, rank == request->root ? &plan : NULL);
	else if (!rc)
		rc = verdict.deed == FAIL ? fail(request, &verdict) : call_mpich(request);
	if (rc && plan.hosts)
		shim_drop(plan.group);
	plan_free(&plan);
	return rc;
}

/* ---- MPI's calls ---- */

EXPORT int MPI_Comm_spawn(const char *command, char *argv[], int maxprocs, MPI_Info info, int root,
			  MPI_Comm comm, MPI_Comm *intercomm, int array_of_errcodes[])
{
	char *commands[] = { (char *)command };
	char **argvs[] = { argv };

	return spawn(&(struct request){ .call = "MPI_Comm_spawn",
					.count = 1,
					.commands = commands,
					.argvs = argvs,
					.maxprocs = &maxprocs,
					.infos = &info,
					.root = root,
					.comm = comm,
					.intercomm = intercomm,
					.errcodes = array_of_errcodes });
}

EXPORT int MPI_Comm_spawn_multiple(int count, char *array_of_commands[], char **array_of_argv[],
				   const int array_of_maxprocs[], const MPI_Info array_of_info[],
				   int root, MPI_Comm comm, MPI_Comm *intercomm,
				   int array_of_errcodes[])
{
	return spawn(&(struct request){ .call = "MPI_Comm_spawn_multiple",
					.count = count,
					.commands = array_of_commands,
					.argvs = array_of_argv,
					.maxprocs = array_of_maxprocs,
					.infos = array_of_info,
					.root = root,
					.comm = comm,
					.intercomm = intercomm,
					.errcodes = array_of_errcodes });
}

/* Fortran's mpi_f08 calls these, and other tools that stand before MPICH do. */
EXPORT __typeof__(MPI_Comm_spawn) PMPI_Comm_spawn __attribute__((alias("MPI_Comm_spawn")));
EXPORT __typeof__(MPI_Comm_spawn_multiple) PMPI_Comm_spawn_multiple
	__attribute__((alias("MPI_Comm_spawn_multiple")));
