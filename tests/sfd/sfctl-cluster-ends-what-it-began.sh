#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cluster up starts a daemon, or says why not and leaves nothing; cluster down ends it.
. "$(dirname "$0")/sfctl-lib.sh"
export LC_ALL=C
dir=$SF_RUN_DIR/$SNOWFLOCK_CLUSTER

up || fail "up: $(cat "$here/up.err")"
read -r pid start <"$dir/h1/sfd.pid"
lives "$pid" || fail 'no daemon'
expect 'its start' "$(cut -d' ' -f22 "/proc/$pid/stat")" "$start"
expect 'its session is its own' "$(cut -d' ' -f6 "/proc/$pid/stat")" "$pid"
expect 'its input' "$(readlink "/proc/$pid/fd/0")" /dev/null
expect 'its log' "$(readlink "/proc/$pid/fd/2")" "$dir/h1/sfd.log"
expect 'nobody else looks in' "$(stat -c %a "$dir")" 700
has 'its environment' "$FAKE_LOG" "^started $SNOWFLOCK_CLUSTER h1 mem=- SF_CLUSTER=$SNOWFLOCK_CLUSTER SF_HOST=h1$"
expect 'a key has 32 bytes' "$(stat -c %s "$here/key")" 32

"$sfctl" cluster list >"$here/out"
has 'the list' "$here/out" "^$SNOWFLOCK_CLUSTER +real +1 +1 +up"
expect 'the list as JSON' "$("$sfctl" cluster list --json | tr -d ' \n' | grep -o '"running":1,"state":"up"')" '"running":1,"state":"up"'
"$sfctl" hosts >"$here/out"; has hosts "$here/out" '^h1 .* up'
"$sfctl" ps >"$here/out"; has 'ps, with nothing that steers the terminal' "$here/out" '^h1.1  a\?\[2Jb .*512 MB.* 1 min 1 s$'
expect 'ps as JSON' "$("$sfctl" ps --json | tr -d ' \n' | grep -o '"pid":4711')" '"pid":4711'
"$sfctl" show h1.1 >"$here/out"; expect 'show' "$(cat "$here/out")" $'id: h1.1\nmem: 1.0 MB\ncounters:\n  faults: 3'
"$sfctl" show h1.9 2>"$here/err"; expect 'show of nothing' $? 1
has 'show of nothing' "$here/err" '^sfctl: there is no VM h1.9$'
"$sfctl" kill h1.1; expect kill $? 0
"$sfctl" kill h1.1 h1.9 2>/dev/null; expect 'kill of nothing' $? 1
"$sfctl" nonsense 2>"$here/err"; expect 'no such command' $? 2

up; expect 'up twice' $? 1
has 'up twice' "$here/up.err" 'up already'
"$sfctl" cluster down; expect down $? 0
has 'it is asked to end' "$FAKE_LOG" '^shutdown$'
! lives "$pid" || fail 'the daemon is still there'
[ ! -e "$SF_RUN_DIR" ] || fail "left: $(find "$SF_RUN_DIR")"
"$sfctl" cluster down 2>/dev/null; expect 'down twice' $? 1
"$sfctl" ps 2>"$here/err"; expect 'ps without a cluster' $? 1
has 'ps without a cluster' "$here/err" 'sfctl cluster up'

FAKE_START=fail up; expect 'a daemon that cannot' $? 1
has 'a daemon that cannot' "$here/up.err" '^sfctl: h1: the fuse is blown$'
has 'and its log' "$here/up.err" '\| a line of the log'
[ ! -e "$SF_RUN_DIR" ] || fail "left: $(find "$SF_RUN_DIR")"
FAKE_START=crash up; expect 'a daemon that crashes' $? 1
has 'a daemon that crashes' "$here/up.err" 'ended without a word'
[ ! -e "$SF_RUN_DIR" ] || fail "left: $(find "$SF_RUN_DIR")"
mv "$SF_LIBEXEC/sfd" "$here/sfd"
SF_LIBEXEC=/nonexistent up; expect 'no daemon' $? 1
has 'no daemon' "$here/up.err" 'cannot start .*sfd: No such file'
mv "$here/sfd" "$SF_LIBEXEC/sfd"

# a pid that is another's by now is not killed
up || fail "up: $(cat "$here/up.err")"
read -r pid start <"$dir/h1/sfd.pid"
kill -KILL "$pid"
dead() { ! lives "$pid"; }
eventually 'it is dead' dead
sleep 60 &
echo "$! 1" >"$dir/h1/sfd.pid"
"$sfctl" cluster list >"$here/out"; has 'a dead one' "$here/out" 'dead'
"$sfctl" cluster down; expect 'down of a dead one' $? 0
kill -0 $! || fail 'a stranger was killed'
kill $!

# one that does not end when asked
export FAKE_STAYS=1
up || fail "up: $(cat "$here/up.err")"
read -r pid start <"$dir/h1/sfd.pid"
timeout 40 "$sfctl" cluster down; expect 'down of one that stays' $? 0
! lives "$pid" || fail 'it stayed'
unset FAKE_STAYS

FAKE_VERSION=9 up
"$sfctl" ps >/dev/null 2>"$here/err"
has 'another version' "$here/err" 'speaks version 9, this sfctl 1'
"$sfctl" cluster down 2>/dev/null
"$sfctl" -C 'Bad/Name' cluster up --hosts 1 2>"$here/err"; expect 'a bad name' $? 2
"$sfctl" cluster up --hosts 0 2>"$here/err"; expect 'no hosts' $? 2
"$sfctl" cluster up --hosts 2 --host h1 2>"$here/err"; expect 'both kinds' $? 2
done_testing
