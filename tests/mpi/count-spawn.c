/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures how long MPI_Comm_spawn() of some workers takes until all have answered.
 *
 *	count-spawn WORKERS [ROUNDS [HOST,HOST...]]
 *
 * Prints "spawn MS MS" for each round: until MPI_Comm_spawn() was back, and until the last worker's
 * answer came. With hosts, which MPI itself gets by the info key "host", these lines begin with
 * "there". The workers of one round have gone when the next begins.
 */
#include <stdio.h>
#include <stdlib.h>

#include <mpi.h>

#define MAX_WORKERS 64

static void work(MPI_Comm *manager)
{
	int rank;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Send(&rank, 1, MPI_INT, 0, 0, *manager);
	MPI_Comm_disconnect(manager);
}

/* Spawns, takes the answers, and prints how long it took. Return: 0; 1 if they are not right. */
static int spawn(char *program, int count, MPI_Info info, const char *label)
{
	double start = MPI_Wtime(), back;
	MPI_Comm workers;
	int wrong = 0;

	MPI_Comm_spawn(program, MPI_ARGV_NULL, count, info, 0, MPI_COMM_SELF, &workers,
		       MPI_ERRCODES_IGNORE);
	back = MPI_Wtime();
	for (int i = 0; i < count; i++) {
		int rank;

		MPI_Recv(&rank, 1, MPI_INT, i, 0, workers, MPI_STATUS_IGNORE);
		wrong |= rank != i;
	}
	printf("%s %.1f %.1f\n", label, (back - start) * 1000, (MPI_Wtime() - start) * 1000);
	fflush(stdout);
	MPI_Comm_disconnect(&workers);
	return wrong;
}

static int measure(char *program, int count, int rounds, char *hosts)
{
	MPI_Info info = MPI_INFO_NULL;
	int wrong = 0;

	if (hosts) {
		MPI_Info_create(&info);
		MPI_Info_set(info, "host", hosts);
	}
	for (int i = 0; i < rounds; i++)
		wrong |= spawn(program, count, info, hosts ? "there" : "spawn");
	if (hosts)
		MPI_Info_free(&info);
	return wrong;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0, error = 0;
	MPI_Comm parent;

	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL) {
		work(&parent);
	} else if (count > 0 && count <= MAX_WORKERS) {
		error = measure(argv[0], count, argc > 2 ? atoi(argv[2]) : 1,
				argc > 3 ? argv[3] : NULL);
	} else {
		fprintf(stderr, "usage: count-spawn WORKERS [ROUNDS [HOST,HOST...]]\n");
		error = 2;
	}
	MPI_Finalize();
	return error;
}
