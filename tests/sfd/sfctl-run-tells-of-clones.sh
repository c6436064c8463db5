#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `sfctl run` prints a line per clone where that is wanted, and writes the record whole.
. "$(dirname "$0")/sfctl-lib.sh"
up || fail "up: $(cat "$here/up.err")"

"$sfctl" run --progress --json "$here/record" -- clones </dev/null >"$here/out" 2>"$here/err"
expect status $? 0
expect 'output of a clone' "$(cat "$here/out")" 'from clone 2'
has boot "$here/err" '^VM h1.1: up after [0-9.]+ m?s$'
has ticket "$here/err" '^ticket for 2 of 3 clones after 12 ms: 1 on h1, 1 on h2$'
has pause "$here/err" '^cloned: parent paused for 9.2 ms, descriptor 390 KB$|^cloned: parent paused for 9.2 ms, descriptor 391 KB$'
has answer "$here/err" '^clone 2 on h2: running 42 ms, answered 63 ms$'
has end "$here/err" '^clone 2 on h2: exited with 0; 7 page faults, 5 pages \(20.0 KB\) fetched$'
has loss "$here/err" '^clone 1 on h1: lost: its host is gone; 0 page faults'
has join "$here/err" '^joined 3.0 ms after the last one ended$'
expect record "$(jq -c . "$here/record" 2>/dev/null || tr -d ' \n' <"$here/record")" '{"clones":[{"n":3,"granted":2}]}'
expect 'no temporary files' "$(echo "$here"/record*)" "$here/record"

"$sfctl" run -- clones </dev/null >/dev/null 2>"$here/err"
expect 'nothing where no terminal is' "$(cat "$here/err")" ''
script -qec "'$sfctl' run -- clones" /dev/null </dev/null >"$here/out"
has 'lines on a terminal' "$here/out" '^clone 2 on h2: running'
script -qec "'$sfctl' run --quiet -- clones" /dev/null </dev/null >"$here/out"
hasnt 'quiet on a terminal' "$here/out" '^clone 2 on h2: running'

script -qec "timeout -s INT 5 '$sfctl' run -n --name never -- x" /dev/null </dev/null >"$here/out"
has 'what a boot waits for, on a terminal' "$here/out" 'VM h1.1: waiting for its kernel and agent, [0-9.]+ s'
timeout -s INT 4 "$sfctl" run -n --progress --name never -- x >/dev/null 2>"$here/err"
hasnt 'and only there' "$here/err" 'waiting for'

"$sfctl" run --json "$here/no/record" -- clones </dev/null 2>"$here/err"
expect 'a record that cannot be written' $? 125
hasnt 'found out before the VM is booted' "$here/err" 'booted'
done_testing
