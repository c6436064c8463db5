/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What programs do atomically: OpenMP's atomic construct, which reductions end with as well, on all
 * types, and C's own operations. Included once for each way of compiling: NAME(x) is its name for x.
 */
#ifndef ATOMICS_TYPES
#define ATOMICS_TYPES
struct atomics {
	char c;
	unsigned char uc;
	short s;
	unsigned short us;
	int i, captured;
	unsigned u, bits, spare[3];
	long l;
	unsigned long ul;
	float f;
	double d, product;
	unsigned long mask, least, most;
	_Bool b;
	int wide_lock;
	__attribute__((aligned(16))) unsigned long wide[2];
	double array[16];
};
#endif

/* One of each, as iteration `n` ≥ 1 of many. Return: what was captured. */
long NAME(one_of_each)(struct atomics *a, unsigned long n);
__attribute__((noinline)) long NAME(one_of_each)(struct atomics *a, unsigned long n)
{
	int before;

#pragma omp atomic
	a->c++;
#pragma omp atomic
	a->uc += 3;
#pragma omp atomic
	a->s -= 2;
#pragma omp atomic
	a->us ^= (unsigned short)n;
#pragma omp atomic
	a->i += (int)n;
#pragma omp atomic
	a->u = a->u * 3; /* by cmpxchg */
#pragma omp atomic
	--a->l;
#pragma omp atomic
	a->ul += n * n;
#pragma omp atomic
	a->f += 1;
#pragma omp atomic
	a->d += 0.5 * (double)n;
#pragma omp atomic
	a->product *= 1.0;
#pragma omp atomic
	a->mask |= 1ul << (n & 63);
#pragma omp atomic
	a->b |= n == 7;
#pragma omp atomic
	a->array[n & 15] += 1;
#pragma omp atomic capture seq_cst
	before = a->captured++;
	if (n < __atomic_load_n(&a->least, __ATOMIC_RELAXED)) {
		unsigned long old = a->least;

		while (n < old && !__atomic_compare_exchange_n(&a->least, &old, n, 0,
							       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
	}
	__atomic_fetch_xor(&a->bits, 1u << (n & 31), __ATOMIC_SEQ_CST);
	return before;
}

/* A counter in two words, by cmpxchg16b. */
void NAME(wide_add)(struct atomics *a, unsigned long n);
__attribute__((noinline)) void NAME(wide_add)(struct atomics *a, unsigned long n)
{
	unsigned long low = a->wide[0], high = a->wide[1];
	unsigned char done;

	do
		__asm__ volatile("lock cmpxchg16b %0"
				 : "+m"(a->wide), "=@ccz"(done), "+a"(low), "+d"(high)
				 : "b"(low + n), "c"(high + (low + n < low))
				 : "memory");
	while (!done);
}

/* A lock as people write it: xchg to take it, xchg to let it go, all other memory atomic too. */
void NAME(spin)(int *lock, long *counter);
__attribute__((noinline)) void NAME(spin)(int *lock, long *counter)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		;
	__atomic_store_n(counter, __atomic_fetch_add(counter, 0, __ATOMIC_SEQ_CST) + 1,
			 __ATOMIC_SEQ_CST);
	__atomic_store_n(lock, 0, __ATOMIC_SEQ_CST);
}

void NAME(flush)(void);
__attribute__((noinline)) void NAME(flush)(void)
{
#pragma omp flush
}
