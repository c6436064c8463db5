#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Pages go through a tree of hosts. The sf-memtap of the host that relays them is killed, again and
# again: every clone is right. Then that host is killed: its clones are lost, all others are right.
. "$(dirname "$0")/lib.sh"
cluster 5 --mem-per-host 2G --distribution=tree

# The first host of the ticket that is not home has two below it.
relay=h2
relays() { [ -n "$(pids $relay sf-memtap)" ]; }
cloning() { grep -q "round $1: cloning" "$work/out"; }
mode() { jq -r '.clones[0].mode' "$work/record.json"; }

run --mem 256M --put "$here/guest-memory" -- ./guest-memory 5 60 3 &
child=$!
killed=0
for round in 0 1 2; do
	eventually 60 cloning $round || fail "it does not clone: $(cat "$work/out" "$work/err")"
	eventually 20 relays || fail "there is no sf-memtap on $relay"
	for pid in $(pids $relay sf-memtap); do
		kill -9 "$pid" && killed=$((killed + 1))
	done
done
wait $child || fail "the clones were not right: $(cat "$work/out" "$work/err")"
saw "all right"
[ "$(mode)" = tree ] || fail "the pages did not go through a tree, but by $(mode)"
[ $killed -ge 3 ] || fail "it was killed $killed times"

running() { grep -q "clone [0-9]* on $relay: running" "$work/err"; }
run --progress --mem 256M --put "$here/guest-memory" -- ./guest-memory 5 100 1 1 &
child=$!
eventually 60 running || fail "no clone runs on $relay: $(cat "$work/out" "$work/err")"
read -r pid _ <"$rundir/$relay/sfd.pid"
kill -9 "$pid"	# all of the host's ends with it
wait $child || fail "the clones on other hosts were not right: $(cat "$work/out" "$work/err")"
saw "round 0: 4 of 5 right, 1 lost"
