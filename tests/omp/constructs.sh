#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Each construct gives what plain libgomp gives, with teams of several sizes, optimised and not, and none of its
# regions comes back.
. "$(dirname "$0")/lib.sh"

for options in -O0 -O2; do
	compile constructs "$here/constructs.c" "$options"
	for members in 2 3 5; do
		plain "$members" constructs || { cat "$work/plain.err"; fail "plain libgomp, $members threads"; }
		away "$members" constructs || { cat "$work/away.err"; fail "$options, $members members"; }
		sort "$work/plain.out" >"$work/plain.sorted"
		sort "$work/away.out" | cmp -s - "$work/plain.sorted" ||
			{ diff "$work/plain.out" "$work/away.out"; fail "$options, $members members: other output"; }
		went_away "$members" "$options, $members members"
	done
done
