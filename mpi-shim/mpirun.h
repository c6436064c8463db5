/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of sf-mpirun share: what was asked for, and what Hydra is told. */
#ifndef MPI_SHIM_MPIRUN_H
#define MPI_SHIM_MPIRUN_H

#include <stdbool.h>

#include "proto/mpi.h"

#define EXIT_MPIRUN 255 /* an error of sf-mpirun itself */

/* One of the programs, those between colons. */
struct mpirun_part {
	unsigned ranks;
	char **words; /* program and arguments, with NULL behind them; the caller's of
			 mpirun_parse() */
};

struct mpirun_options {
	struct mpi_want want; /* ranks: of all parts */
	bool here;	      /* the ranks run in this VM */
	bool quiet;
	const char *mpich; /* folder of libmpich, "system", or NULL for the shim's own */
	char **mpiexec;	   /* more words for mpiexec */
	unsigned mpiexec_count;
	struct mpirun_part *parts;
	unsigned part_count;
};

/*
 * Takes the command line apart; `argv` must stay, and has its colons replaced. Wrong usage ends the
 * process with EXIT_MPIRUN and a sentence. The options are freed by mpirun_options_fini().
 */
void mpirun_parse(struct mpirun_options *options, int argc, char **argv);
void mpirun_options_fini(struct mpirun_options *options);

/* Where things are. Paths, each an array of its own. */
struct mpirun_paths {
	char mpiexec[4096];
	char launcher[4096];
	char preload[4096]; /* libsfmpi; "" if there is none */
	char mpich[4096];   /* folder of the libmpich to use; "" for that of the system */
};

/*
 * Finds all that is needed, and tells it to door_program() and to the processes that come by
 * SF_MPI_LIBEXEC. Return: 0; or -ENOENT after a sentence on standard error about what is missing.
 */
int hydra_find(const struct mpirun_options *options, struct mpirun_paths *paths);

/*
 * The words mpiexec is called with: for `hosts` (a list as in GRANT), and itself at `address`.
 * Return: an array with NULL behind it, the caller's to free(), not so its strings; NULL for want
 * of memory.
 */
char **hydra_words(const struct mpirun_options *options, const struct mpirun_paths *paths,
		   const char *hosts, const char *address);

/*
 * Changes the environment of this process to what mpiexec and the ranks are to have. Return: 0 or
 * -ENOMEM.
 */
int hydra_environment(const struct mpirun_options *options, const struct mpirun_paths *paths);

#endif
