#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two clusters on one machine, with VMs under the same addresses: neither sees the other's VMs, and
# the end of one is nothing to the other.
. "$(dirname "$0")/lib.sh"
first=$SNOWFLOCK_CLUSTER second=$SNOWFLOCK_CLUSTER-b
cluster 2 --mem-per-host 1G
"$sfctl" -C "$second" cluster up --hosts 2 --guest "$guestdir" --mem-per-host 1G >"$work/up2" 2>&1 || fail "$(cat "$work/up2")"
trap 'status=$?; "$sfctl" -C "$second" cluster down >/dev/null 2>&1; (exit $status); end' EXIT

both='
	echo start
	id=$(sf clone 2)
	[ "$id" -gt 0 ] && { sleep 2; sf exit "$id"; }
	sf join
	sf info'
timeout 120 "$sfctl" -C "$second" run --mem 256M -- sh -c "$both" >"$work/out2" 2>"$work/err2" </dev/null &
child2=$!
run --mem 256M -- sh -c "$both" &
child=$!
clones() { "$sfctl" -C "$1" ps --json | grep -o '"kind": *"clone"' | wc -l; }
two() { [ "$(clones "$1")" = 2 ]; }
eventually 60 two "$first" || fail "not 2 clones in the first: $("$sfctl" -C "$first" ps)"
eventually 60 two "$second" || fail "not 2 clones in the second: $("$sfctl" -C "$second" ps)"
[ "$(clones "$first")" -le 2 ] || fail "the first cluster sees more than its own"
wait $child2 || fail "the second cluster's command failed: $(cat "$work/out2" "$work/err2")"
grep -q "exited with status 2" "$work/out2" || fail "the second cluster's clones: $(cat "$work/out2")"
wait $child || fail "the first cluster's command failed: $(cat "$work/out" "$work/err")"
saw "exited with status 2"
"$sfctl" -C "$second" cluster down >/dev/null || fail "cluster down"
must 0 --mem 256M -- sh -c 'id=$(sf clone 2); [ "$id" -gt 0 ] && sf exit 0; sf join'
