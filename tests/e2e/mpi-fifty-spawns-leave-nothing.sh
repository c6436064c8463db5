#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A program spawns fifty times, then from spawned processes: each answer is right, and no clone, process,
# socket or descriptor stays, neither in the VM nor on the hosts.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 2 --mem-per-host 2G
timeout 600 "$sfctl" run --no-stdin --mem 256M "${mpi[@]}" -- sh -c '
	echo begins
	sf-mpirun --here -n 1 spawn-many 50 2; echo "spawns: $?"
	sf-mpirun --here -n 1 spawn-many 2 1 3; echo "deep: $?"
	mpi-left
	echo over
	sleep 100' >"$work/out" 2>"$work/err" &
child=$!
eventually 120 grep -q "^begins" "$work/out" || fail "it did not begin: $(cat "$work/err")"
before=$(descriptors)
eventually 500 grep -q "^over" "$work/out" || fail "it did not end: $(cat "$work/out" "$work/err")"
saw "50 of 50 spawns of 2 answered right"
saw "spawns: 0"
saw "2 of 2 spawns of 1 answered right"
saw "deep: 0"
saw "nothing left in the VM"
eventually 10 no_clones || fail "clones are left: $("$sfctl" ps)"
back() { [ "$(descriptors)" -le $((before + 8)) ]; }
eventually 10 back || fail "$before descriptors on the hosts before, $(descriptors) after"
"$sfctl" show h1.1 --json | jq -e '.tickets | length == 0' >/dev/null || fail "tickets are left: $("$sfctl" show h1.1)"
"$sfctl" kill h1.1 || fail "sfctl kill"
wait $child
