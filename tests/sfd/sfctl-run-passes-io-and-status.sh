#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The command of `sfctl run` has this terminal's streams, and sfctl its exit status.
. "$(dirname "$0")/sfctl-lib.sh"

run() { timeout 30 "$sfctl" run "$@"; }

up || fail "up: $(cat "$here/up.err")"

run -- echo one 'two words' >"$here/out" 2>"$here/err" </dev/null
expect 'status of success' $? 0
expect 'standard output' "$(cat "$here/out")" $'one\ntwo words'
expect 'standard error' "$(cat "$here/err")" 'on stderr'

run exit 7 </dev/null; expect 'status' $? 7
run killed 15 </dev/null; expect 'status by a signal' $? 143
run nosuch </dev/null; expect 'status of no command' $? 127
run --name refused -- echo x </dev/null 2>"$here/err"; expect 'status of a refusal' $? 125
has 'refusal' "$here/err" 'cannot boot the VM: no memory for the guests'
run 2>"$here/err" </dev/null; expect 'status of misuse' $? 125
run --mem 1x -- echo </dev/null 2>"$here/err"; expect 'status of a bad size' $? 125

# input: a pipe, a file, nothing, and more than any window
head -c 3000000 /dev/urandom >"$here/data"
run cat <"$here/data" >"$here/out"; expect 'cat of a file' $? 0
cmp "$here/data" "$here/out" || fail 'cat of a file: other bytes'
(head -c 1000000 "$here/data"; sleep 0.2; tail -c +1000001 "$here/data") | run cat >"$here/out"
cmp "$here/data" "$here/out" || fail 'cat of a pipe: other bytes'
expect 'cat of nothing' "$(run cat </dev/null)" ''
expect 'cat with --no-stdin' "$(yes | head -c 100000 | run -n cat)" ''
expect 'input stops at the window' "$(run full </dev/zero)" 262144
hasnt 'windows' "$FAKE_LOG" 'beyond|too much|more room'

# input is not waited for
mkfifo "$here/fifo"
sleep 60 >"$here/fifo" &
sleeper=$!
run echo done <"$here/fifo" >"$here/out" 2>&1; expect 'no wait for input' $? 0
kill $sleeper

# output: slow readers, readers that go away
expect 'a slow reader' "$(run flood 5000000 </dev/null | (sleep 0.3; wc -c))" 5000000
run flood 100000000000 </dev/null | head -c 1000 >/dev/null
expect 'a reader that goes away' "${PIPESTATUS[0]}" 141
has 'a reader that goes away' "$FAKE_LOG" '^signal 13$'

# environment, folder, terminal
run --env A=b=c --env PATH=/x env </dev/null >"$here/out"
has 'environment' "$here/out" '"env":\{"A":"b=c","PATH":"/x"\}'
has 'folder' "$here/out" '"cwd":"/root"'
has 'no terminal' "$here/out" '"tty":null'
run env </dev/null >"$here/out"
has 'path' "$here/out" '"PATH":"[^"]*/usr/bin:[^"]*:\."'
script -qec "stty rows 33 columns 101; '$sfctl' run -t env" /dev/null </dev/null >"$here/out"
has 'terminal' "$here/out" '"tty":\{"columns":101,"rows":33\}'

# the VM is gone after each of these
expect 'every VM is destroyed' "$(grep -c '^destroyed' "$FAKE_LOG")" "$(grep -c '^booted' "$FAKE_LOG")"
has 'default memory' "$FAKE_LOG" '^booted 536870912$'
run --ipv6 echo </dev/null >/dev/null
has 'IPv6' "$FAKE_LOG" '^booted 536870912 ipv6$'

run lost </dev/null 2>"$here/err"; expect 'status of a lost VM' $? 125
has 'lost VM' "$here/err" 'the VM ended: QEMU'
run vanish </dev/null 2>"$here/err"; expect 'status of a lost daemon' $? 125
has 'lost daemon' "$here/err" 'the daemon (ended the connection|was lost)'
run echo </dev/null 2>"$here/err"; expect 'status without a daemon' $? 125
has 'no daemon' "$here/err" 'sfctl clean'
done_testing
