#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# After `sfctl run` was killed, after a daemon was, and after all were: nothing is left, or `sfctl
# clean` says what and removes it.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
qemus() { local p n=0; for p in $(family); do case $(cat "/proc/$p/comm" 2>/dev/null) in qemu*|sf-memtap) n=$((n+1));; esac; done; echo $n; }
some() { [ "$(qemus)" -ge "$1" ]; }
none() { [ "$(qemus)" = 0 ]; }

# the command's terminal is gone
timeout 120 "$sfctl" run --mem 256M -- sh -c 'sf clone 3; sleep 100' >"$work/out" 2>"$work/err" </dev/null &
child=$!
eventually 60 grep -q "^0" "$work/out" || fail "it did not clone: $(cat "$work/err")"
some 4 || fail "there are no clones"
pkill -9 -P $child -x sfctl || kill -9 $child
wait $child 2>/dev/null
eventually 10 none || fail "VMs outlived sfctl run"

# every daemon is killed
timeout 120 "$sfctl" run --mem 256M -- sh -c 'sf clone 3; sleep 100' >"$work/out" 2>"$work/err" </dev/null &
child=$!
eventually 60 grep -q "^0" "$work/out" || fail "it did not clone: $(cat "$work/err")"
for h in h1 h2; do
	read -r pid _ <"$rundir/$h/sfd.pid"
	kill -9 "$pid"
done
wait $child
[ $? = 125 ] || fail "sfctl run did not say that its daemon went away: $(cat "$work/err")"
eventually 10 none || fail "VMs outlived their daemons"
"$sfctl" clean >"$work/clean" || fail "sfctl clean: $(cat "$work/clean")"
# in a subshell: it ends at the first thing that is left
gone() { (nothing_left) >/dev/null; }
eventually 5 gone || nothing_left
