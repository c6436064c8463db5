#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The parent's host is lost, by kill -9 and by hanging: its clones on other hosts end, their hosts go on.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G
clones() { "$sfctl" ps --json 2>/dev/null | grep -o '"kind": *"clone"' | wc -l; }
none_on() {
	local p
	for p in $(family); do
		case $(cat "/proc/$p/comm" 2>/dev/null) in
		qemu*) grep -qz "^SF_HOST=$1\$" "/proc/$p/environ" 2>/dev/null && return 1 ;;
		esac
	done
	return 0
}
for how in STOP KILL; do
	run --mem 256M -- sh -c 'sf clone 6; sleep 100' &
	child=$!
	all() { [ "$(clones)" = 6 ]; }
	eventually 60 all || fail "there are no clones: $("$sfctl" ps)"
	none_on h2 && fail "no clone is on h2"
	read -r pid _ <"$rundir/h1/sfd.pid"
	kill -$how "$pid"
	eventually 15 none_on h2 || fail "SIG$how: clones on h2 outlive their parent"
	eventually 15 none_on h3 || fail "SIG$how: clones on h3 outlive their parent"
	kill -CONT "$pid" 2>/dev/null
	timeout 5 "$sfctl" kill h1.1 2>/dev/null
	wait $child
	[ $? = 125 ] || fail "SIG$how: sfctl run did not say that the VM is gone: $(cat "$work/err")"
done
