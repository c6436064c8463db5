#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Ctrl-C while a disk is exported: the copy ends, no file is left, and the next export works at once.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
export SF_LOG=info
cluster 1 --mem-per-host 1G
mkdir "$work/to"
head -c 64M /dev/urandom >"$work/disk"
timeout 120 "$sfctl" run --mem 192M --image "$work/disk" "${booted[@]}" -- sh -c 'echo up; sleep 1000' \
	>"$work/out" 2>"$work/err" </dev/null &
child=$!
eventually 60 grep -q up "$work/out" || fail "no VM: $(cat "$work/err")"
server=$(disk_processes)
read -r daemon _ <"$rundir/h1/sfd.pid"
# holds PROCESS: it has a file without a name where the image is to be
holds() { [[ $(ls -l "/proc/$1/fd") == *" $work/to/"* ]]; }
holds_none() { ! holds "$1"; }

# the server is held, so that the copy cannot be over before it is given up
kill -STOP "$server"
"$sfctl" export h1.1 "$work/to/first" 2>"$work/why" &
export=$!
eventually 10 holds "$daemon" || fail "no export begins: $(cat "$work/why")"
kill -INT $export
wait $export
[ $? = 130 ] || fail "it was not interrupted: $(cat "$work/why")"
eventually 10 holds_none "$daemon" || fail "the daemon keeps the file"
"$sfctl" export h1.1 "$work/to/second" 2>"$work/why" &
export=$!
eventually 10 holds "$daemon" || fail "no second export begins: $(cat "$work/why")"
kill -CONT "$server"
wait $export || fail "the second export: $(cat "$work/why")"
cmp "$work/disk" "$work/to/second" || fail "the second is not what the disk is"
[ "$(ls -A "$work/to")" = second ] || fail "files: $(ls -A "$work/to")"
holds_none "$server" || fail "the disk's server keeps a file"
grep -q "given up" "$rundir/h1/sfd.log" || fail "the first copy ran on"
"$sfctl" kill h1.1
wait $child
true
