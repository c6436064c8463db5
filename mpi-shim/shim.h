/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libsfmpi: MPI_Comm_spawn() and MPI_Comm_spawn_multiple() on clones made for the purpose.
 *
 * spawn.c stands before MPICH's calls and has the ranks of the communicator agree; shim.c has the
 * connection to the keeper and starts again, under sf-mpirun, a program that was started alone;
 * spawn_command.c gets commands and arguments through Hydra as they are. Only spawn.c knows MPICH's
 * mpi.h, the names of which are those of proto/mpi.h.
 *
 * The library asks for no libmpich of its own: it is preloaded into every process below sf-mpirun,
 * and each would have to load MPICH. It takes the functions of the one that the program has.
 */
#ifndef MPI_SHIM_SHIM_H
#define MPI_SHIM_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- shim.c ---- */

/* Return: the function of that name of the MPICH in this process; NULL if it has none. */
void *shim_mpich(const char *name);

/* One line on standard error, from `call`. */
void shim_say(const char *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Return: whether no process manager started this process. */
bool shim_alone(void);

/* Return: whether this VM is a clone. */
bool shim_in_clone(void);

/* Return: where this process was when it began; "." if that cannot be told. */
const char *shim_first_folder(void);

/*
 * Sees to it that there is a connection to the keeper. Return: 0; -ENODEV if this is no Snowflock
 * VM; or -errno with a sentence in *sentence (the caller's to free(), NULL for want of memory).
 * Threads may call this and the next two at once.
 */
int shim_connect(char **sentence);

/* What is asked for: as struct mpi_want. */
struct shim_wish {
	uint32_t ranks, per_clone, min_clones, per_host;
};

/*
 * Has clones made. Return: 0 with *group and *hosts (the caller's to free()), which stay while this
 * process has its connection; or -errno with a sentence as above.
 */
int shim_want(const struct shim_wish *wish, uint32_t *group, char **hosts, char **sentence);

/* Says that nothing more will be started on these clones. */
void shim_drop(uint32_t group);

/* ---- spawn_command.c ---- */

#define COMMAND_LINE_BYTES 1023	 /* of one message of MPICH to Hydra (PMI-1) */
#define COMMAND_MAX_ARGS   990	 /* that Hydra has room for */
#define COMMAND_MAX_BYTES  60000 /* of all messages about one command */

/* A command as MPICH shall get it. command_free() when done. */
struct command {
	char *program;
	char **argv; /* without the program, NULL behind the last */
};

/*
 * Looks a command up as Hydra's proxy will: with `path` before it if not NULL, from the folder
 * `wdir` (NULL: mpiexec's), by PATH. Then puts it and its arguments (NULL: none) in a form that
 * survives Hydra. Return: 0; or -errno with a sentence in *sentence (the caller's to free(), NULL
 * for want of memory).
 */
int command_prepare(struct command *command, const char *program, char *const *argv,
		    const char *path, const char *wdir, char **sentence);

void command_free(struct command *command);

/*
 * Return: how many bytes of info keys and values, 32 more for each pair, Hydra takes with the
 * command: not more than so many go with a command in one message.
 */
size_t command_info_room(const struct command *command);

/* Return: an executable file for `name`, looked for as execvp() does; NULL, errno. To be freed. */
char *command_find(const char *name);

#endif
