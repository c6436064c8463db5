#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A program spawns fifty times, then one from spawned processes: each answer is right, and no clone, ticket,
# process, socket or descriptor stays, neither in the VM nor on the hosts. What hosts keep for a VM that has
# cloned at all is there before, from other spawns on both of them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 2 --mem-per-host 2G
mkfifo "$work/in"
timeout 300 "$sfctl" run --mem 256M "${mpi[@]}" -- sh -c '
	SF_MPI_PER_HOST=1 sf-mpirun --here -n 1 spawn-many 2 2 </dev/null; echo "first: $?"
	mpi-left
	echo "now the fifty"
	read -r word
	sf-mpirun --here -n 1 spawn-many 50 1 </dev/null; echo "spawns: $?"
	sf-mpirun --here -n 1 spawn-many 1 1 3 </dev/null; echo "deep: $?"
	mpi-left
	echo over
	read -r word' <"$work/in" >"$work/out" 2>"$work/err" &
child=$!
exec 5>"$work/in"
eventually 100 grep -q "^now the fifty" "$work/out" || fail "it did not begin: $(cat "$work/out" "$work/err")"
saw "2 of 2 spawns of 2 answered right"
saw "first: 0"
saw "nothing left in the VM"
eventually 10 no_clones || fail "clones are left of the first: $("$sfctl" ps)"
before=$(descriptors)
echo go >&5
eventually 250 grep -q "^over" "$work/out" || fail "it did not end: $(cat "$work/out" "$work/err")"
saw "50 of 50 spawns of 1 answered right"
saw "spawns: 0"
saw "1 of 1 spawns of 1 answered right"
saw "deep: 0"
[ "$(grep -c "^nothing left in the VM" "$work/out")" = 2 ] || fail "something is left: $(cat "$work/out")"
eventually 10 no_clones || fail "clones are left: $("$sfctl" ps)"
back() { [ "$(descriptors)" -le "$before" ]; }
eventually 10 back || fail "$before descriptors on the hosts before, $(descriptors) after"
"$sfctl" show h1.1 --json >"$work/show" || fail "sfctl show"
[ "$(jq -c '.tickets' "$work/show")" = "[]" ] || fail "tickets are left: $("$sfctl" show h1.1)"
echo go >&5
wait $child || fail "exit status $?: $(cat "$work/out" "$work/err")"
