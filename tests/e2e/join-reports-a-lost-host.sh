#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A host's daemon is killed while its clones run: sf_join() returns, says who is lost, the others'
# results are there, and nothing of the lost host is left running.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G
run --mem 256M -- sh -c '
	id=$(sf clone 6)
	if [ "$id" -gt 0 ]; then
		xenstore-write test/here 1
		sleep 4
		sf exit 0
	fi
	echo cloned
	sf join
	sf info' &
child=$!
eventually 60 grep -q "^cloned" "$work/out" || fail "it did not clone: $(cat "$work/err")"
read -r pid _ <"$rundir/h2/sfd.pid"
kill -9 "$pid"
wait $child
[ "$(grep -c "exited with status 0" "$work/out")" = 4 ] || fail "not 4 clones exited: $(cat "$work/out" "$work/err")"
[ "$(grep -c " lost" "$work/out")" -ge 2 ] || fail "not 2 clones were reported lost: $(cat "$work/out")"
