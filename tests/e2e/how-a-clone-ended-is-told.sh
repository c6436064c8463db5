#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The operator kills one clone, another one's QEMU is killed: the parent is told which is which.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
run --mem 256M -- sh -c '
	id=$(sf clone 3)
	if [ "$id" -gt 0 ]; then
		[ "$id" = 3 ] || sleep 100
		sleep 2
		sf exit 7
	fi
	echo cloned
	sf join
	sf info' &
child=$!
field() { "$sfctl" ps --json | python3 -c "
import json, sys
vms = json.load(sys.stdin)
vms = vms['vms'] if isinstance(vms, dict) else vms
for vm in vms:
    if vm['kind'] == 'clone' and vm['clone_id'] == $1 and vm['state'] == 'running':
        print(vm['$2'])"; }
runs() { [ -n "$(field "$1" id)" ]; }
eventually 60 grep -q "^cloned" "$work/out" || fail "it did not clone: $(cat "$work/err")"
eventually 10 runs 1 || fail "clone 1 does not run: $("$sfctl" ps)"
eventually 10 runs 2 || fail "clone 2 does not run: $("$sfctl" ps)"
vm=$(field 1 id)
"$sfctl" show "${vm%/*}" --json >"$work/show" || fail "sfctl show"
for word in tickets '"state": "running"' memory pages_served; do
	grep -q "$word" "$work/show" || fail "sfctl show lacks $word: $(cat "$work/show")"
done
"$sfctl" kill "$(field 1 id)" || fail "sfctl kill"
kill -9 "$(field 2 pid)"
! "$sfctl" kill h1.1/- 2>/dev/null || fail "sfctl kill took h1.1/- for a clone"
wait $child
grep -q "^ *1.*killed" "$work/out" || grep -q "clone 1.*killed" "$work/out" || fail "clone 1: $(cat "$work/out")"
grep -q "2.*lost.*QEMU was killed by signal 9" "$work/out" || fail "clone 2: $(cat "$work/out")"
grep -q "3.*exited with status 7" "$work/out" || fail "clone 3: $(cat "$work/out")"
