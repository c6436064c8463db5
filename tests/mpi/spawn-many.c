/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Spawns again and again, checks every answer, and counts what this process has open, before and
 * after.
 *
 *	spawn-many ROUNDS WORKERS [DEPTH]
 *
 * Each worker of a depth above 1 spawns one of its own, one less deep, and adds its answer.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mpi.h>

#define WARM_UP 2	/* rounds after which is counted for the first time */
#define MAX_WORKERS 64

struct open_now {
	unsigned descriptors, sockets;
};

static struct open_now count_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct open_now count = { 0 };

	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		char path[64], target[64];
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%.16s", entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0) /* . and .. */
			continue;
		target[len] = 0;
		count.descriptors++;
		count.sockets += !strncmp(target, "socket:", 7);
	}
	if (folder)
		closedir(folder);
	return count;
}

static int answer(int round, int rank)
{
	return round * 1000 + rank * rank;
}

/* Spawns `workers`, and takes their answers. Return: their sum. */
static int spawn(char *program, int round, int workers, int depth)
{
	char words[2][16], *args[] = { words[0], words[1], NULL };
	int sum = 0, errcodes[MAX_WORKERS];
	MPI_Comm comm;

	snprintf(words[0], sizeof(words[0]), "%d", round);
	snprintf(words[1], sizeof(words[1]), "%d", depth);
	MPI_Comm_spawn(program, args, workers, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm, errcodes);
	for (int i = 0; i < workers; i++) {
		int one;

		MPI_Recv(&one, 1, MPI_INT, i, 0, comm, MPI_STATUS_IGNORE);
		sum += one;
	}
	MPI_Comm_disconnect(&comm);
	return sum;
}

static void work(MPI_Comm parent, char **argv)
{
	int round = atoi(argv[1]), depth = atoi(argv[2]), rank, sum;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	sum = answer(round, rank);
	if (depth > 1)
		sum += spawn(argv[0], round, 1, depth - 1);
	MPI_Send(&sum, 1, MPI_INT, 0, 0, parent);
	MPI_Comm_disconnect(&parent);
}

/* Return: true if the answers of one round are what they must be. */
static bool round_is_right(char *program, int round, int workers, int depth)
{
	int sum = spawn(program, round, workers, depth), right = 0;

	for (int i = 0; i < workers; i++)
		right += answer(round, i) + (depth - 1) * answer(round, 0);
	if (sum != right)
		printf("round %d: %d instead of %d\n", round, sum, right);
	return sum == right;
}

static int spawn_rounds(char *program, int rounds, int workers, int depth)
{
	struct open_now before = { 0 }, after;
	double start = MPI_Wtime();
	int right = 0;

	for (int i = 1; i <= rounds; i++) {
		right += round_is_right(program, i, workers, depth);
		if (i == WARM_UP)
			before = count_open();
	}
	after = count_open();
	printf("%d of %d spawns of %d answered right, in %.1f s\n", right, rounds, workers,
	       MPI_Wtime() - start);
	printf("descriptors %u then %u, sockets %u then %u\n", before.descriptors, after.descriptors,
	       before.sockets, after.sockets);
	if (rounds >= WARM_UP &&
	    (after.descriptors > before.descriptors || after.sockets > before.sockets))
		return 1;
	return right < rounds;
}

int main(int argc, char **argv)
{
	MPI_Comm parent;
	int error = 0;

	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL) {
		work(parent, argv);
	} else if (argc > 2 && atoi(argv[2]) > 0 && atoi(argv[2]) <= MAX_WORKERS) {
		error = spawn_rounds(argv[0], atoi(argv[1]), atoi(argv[2]),
				     argc > 3 ? atoi(argv[3]) : 1);
	} else {
		fprintf(stderr, "usage: spawn-many ROUNDS WORKERS [DEPTH]\n");
		error = 2;
	}
	MPI_Finalize();
	return error;
}
