#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Parallel regions of OpenMP programs run in clones of their VM on other hosts, and the results are those of
# plain libgomp: what is written, printed, allocated; when a clone is killed in the middle of a region, too.
# The other processes of the VM do nothing in the clones.
. "$(dirname "$0")/lib.sh"
command -v gcc >/dev/null || { echo "skipped: no gcc"; exit 77; }
make -s -C "$top/omp-shim" tree >"$work/tree" 2>&1 || fail "no tree: $(cat "$work/tree")"
programs=${srcdir:-$(dirname "$0")}/../omp
gcc -O2 -fopenmp -o "$work/random-regions" "$programs/random-regions.c" || fail 'it does not compile'
gcc -O1 -fopenmp -o "$work/fallbacks" "$programs/fallbacks.c" || fail 'it does not compile'
cluster 3 --mem-per-host 2G
puts=(--put "$top/omp-shim/tree:/" --put "$work/random-regions:/usr/bin/" --put "$work/fallbacks:/usr/bin/")

# A script that writes in a loop goes on in no clone: what it prints comes once.
must 0 --mem 256M "${puts[@]}" -- sh -c '
	PATH=$PATH:/usr/local/bin
	OMP_NUM_THREADS=1 random-regions 3 5 >plain
	(i=0; while [ ! -e done ]; do i=$((i + 1)); echo "tick $i"; sleep 0.2; done) &
	sf-omprun -n 3 --always --report random-regions 3 5 >away 2>report
	touch done
	wait
	cmp plain away && echo "the same"
	grep -c "in 3 clones" report
	cat report >&2'
saw 'the same'
saw '5'
! grep -q ': here, ' "$work/err" || { cat "$work/err"; fail 'a region came back'; }
[ -z "$(grep tick "$work/out" | sort | uniq -d)" ] || fail "printed twice: $(grep tick "$work/out" | sort | uniq -d)"

# A clone is killed in the middle of a region: the region runs again, here.
run --mem 256M "${puts[@]}" -- sh -c '
	PATH=$PATH:/usr/local/bin
	sf-omprun -n 2 --always --report fallbacks killed' &
job=$!
# The last one takes its time for its work.
kill_last_clone() {
	local id

	id=$("$sfctl" ps 2>/dev/null | awk '$3 == "clone" && $5 == "running" { id = $1 } END { print id }')
	[ -n "$id" ] && "$sfctl" kill "$id" >/dev/null 2>&1
}
eventually 60 kill_last_clone || fail 'no clone was killed'
wait "$job" || { cat "$work/out" "$work/err"; fail 'the program failed'; }
saw 'killed 87360'
grep -q ': here, .*a clone was lost' "$work/err" || { cat "$work/err"; fail 'the loss is not reported'; }
