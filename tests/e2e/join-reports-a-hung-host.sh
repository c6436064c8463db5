#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A daemon hangs: its kernel goes on answering, but it is lost all the same, and sf_join() returns.
# When it wakes up it harms nobody, ends what it still had, and takes clones again.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G
run --mem 256M -- sh -c '
	id=$(sf clone 6)
	if [ "$id" -gt 0 ]; then
		sleep 4
		sf exit 0
	fi
	echo cloned
	sf join
	sf info' &
child=$!
eventually 60 grep -q "^cloned" "$work/out" || fail "it did not clone: $(cat "$work/err")"
read -r pid _ <"$rundir/h2/sfd.pid"
kill -STOP "$pid"
wait $child
kill -CONT "$pid"
[ "$(grep -c "exited with status 0" "$work/out")" = 4 ] || fail "not 4 clones exited: $(cat "$work/out" "$work/err")"
[ "$(grep -c " lost" "$work/out")" -ge 2 ] || fail "not 2 clones were reported lost: $(cat "$work/out")"
grep -q "does not answer" "$rundir/h1/sfd.log" || fail "the log does not say why"

whole() { [ "$("$sfctl" hosts --json | grep -o '"state": *"up"' | wc -l)" = 3 ]; }
alone() { [ "$("$sfctl" ps --json | grep -o '"kind"' | wc -l)" = 0 ]; }
eventually 20 whole || fail "the host is not back: $("$sfctl" hosts)"
eventually 10 alone || fail "clones of a VM that is gone: $("$sfctl" ps)"
must 0 --mem 256M -- sh -c 'id=$(sf clone 6); [ "$id" -gt 0 ] && sf exit 0; sf join; sf info'
[ "$(grep -c "exited with status 0" "$work/out")" = 6 ] || fail "not 6 clones: $(cat "$work/out" "$work/err")"
