/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A manager that spawns workers, gives each a range of numbers whenever it is free, and adds up the
 * primes they find.
 *
 *	manager WORKERS [LIMIT]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <mpi.h>

#define LIMIT 200000u
#define RANGE 5000u	/* numbers in one piece of work */
#define MAX_WORKERS 64

enum { TAG_WORK = 1, TAG_NAME };

static bool is_prime(unsigned number)
{
	if (number < 2 || (number % 2 == 0 && number > 2))
		return false;
	for (unsigned d = 3; d * d <= number; d += 2) {
		if (number % d == 0)
			return false;
	}
	return true;
}

static unsigned primes(unsigned from, unsigned to)
{
	unsigned found = 0;

	for (unsigned i = from; i < to; i++)
		found += is_prime(i);
	return found;
}

/* Ranges come until an empty one does; the answer to each asks for the next. */
static void work(MPI_Comm manager)
{
	char name[MPI_MAX_PROCESSOR_NAME] = "";
	unsigned range[2], found = 0;
	int len;

	MPI_Get_processor_name(name, &len);
	MPI_Send(name, sizeof(name), MPI_CHAR, 0, TAG_NAME, manager);
	for (;;) {
		MPI_Send(&found, 1, MPI_UNSIGNED, 0, TAG_WORK, manager);
		MPI_Recv(range, 2, MPI_UNSIGNED, 0, TAG_WORK, manager, MPI_STATUS_IGNORE);
		if (range[0] >= range[1])
			break;
		found = primes(range[0], range[1]);
	}
}

/* Return: the primes below `limit`, with the ranges that each worker took in `taken`. */
static unsigned hand_out(MPI_Comm workers, int count, unsigned limit, unsigned *taken)
{
	unsigned next = 0, sum = 0;

	while (count) {
		unsigned found, range[2];
		MPI_Status status;

		MPI_Recv(&found, 1, MPI_UNSIGNED, MPI_ANY_SOURCE, TAG_WORK, workers, &status);
		sum += found;
		range[0] = next;
		range[1] = next + RANGE < limit ? next + RANGE : limit;
		next = range[1];
		MPI_Send(range, 2, MPI_UNSIGNED, status.MPI_SOURCE, TAG_WORK, workers);
		if (range[0] < range[1])
			taken[status.MPI_SOURCE]++;
		else
			count--;
	}
	return sum;
}

static int manage(char *program, int count, unsigned limit)
{
	char names[MAX_WORKERS][MPI_MAX_PROCESSOR_NAME];
	unsigned taken[MAX_WORKERS] = { 0 }, sum, known;
	MPI_Comm workers;

	MPI_Comm_spawn(program, MPI_ARGV_NULL, count, MPI_INFO_NULL, 0, MPI_COMM_SELF, &workers,
		       MPI_ERRCODES_IGNORE);
	for (int i = 0; i < count; i++)
		MPI_Recv(names[i], MPI_MAX_PROCESSOR_NAME, MPI_CHAR, i, TAG_NAME, workers,
			 MPI_STATUS_IGNORE);
	sum = hand_out(workers, count, limit, taken);
	MPI_Comm_disconnect(&workers);
	for (int i = 0; i < count; i++)
		printf("worker %d on %s: %u ranges\n", i, names[i], taken[i]);
	known = primes(0, limit);
	printf("%u primes below %u, %s\n", sum, limit, sum == known ? "which is right" : "WRONG");
	return sum == known ? 0 : 1;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0, error = 0;
	MPI_Comm parent;

	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL) {
		work(parent);
		MPI_Comm_disconnect(&parent);
	} else if (count > 0 && count <= MAX_WORKERS) {
		error = manage(argv[0], count, argc > 2 ? (unsigned)atoi(argv[2]) : LIMIT);
	} else {
		fprintf(stderr, "usage: manager WORKERS [LIMIT]\n");
		error = 2;
	}
	MPI_Finalize();
	return error;
}
