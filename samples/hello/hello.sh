#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# hello.c for scripts: the same in four clones, by the command sf. Each prints its part.
sf run -n 4 -- awk -v id={} 'BEGIN {
	for (i = id - 1; i < 400000; i += 4)
		part += (i % 2 ? -4 : 4) / (2 * i + 1)
	printf "%.6f\n", part
}' | awk '{ pi += $1 } END { printf "%d clones: pi = %.5f\n", NR, pi }'
