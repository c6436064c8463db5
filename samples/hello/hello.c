/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The example of the README: pi, its series summed up in four clones of this VM. */
#include <sf.h>
#include <stdio.h>

int main(void)
{
	double part = 0, pi = 0, *result;
	int id = sf_clone(4), n = sf_count(), i;

	if (id > 0) {	/* in a clone: every nth term, beginning with mine */
		for (i = id - 1; i < 4000000; i += n)
			part += (i % 2 ? -4.0 : 4.0) / (2.0 * i + 1);
		sf_set_result(&part, sizeof(part));
		sf_exit(0);
	}
	if (id < 0 || sf_join() < 0)
		return fprintf(stderr, "hello: %s\n", sf_error()), 1;
	for (i = 1; i <= n; i++)
		if ((result = sf_result(i, NULL)))
			pi += *result;
	return printf("%d clones: pi = %.6f\n", n, pi) < 0;
}
