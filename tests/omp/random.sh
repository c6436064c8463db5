#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random programs give what they give on plain libgomp, whatever the team's size.
. "$(dirname "$0")/lib.sh"
compile random-regions "$here/random-regions.c" -O2
seeds=${SEEDS:-12}

for seed in $(seq 1 "$seeds"); do
	plain 2 random-regions "$seed" 8 || fail "plain libgomp, seed $seed"
	away $((2 + seed % 4)) random-regions "$seed" 8 || { cat "$work/away.err"; fail "seed $seed"; }
	cmp -s "$work/plain.out" "$work/away.out" ||
		{ diff "$work/plain.out" "$work/away.out"; cat "$work/away.err"; fail "seed $seed"; }
	went_away $((2 + seed % 4)) "seed $seed"
done
echo "$seeds seeds"
