#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A region that cannot be done in copies is done by the parent, whose memory is as it was, and the report says why.
. "$(dirname "$0")/lib.sh"
compile fallbacks "$here/fallbacks.c" -O1

# comes_back NAME REASON
comes_back() {
	plain 3 fallbacks "$1" || fail "$1 on plain libgomp"
	away 3 fallbacks "$1" || { cat "$work/away.err"; fail "$1: status $?"; }
	cmp -s "$work/plain.out" "$work/away.out" || { diff "$work/plain.out" "$work/away.out"; fail "$1: other output"; }
	grep -q "libsfomp: .*: here, .*: $2" "$work/away.err" ||
		{ cat "$work/away.err"; fail "$1: the report does not say \"$2\""; }
}

comes_back conflict 'conflict'
comes_back open 'system call'
comes_back rand 'a state in the C library'
comes_back crash 'a member crashed'
comes_back doacross 'construct'
comes_back threads 'the program has threads of its own'
comes_back shared 'shared memory'

# one that is killed while it runs
(
	for _ in $(seq 1 100); do
		victim=$(pgrep -P "$(pgrep -f -n "^$work/fallbacks killed" 2>/dev/null || echo 1)" -f "$work/fallbacks killed" | head -n 1)
		[ -z "$victim" ] || { kill -9 "$victim" && break; }
		sleep 0.05
	done
) &
comes_back killed 'a clone was lost'
wait
