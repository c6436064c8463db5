/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What threads keep for themselves from region to region, of which every other cannot go away. */
#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <unistd.h>

static int kept = 1;
#pragma omp threadprivate(kept)

static int here(void)
{
	int sum = 0;

#pragma omp parallel reduction(+ : sum)
	{
		close(open("/dev/null", O_RDONLY)); /* a system call: the region comes back */
		kept += omp_get_thread_num() + 1;
		sum += kept;
	}
	return sum;
}

static int away(void)
{
	int sum = 0;

#pragma omp parallel reduction(+ : sum)
	{
		kept += omp_get_thread_num() + 1;
		sum += kept;
	}
	return sum;
}

int main(void)
{
	for (int round = 0; round < 6; round++)
		printf("%d: %d\n", round, round % 2 ? here() : away());
	return 0;
}
