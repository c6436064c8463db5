/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a fuzzer gives us, taken apart. Each fuzz-*.c has LLVMFuzzerTestOneInput(). Built with
 * -fsanitize=fuzzer -DSF_LIBFUZZER it is a libFuzzer target; else fuzz.c has a main() that makes
 * inputs from a seed (argv[1], else a fixed one) and runs SF_FUZZ_RUNS of them (2000).
 */
#ifndef TESTS_MEMTAP_FUZZ_H
#define TESTS_MEMTAP_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* The next byte; 0 at the end. */
uint8_t fuzz_byte(struct fuzz_input *in);

/* A number that is often small, often near a border of its type, sometimes anything. */
uint64_t fuzz_number(struct fuzz_input *in);

#endif
