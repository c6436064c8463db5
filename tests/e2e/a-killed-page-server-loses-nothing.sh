#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every sf-memtap of the family is killed while clones check their memory: they wait, and are right.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
run --mem 256M --put "$here/guest-memory" -- ./guest-memory 4 60 3 &
child=$!
memtaps()
{
	local pid
	for pid in $(family); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sf-memtap ] && echo "$pid"
	done
}
two() { [ "$(memtaps | wc -l)" -ge 2 ]; }
killed=0
while kill -0 $child 2>/dev/null && [ $killed -lt 4 ]; do
	eventually 20 two || break
	sleep 1.5
	for pid in $(memtaps); do
		kill -9 "$pid" && killed=$((killed + 1))
	done
done
wait $child
status=$?
[ $killed -ge 2 ] || fail "nothing was killed"
[ $status = 0 ] || fail "the clones were not right: $(cat "$work/out" "$work/err")"
saw "all right"
grep -q "starting another" "$rundir"/h1/sfd.log || fail "no sf-memtap was started again"
