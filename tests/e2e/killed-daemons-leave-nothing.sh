#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Daemons are killed at one moment after another of clone operations: their VMs go with them, the
# others' daemons go on, and `sfctl clean` removes the rest.
. "$(dirname "$0")/lib.sh"
qemus() { local p n=0; for p in $(family); do case $(cat "/proc/$p/comm" 2>/dev/null) in qemu*|sf-memtap) n=$((n+1));; esac; done; echo $n; }
none() { [ "$(qemus)" = 0 ]; }
for delay in 0 0.05 0.2 0.6; do
	cluster 3 --mem-per-host 2G
	: >"$work/out"
	timeout 120 "$sfctl" run --mem 256M -- sh -c '
		while :; do
			echo again
			id=$(sf clone 6)
			[ "$id" -gt 0 ] && sf exit 0
			sf join
		done' >"$work/out" 2>"$work/err" </dev/null &
	child=$!
	eventually 60 grep -q "^again" "$work/out" || fail "it did not start: $(cat "$work/err")"
	sleep "$delay"
	read -r pid _ <"$rundir/h2/sfd.pid"
	kill -9 "$pid"
	sleep 0.3
	kill -0 $child || fail "the VM did not outlive another host: $(cat "$work/err")"
	for h in h1 h3; do
		read -r pid _ <"$rundir/$h/sfd.pid"
		kill -9 "$pid"
	done
	wait $child
	eventually 10 none || fail "after $delay s: VMs outlived their daemons: $(ps -o pid=,args= -p "$(family | paste -sd,)")"
	"$sfctl" clean >"$work/clean" || fail "sfctl clean: $(cat "$work/clean")"
	eventually 5 nothing_left || nothing_left
done
