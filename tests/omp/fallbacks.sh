#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A region that cannot be done in copies is done by the parent, whose memory is as it was, and the report says why.
. "$(dirname "$0")/lib.sh"
compile fallbacks "$here/fallbacks.c" -O1

# told NAME REASON: the result is right, and the report has the reason.
told() {
	cmp -s "$work/plain.out" "$work/away.out" || { diff "$work/plain.out" "$work/away.out"; fail "$1: other output"; }
	grep -q "libsfomp: .*: here, .*: $2" "$work/away.err" ||
		{ cat "$work/away.err"; fail "$1: the report does not say \"$2\""; }
}

comes_back() {
	plain 3 fallbacks "$1" || fail "$1 on plain libgomp"
	away 3 fallbacks "$1" || fail "$1: status $?: $(cat "$work/away.err")"
	told "$1" "$2"
}

# child PID [STATES]: a child of a process, when it has one, in one of these states.
child() {
	local tries

	for tries in $(seq 1 200); do
		pgrep -P "$1" -r "${2-R,S,D}" | head -n 1 | grep . && return
		sleep 0.02
	done
}

comes_back conflict 'conflict'
comes_back open 'system call'
comes_back rand 'a state in the C library'
comes_back crash 'a member crashed'
comes_back doacross 'construct'
comes_back threads 'the program has threads of its own'
comes_back shared 'shared memory'

# What threads keep is kept, wherever their regions run.
compile threadprivate "$here/threadprivate.c" -O2
plain 3 threadprivate || fail 'threadprivate on plain libgomp'
away 3 threadprivate || fail "threadprivate: status $?: $(cat "$work/away.err")"
cmp "$work/plain.out" "$work/away.out" || { cat "$work/away.err"; fail 'threadprivate: other output'; }
[ "$(grep -c 'in 3 clones' "$work/away.err")" = 3 ] || { cat "$work/away.err"; fail 'not every other one went away'; }

# A member is killed while it runs.
plain 3 fallbacks killed || fail 'killed on plain libgomp'
away 3 fallbacks killed &
job=$!
program=$(child "$(child "$job")")
child "$program" >/dev/null
sleep 1	# the others have ended: the one that takes its time runs
kill -9 "$(child "$program" R)" || fail 'there is no member'
wait "$job" || fail "killed: status $?: $(cat "$work/away.err")"
told killed 'a clone was lost'
