#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A spawned rank that aborts, exits without MPI_Finalize() or is killed, a clone that the operator kills,
# a host that is lost: the program ends with an error, soon, and nothing is left.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 3 --mem-per-host 2G
run --mem 256M "${mpi[@]}" -- sh -c '
	for how in abort exit kill; do
		timeout 60 sf-mpirun --here -n 1 worker-abort $how 2; echo "$how: $?"
		mpi-left
	done
	for what in clone host; do
		echo "now the $what"
		timeout 60 sf-mpirun --here -n 1 worker-abort wait 3; echo "$what lost: $?"
		mpi-left
	done
	for what in clone; do
		echo "ranks on clones"
		timeout 60 sf-mpirun -n 3 sh -c "sleep 100"; echo "rank lost: $?"
		mpi-left
	done' &
child=$!
there() { sed -n "/^$1/,\$p" "$work/out" | grep -q "$2"; }
eventually 150 there "now the clone" "workers are there" || fail "no workers: $(cat "$work/out" "$work/err")"
"$sfctl" kill "$("$sfctl" ps --json | jq -r '[.[] | select(.kind == "clone" and .state == "running")][0].id')" ||
	fail "sfctl kill: $("$sfctl" ps)"
eventually 60 there "now the host" "workers are there" || fail "the clone: $(cat "$work/out" "$work/err")"
read -r pid _ <"$rundir/h3/sfd.pid"
kill -9 "$pid"
eventually 60 there "ranks on clones" "." || fail "the host: $(cat "$work/out" "$work/err")"
three() { [ "$("$sfctl" ps --json | jq '[.[] | select(.kind == "clone" and .state == "running")] | length')" = 3 ]; }
eventually 60 three || fail "no three clones: $("$sfctl" ps)"
"$sfctl" kill "$("$sfctl" ps --json | jq -r '[.[] | select(.kind == "clone" and .state == "running")][0].id')"
wait $child || fail "exit status $?: $(cat "$work/out" "$work/err")"
saw "abort: 42"
for what in exit kill "clone lost" "host lost" "rank lost"; do
	status=$(sed -n "s/^$what: //p" "$work/out")
	[ -n "$status" ] && [ "$status" != 0 ] && [ "$status" != 124 ] ||
		fail "$what: status $status: $(cat "$work/out" "$work/err")"
done
! grep -q "the manager goes on" "$work/out" || fail "the manager did not hear of it"
[ "$(grep -c "nothing left in the VM" "$work/out")" = 6 ] || fail "something is left: $(cat "$work/out")"
eventually 10 no_clones || fail "clones are left: $("$sfctl" ps)"
