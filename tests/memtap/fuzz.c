/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inputs from a seed, for machines without libFuzzer and for `make check`. */
#include "tests/memtap/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t fuzz_byte(struct fuzz_input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

uint64_t fuzz_number(struct fuzz_input *in)
{
	uint8_t kind = fuzz_byte(in);
	uint64_t number = fuzz_byte(in);

	switch (kind % 8) {
	case 0:
		return 0 - number;
	case 1:
		return (1ull << number % 64) - (kind >> 6);
	case 2:
		for (unsigned i = 0; i < 7; i++)
			number = number << 8 | fuzz_byte(in);
		return number;
	default:
		return number % (kind / 8 + 1u);
	}
}

#ifndef SF_LIBFUZZER
#define INPUT_BYTES 4096u

static uint64_t state;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

int main(int argc, char **argv)
{
	const char *runs_text = getenv("SF_FUZZ_RUNS");
	unsigned long runs = runs_text ? strtoul(runs_text, NULL, 10) : 2000;
	uint8_t input[INPUT_BYTES];

	state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	for (unsigned long run = 0; run < runs; run++) {
		size_t size = next() % (next() % 4 ? 256 : INPUT_BYTES);

		for (size_t i = 0; i < size; i++)
			input[i] = (uint8_t)next();
		LLVMFuzzerTestOneInput(input, size);
	}
	printf("%lu inputs\n", runs);
	return 0;
}
#endif
