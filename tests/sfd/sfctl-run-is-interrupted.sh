#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Ctrl-C goes to the command, a second one and SIGTERM end the VM; SIGKILL ends the connection.
. "$(dirname "$0")/sfctl-lib.sh"
up || fail "up: $(cat "$here/up.err")"

# start COMMAND…: sfctl run in the background, until the command runs
start() {
	: >"$here/out"
	set -m	# or it would ignore SIGINT
	"$sfctl" run -n "$@" >"$here/out" 2>"$here/err" &
	pid=$!
	set +m
	eventually "$* runs" grep -q ready "$here/out"
}

# ended WHAT STATUS
ended() {
	wait "$pid"
	expect "$1" $? "$2"
}

start trap
kill -INT "$pid"
ended 'the first Ctrl-C' 42
has 'the first Ctrl-C' "$here/out" '^signal 2$'

start stubborn
kill -INT "$pid"
eventually 'the first is ignored' grep -q '^no' "$here/out"
kill -INT "$pid"
ended 'the second Ctrl-C' 130

start stubborn
kill -TERM "$pid"
ended SIGTERM 130

expect 'each VM is destroyed' "$(grep -c '^destroyed' "$FAKE_LOG")" 3

: >"$FAKE_LOG"
start stubborn
kill -KILL "$pid"
wait "$pid" 2>/dev/null
eventually 'the daemon learns of SIGKILL' grep -q '^connection ended' "$FAKE_LOG"

# while it boots
: >"$FAKE_LOG"
set -m
"$sfctl" run -n --name never -- echo x >"$here/out" 2>"$here/err" &
pid=$!
set +m
eventually boots grep -q '^booted' "$FAKE_LOG"
kill -INT "$pid"
ended 'Ctrl-C while it boots' 130
eventually 'the daemon learns of it' grep -q '^connection ended' "$FAKE_LOG"
done_testing
