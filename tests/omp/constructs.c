/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each construct of OpenMP once, with a result that does not depend on the team's size. */
#include <complex.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 1000

static int failures;
static int tp = 7;
#pragma omp threadprivate(tp)

static void check(const char *what, long got, long want)
{
	printf("%s %ld\n", what, got);
	if (got != want) {
		fprintf(stderr, "constructs: %s is %ld instead of %ld\n", what, got, want);
		failures++;
	}
}

static long sum_of(const int *a)
{
	long sum = 0;

	for (int i = 0; i < N; i++)
		sum += a[i];
	return sum;
}

static void loops(void)
{
	static int a[N];
	static const long want = (long)N * (N - 1) / 2;

#define LOOP(name, clause)                              \
	memset(a, 0, sizeof(a));                        \
	_Pragma(clause) for (int i = 0; i < N; i++) a[i] += i; \
	check(name, sum_of(a), want);

	LOOP("for", "omp parallel for")
	LOOP("static", "omp parallel for schedule(static)")
	LOOP("static,1", "omp parallel for schedule(static, 1)")
	LOOP("static,7", "omp parallel for schedule(static, 7)")
	LOOP("dynamic", "omp parallel for schedule(dynamic)")
	LOOP("dynamic,13", "omp parallel for schedule(dynamic, 13)")
	LOOP("monotonic", "omp parallel for schedule(monotonic: dynamic, 5)")
	LOOP("guided", "omp parallel for schedule(guided)")
	LOOP("guided,9", "omp parallel for schedule(guided, 9)")
	LOOP("runtime", "omp parallel for schedule(runtime)")
	LOOP("auto", "omp parallel for schedule(auto)")
}

static void odd_loops(void)
{
	static int a[N];
	long sum = 0;

	memset(a, 0, sizeof(a));
#pragma omp parallel for schedule(dynamic, 3)
	for (int i = N - 1; i >= 0; i -= 3)
		a[i] = 1;
	check("down", sum_of(a), (N + 2) / 3);
	memset(a, 0, sizeof(a));
#pragma omp parallel for schedule(guided)
	for (unsigned long long i = 5; i < N; i += 7)
		a[i] = 1;
	check("unsigned", sum_of(a), (N - 5 + 6) / 7);
	memset(a, 0, sizeof(a));
#pragma omp parallel for collapse(2) schedule(dynamic, 2)
	for (int i = 0; i < 10; i++)
		for (int j = 0; j < 20; j++)
			a[i * 20 + j] = 1;
	check("collapse", sum_of(a), 200);
	memset(a, 0, sizeof(a));
#pragma omp parallel for schedule(dynamic)
	for (int i = 0; i < 0; i++)
		a[i] = 1;
	check("empty", sum_of(a), 0);
	memset(a, 0, sizeof(a));
#pragma omp parallel
	{
#pragma omp for schedule(dynamic, 4) nowait
		for (int i = 0; i < N / 2; i++)
			a[i] = 1;
#pragma omp for schedule(static, 3)
		for (int i = N / 2; i < N; i++)
			a[i] = 2;
	}
	check("two loops", sum_of(a), N / 2 + N);
#pragma omp parallel for reduction(+ : sum)
	for (int i = 0; i < 1; i++)
		sum += 5;
	check("one iteration", sum, 5);
}

static void reductions(void)
{
	int i_sum = 0, i_and = -1, i_or = 0, i_xor = 0, i_max = -1000, i_min = 1000, land = 1, lor = 0;
	long l_sum = 0, product = 1;
	double d_sum = 0, d_max = -1;
	float f_sum = 0;
	short s_sum = 0;
	signed char c_sum = 0;
	long double ld_sum = 0;
	double complex z_sum = 0;
	int array[8] = { 0 };

#pragma omp parallel for reduction(+ : i_sum, l_sum, s_sum, c_sum)
	for (int i = 0; i < N; i++) {
		i_sum += i;
		l_sum += 2 * i;
		s_sum = (short)(s_sum + 1);
		c_sum = (signed char)(c_sum + 1);
	}
	check("+int", i_sum, N * (N - 1) / 2);
	check("+long", l_sum, (long)N * (N - 1));
	check("+short", s_sum, N);
	check("+char", c_sum, (signed char)N);
#pragma omp parallel for reduction(+ : d_sum)
	for (int i = 0; i < N; i++)
		d_sum += i;
	check("+double", (long)d_sum, (long)N * (N - 1) / 2);
#pragma omp parallel for reduction(+ : f_sum)
	for (int i = 0; i < 100; i++)
		f_sum += (float)i;
	check("+float", (long)f_sum, 4950);
#pragma omp parallel for reduction(+ : ld_sum)
	for (int i = 0; i < N; i++)
		ld_sum += i;
	check("+long double", (long)ld_sum, (long)N * (N - 1) / 2);
#pragma omp parallel for reduction(+ : z_sum)
	for (int i = 0; i < N; i++)
		z_sum += i + 2 * i * I;
	check("+complex", (long)(creal(z_sum) + cimag(z_sum)), 3L * N * (N - 1) / 2);
#pragma omp parallel for reduction(* : product)
	for (int i = 0; i < 20; i++)
		product *= 2;
	check("*", product, 1 << 20);
#pragma omp parallel for reduction(& : i_and) reduction(| : i_or) reduction(^ : i_xor)
	for (int i = 0; i < N; i++) {
		i_and &= ~(1 << (i % 5));
		i_or |= 1 << (i % 9);
		i_xor ^= i;
	}
	check("&", i_and, ~31);
	check("|", i_or, 511);
	check("^", i_xor, 0);
#pragma omp parallel for reduction(max : i_max, d_max) reduction(min : i_min)
	for (int i = 0; i < N; i++) {
		i_max = i > i_max ? i : i_max;
		i_min = i < i_min ? i : i_min;
		d_max = i * 0.5 > d_max ? i * 0.5 : d_max;
	}
	check("max", i_max, N - 1);
	check("min", i_min, 0);
	check("max double", (long)(2 * d_max), N - 1);
#pragma omp parallel for reduction(&& : land) reduction(|| : lor)
	for (int i = 0; i < N; i++) {
		land = land && i >= 0;
		lor = lor || i == 77;
	}
	check("&&", land, 1);
	check("||", lor, 1);
#pragma omp parallel for reduction(+ : array)
	for (int i = 0; i < N; i++)
		array[i % 8]++;
	check("+array", array[0] + array[7], 2 * N / 8);
}

static void atomics(void)
{
	int count = 0, last = 0, exchanged = 0;
	double sum = 0;
	long captured = 0;
	unsigned char byte = 0;

#pragma omp parallel for schedule(static, 10)
	for (int i = 0; i < 200; i++) {
		int mine;

#pragma omp atomic
		count++;
#pragma omp atomic
		sum += 0.5;
#pragma omp atomic
		byte ^= 1;
#pragma omp atomic capture
		mine = last++;
#pragma omp atomic
		captured += mine;
#pragma omp atomic capture
		{
			mine = exchanged;
			exchanged = i;
		}
	}
	check("atomic ++", count, 200);
	check("atomic double", (long)sum, 100);
	check("atomic ^", byte, 0);
	check("atomic capture", captured, 199 * 200 / 2);
}

static void criticals(void)
{
	int count = 0, named = 0, list[200], length = 0;
	long sum = 0, nested = 0;
	omp_lock_t lock;
	omp_nest_lock_t nest;

	omp_init_lock(&lock);
	omp_init_nest_lock(&nest);
#pragma omp parallel for schedule(dynamic, 5)
	for (int i = 0; i < 40; i++) {
#pragma omp critical
		count++;
#pragma omp critical(name)
		{
			list[length++] = i;
			named += i;
		}
		omp_set_lock(&lock);
		sum += i;
		omp_unset_lock(&lock);
		omp_set_nest_lock(&nest);
		omp_set_nest_lock(&nest);
		nested += 1;
		omp_unset_nest_lock(&nest);
		omp_unset_nest_lock(&nest);
	}
	check("critical", count, 40);
	check("critical(name)", named + length, 40 + 39 * 40 / 2);
	named = 0;
	for (int i = 0; i < length; i++)
		named += list[i];
	check("list", named, 39 * 40 / 2);
	check("locks", sum, 39 * 40 / 2);
	check("nested locks", nested, 40);
	omp_destroy_lock(&lock);
	omp_destroy_nest_lock(&nest);
}

static void meetings(void)
{
	int a[64] = { 0 }, b[64] = { 0 }, singles = 0, masters = 0, sections = 0, copied = 0, wrong = 0;
	int threads = 0;

#pragma omp parallel
	{
		int me = omp_get_thread_num(), all = omp_get_num_threads(), got = 0;

		a[me] = me + 1;
#pragma omp barrier
		b[me] = a[(me + 1) % all];
#pragma omp single
		singles++;
#pragma omp master
		masters++;
#pragma omp barrier
#pragma omp sections
		{
#pragma omp section
#pragma omp atomic
			sections += 1;
#pragma omp section
#pragma omp atomic
			sections += 10;
#pragma omp section
#pragma omp atomic
			sections += 100;
		}
#pragma omp single copyprivate(got)
		got = 1000 + a[all - 1] - all;
#pragma omp atomic
		copied += got;
#pragma omp single nowait
		threads = all;
		if (omp_get_level() != 1 || !omp_in_parallel())
#pragma omp atomic
			wrong++;
	}
	for (int i = 0; i < threads; i++)
		wrong += b[i] != (i + 1) % threads + 1;
	check("barrier", wrong, 0);
	check("single", singles, 1);
	check("master", masters, 1);
	check("sections", sections, 111);
	check("copyprivate", copied - 1000L * threads, 0);
#pragma omp parallel sections
	{
#pragma omp section
		a[0] = 5;
#pragma omp section
		a[1] = 6;
	}
	check("parallel sections", a[0] + a[1], 11);
}

static void data(void)
{
	int first = 5, last = 0, list[100], length = 0;
	int kept = 0;

#pragma omp parallel for firstprivate(first) lastprivate(last) schedule(dynamic, 7)
	for (int i = 0; i < 100; i++)
		last = first + i;
	check("lastprivate", last, 104);
#pragma omp parallel for ordered schedule(dynamic, 3)
	for (int i = 0; i < 100; i++) {
#pragma omp ordered
		list[length++] = i;
	}
	for (int i = 0; i < length; i++)
		kept += list[i] == i;
	check("ordered", kept, 100);
	tp = 100;
#pragma omp parallel copyin(tp)
	tp += omp_get_thread_num();
	kept = 0;
#pragma omp parallel reduction(+ : kept)
	kept += tp == 100 + omp_get_thread_num();
#pragma omp parallel
#pragma omp single
	kept -= omp_get_num_threads();
	check("threadprivate", kept, 0);
}

static long tree(int depth)
{
	long left = 0, right = 0;

	if (!depth)
		return 1;
#pragma omp task shared(left)
	left = tree(depth - 1);
#pragma omp task shared(right)
	right = tree(depth - 1);
#pragma omp taskwait
	return left + right;
}

struct node {
	struct node *next;
	char *text;
	int value;
};

static void others(void)
{
	struct node *lists[64] = { NULL };
	long sum = 0;
	int inner = 0;

#pragma omp parallel
#pragma omp single
	sum = tree(8);
	check("tasks", sum, 256);
	sum = 0;
#pragma omp parallel
#pragma omp single
#pragma omp taskloop shared(sum)
	for (int i = 0; i < 100; i++)
#pragma omp atomic
		sum += i;
	check("taskloop", sum, 4950);
#pragma omp parallel
	{
#pragma omp parallel num_threads(2) reduction(+ : inner)
		inner += 1;
	}
	check("nested", inner > 0, 1);
#pragma omp parallel for schedule(static, 1)
	for (int i = 0; i < 32; i++) {
		for (int k = 0; k < 20; k++) {
			struct node *node = malloc(sizeof(*node));

			node->text = strdup("a node's text");
			node->value = i * k;
			node->next = lists[i];
			lists[i] = node;
		}
	}
	sum = 0;
	for (int i = 0; i < 32; i++) {
		while (lists[i]) {
			struct node *node = lists[i];

			sum += node->value + (long)strlen(node->text);
			lists[i] = node->next;
			free(node->text);
			free(node);
		}
	}
	check("malloc", sum, 190L * 31 * 32 / 2 + 32L * 20 * 13);
#pragma omp parallel for schedule(static, 1)
	for (int i = 0; i < 4; i++)
		printf("printed by iteration %d\n", i);
}

int main(void)
{
	loops();
	odd_loops();
	reductions();
	atomics();
	criticals();
	meetings();
	data();
	others();
	return failures != 0;
}
