#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A hundred clones of a parent that is pinging, flooding and streaming: no frame leaves one under
# the parent's name, what they inherited from its network ends, and its own stream goes on.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 4G

# Watches all that guests send on every host, until unwatch.
watch_wires()
{
	local i
	watchers=
	rm -f "$work"/wire.*
	for i in 1 2 3; do
		ip netns exec "sf-$SNOWFLOCK_CLUSTER-h$i" "$here/wire-watch" "$work/wire.$i" &
		watchers="$watchers $!"
		eventually 10 test -e "$work/wire.$i" || fail "no watcher on host $i"
	done
}

# Sets $wrong to the frames under a wrong name.
unwatch_wires()
{
	local i frames said lost
	wrong=0
	kill $watchers
	wait $watchers
	for i in 1 2 3; do
		read -r _ frames _ said _ lost < <(tail -n 1 "$work/wire.$i")
		echo "host $i: $frames frames, $said under a wrong name, $lost not seen"
		[ "$frames" -gt 10 ] || fail "host $i: hardly a frame was seen"
		wrong=$((wrong + said))
	done
}

watch_wires
must 0 --mem 128M --put "$here/guest-network" -- ./guest-network 5 20
unwatch_wires
saw "100 of 100 right"
saw "stream goes on"
[ $wrong = 0 ] || { head -n 20 "$work"/wire.*; fail "clones spoke as their parent"; }

# The watcher sees what the gate keeps in, and connections end because they are ended. Where the gate
# is open a clone lets out a frame or two, or by luck none.
for try in 1 2 3 4 5 6; do
	watch_wires
	run --mem 128M --put "$here/guest-network" -- sh -c \
		'cd /sys/module/snowflock/parameters && echo 0 >gate && echo 0 >connections &&
		exec /root/guest-network 1 6' && fail "nothing is wrong with the module's guards off"
	unwatch_wires
	grep -q "did not end" "$work/err" || fail "connections ended although nothing ended them"
	[ $wrong = 0 ] || break
done
[ $wrong -gt 0 ] || fail "no frame was wrong although the gate was open, $try times"
