/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Preloaded behind libsfmpi: an MPICH that cannot spawn, for no reason that could be known before.
 */
#include <mpi.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int PMPI_Comm_spawn(const char *command, char *argv[], int maxprocs, MPI_Info info, int root,
			   MPI_Comm comm, MPI_Comm *intercomm, int array_of_errcodes[])
{
	(void)command, (void)argv, (void)info, (void)root, (void)comm;
	*intercomm = MPI_COMM_NULL;
	for (int i = 0; i < maxprocs; i++)
		array_of_errcodes[i] = MPI_ERR_SPAWN;
	return MPI_ERR_SPAWN;
}
