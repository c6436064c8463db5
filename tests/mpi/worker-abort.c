/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One of some spawned workers does not end as it should, while the manager waits for its answer.
 *
 *	worker-abort abort|exit|kill|wait [WORKERS]
 *
 * abort: by MPI_Abort(); exit: without MPI_Finalize(); kill: by a signal. wait: none does, they wait
 * until somebody ends them. All the others wait for ever.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mpi.h>

#define WORKERS 4
#define STATUS 42	/* of MPI_Abort() and of exit */

static void work(MPI_Comm manager, const char *how)
{
	int rank, all;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &all);
	MPI_Send(&rank, 1, MPI_INT, 0, 0, manager);
	MPI_Barrier(MPI_COMM_WORLD);
	if (rank == all - 1) {
		if (!strcmp(how, "abort"))
			MPI_Abort(MPI_COMM_WORLD, STATUS);
		if (!strcmp(how, "exit"))
			_exit(STATUS);
		if (!strcmp(how, "kill"))
			raise(SIGKILL);
	}
	/* what never comes */
	MPI_Recv(&rank, 1, MPI_INT, 0, 1, manager, MPI_STATUS_IGNORE);
}

static void manage(char **argv, int count)
{
	char *args[] = { argv[1], NULL };
	MPI_Comm workers;
	int one;

	MPI_Comm_spawn(argv[0], args, count, MPI_INFO_NULL, 0, MPI_COMM_SELF, &workers,
		       MPI_ERRCODES_IGNORE);
	for (int i = 0; i < count; i++)
		MPI_Recv(&one, 1, MPI_INT, i, 0, workers, MPI_STATUS_IGNORE);
	printf("%d workers are there\n", count);
	fflush(stdout);
	MPI_Recv(&one, 1, MPI_INT, count - 1, 1, workers, MPI_STATUS_IGNORE);
	printf("the manager goes on\n");
}

int main(int argc, char **argv)
{
	MPI_Comm parent;

	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (argc < 2) {
		fprintf(stderr, "usage: worker-abort abort|exit|kill|wait [WORKERS]\n");
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	if (parent != MPI_COMM_NULL)
		work(parent, argv[1]);
	else
		manage(argv, argc > 2 ? atoi(argv[2]) : WORKERS);
	MPI_Finalize();
	return 0;
}
