/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heat spreads over a plate: each rank has some rows, and gives its outermost ones to its neighbours
 * before each step. At the end rank 0 does all of it alone, and compares bit by bit.
 *
 *	halo [STEPS [SIDE]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#define STEPS 50
#define SIDE 128	/* points of the plate, which has an edge of fixed heat around it */

enum { TAG_UP = 1, TAG_DOWN };

/* Rows of a plate with one more on each side: `now` and what comes after it. */
struct part {
	int first, rows, width;	/* width with the two columns of the edge */
	double *now, *next;
};

static double *row(const struct part *part, double *plate, int i)
{
	return plate + (size_t)(i + 1) * (size_t)part->width;
}

static void part_init(struct part *part, int first, int rows, int side)
{
	part->first = first;
	part->rows = rows;
	part->width = side + 2;
	part->now = calloc((size_t)(rows + 2) * (size_t)part->width, sizeof(double));
	part->next = calloc((size_t)(rows + 2) * (size_t)part->width, sizeof(double));
	if (!part->now || !part->next) {
		fprintf(stderr, "halo: no memory\n");
		MPI_Abort(MPI_COMM_WORLD, 1);
	}
	for (int i = -1; i <= rows; i++) {
		for (int j = 0; j < part->width; j++) {
			int y = first + i;
			double heat = y < 0 || y >= side ? 0 : sin(0.05 * y) + cos(0.07 * j * y);

			row(part, part->now, i)[j] = heat;
			row(part, part->next, i)[j] = heat;
		}
	}
}

static void part_fini(struct part *part)
{
	free(part->now);
	free(part->next);
}

/* Return: the greatest change of a point. */
static double step(struct part *part)
{
	double *old = part->now, most = 0;

	for (int i = 0; i < part->rows; i++) {
		const double *above = row(part, old, i - 1), *here = row(part, old, i);
		const double *below = row(part, old, i + 1);
		double *to = row(part, part->next, i);

		for (int j = 1; j < part->width - 1; j++) {
			double spread = above[j] + below[j] + here[j - 1] + here[j + 1];

			to[j] = here[j] + 0.2 * (spread - 4 * here[j]);
			most = fmax(most, fabs(to[j] - here[j]));
		}
	}
	part->now = part->next;
	part->next = old;
	return most;
}

/* The outermost rows to the neighbours, and theirs beside ours. */
static void exchange(struct part *part, int rank, int ranks)
{
	int above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
	int below = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;
	MPI_Request requests[4];
	MPI_Status statuses[4];

	MPI_Irecv(row(part, part->now, -1), part->width, MPI_DOUBLE, above, TAG_DOWN,
		  MPI_COMM_WORLD, &requests[0]);
	MPI_Irecv(row(part, part->now, part->rows), part->width, MPI_DOUBLE, below, TAG_UP,
		  MPI_COMM_WORLD, &requests[1]);
	MPI_Isend(row(part, part->now, 0), part->width, MPI_DOUBLE, above, TAG_UP,
		  MPI_COMM_WORLD, &requests[2]);
	MPI_Isend(row(part, part->now, part->rows - 1), part->width, MPI_DOUBLE, below, TAG_DOWN,
		  MPI_COMM_WORLD, &requests[3]);
	MPI_Waitall(4, requests, statuses);
}

/* Return: 0 if what all have is what rank 0 finds by itself, and the last change as well. */
static int compare(double *together, double change, int steps, int side, int ranks)
{
	struct part alone;
	double most = 0;
	int differs;

	part_init(&alone, 0, side, side);
	for (int i = 0; i < steps; i++)
		most = step(&alone);
	differs = memcmp(together, row(&alone, alone.now, 0),
			 (size_t)side * (size_t)alone.width * sizeof(double)) || most != change;
	printf("%d steps by %d ranks: %s what one alone finds, the last change %a\n", steps, ranks,
	       differs ? "NOT" : "bit by bit", change);
	part_fini(&alone);
	return differs;
}

int main(int argc, char **argv)
{
	int rank, ranks, steps = argc > 1 ? atoi(argv[1]) : STEPS;
	int side = argc > 2 ? atoi(argv[2]) : SIDE, len, differs = 0;
	char name[MPI_MAX_PROCESSOR_NAME];
	double change = 0, *all = NULL;
	struct part part;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	if (side % ranks) {
		fprintf(stderr, "halo: %d rows cannot be shared by %d ranks\n", side, ranks);
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	MPI_Get_processor_name(name, &len);
	printf("rank %d of %d on %s\n", rank, ranks, name);
	part_init(&part, rank * (side / ranks), side / ranks, side);
	for (int i = 0; i < steps; i++) {
		double most;

		exchange(&part, rank, ranks);
		most = step(&part);
		MPI_Allreduce(&most, &change, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
	}
	if (!rank)
		all = malloc((size_t)side * (size_t)part.width * sizeof(double));
	MPI_Gather(row(&part, part.now, 0), part.rows * part.width, MPI_DOUBLE, all,
		   part.rows * part.width, MPI_DOUBLE, 0, MPI_COMM_WORLD);
	if (!rank)
		differs = !all || compare(all, change, steps, side, ranks);
	free(all);
	part_fini(&part);
	MPI_Finalize();
	return differs;
}
