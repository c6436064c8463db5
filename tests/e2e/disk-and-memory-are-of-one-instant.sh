#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A program writes to memory and to the disk, as fast as it can, while it is cloned again and again:
# in each clone, on 2 hosts, both agree. The daemon is stopped most of the time, so that what it did
# once the guest runs again would come late; and without the kernel module the guest writes again at
# once. What clones write stays theirs.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
flicker=
# the daemon runs as it wants to, from here on
unflicker()
{
	[ -z "$flicker" ] && return
	kill "$flicker"
	wait "$flicker" 2>/dev/null
	kill -CONT "$daemon"
	flicker=
}
trap 'status=$?; unflicker; (exit $status); end' EXIT
cluster 2 --mem-per-host 2G
scratch disk 64M
mkfifo "$work/in"
timeout 240 "$sfctl" run --append "panic_on_warn=1 oops=panic" --json "$work/record.json" --mem 192M \
	--cpus 2 --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" \
	-- sh -c 'rmmod snowflock && exec ./guest-disk instant 3' <"$work/in" >"$work/out" 2>"$work/err" &
child=$!
exec 7>"$work/in"
eventually 100 grep -q begun "$work/out" || fail "no VM: $(cat "$work/err")"
daemon=$(cut -d' ' -f1 "$rundir/h1/sfd.pid")
mkfifo "$work/never"
exec 9<>"$work/never"
(
	trap - EXIT
	while kill -STOP "$daemon"; do
		read -rt 0.015 <&9
		kill -CONT "$daemon"
		read -rt 0.001 <&9
	done
) &
flicker=$!
echo go >&7
wait $child || fail "it ended with $?: $(cat "$work/out" "$work/err")"
unflicker
saw "all right"
grep -q '"disk_ms": [0-9]' "$work/record.json" || fail "the record does not tell what the disk took"
must 0 --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" -- ./guest-disk own 4
saw "all right"
tr -d '\0' <"$work/disk" | cmp -s - /dev/null || fail "somebody wrote to the image"
