#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# MPICH's own tests of dynamic processes (SF_MPICH_SOURCE: its unpacked sources; without them skipped) do
# with libsfmpi what they do without.
set -eu
. "${srcdir:-.}/shim-lib.sh"
[ -d "${SF_MPICH_SOURCE:-}/test/mpi/spawn" ] || { echo 'skipped: no SF_MPICH_SOURCE'; exit 77; }

own=$work/own
"$srcdir/mpich-own-tests.sh" "$SF_MPICH_SOURCE" "$own"
cd "$own"
LIMIT_S=60
: >"$work/bad"
while read -r name ranks; do
	mpi "$ranks" "./$name" && grep -q '^ No Errors' "$work/out" && with_it=passed ||
		with_it=failed
	wants=$(grep -c '^want' "$work/log" || :)
	[ "$with_it" = passed ] || cat "$work/out" "$work/err"
	without=
	[ "$with_it" = passed ] || {
		without=failed
		PRELOAD=''
		mpi "$ranks" "./$name" && grep -q '^ No Errors' "$work/out" && without=passed
		unset PRELOAD
	}
	echo "$name, $ranks ranks: $with_it, $wants times clones${without:+; without libsfmpi: $without}"
	[ "$without" != passed ] || echo "$name" >>"$work/bad"
done <list
[ ! -s "$work/bad" ] || fail "worse than without: $(cat "$work/bad")"
