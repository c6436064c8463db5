#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What a clone reads of a disk on another host than its parent's is memory there: the host shows
# less for guests, refuses a VM that would have had room, and has it all again in the end.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
cluster 2 --mem-per-host 512M
head -c 128M /dev/urandom >"$work/disk"
timeout 240 "$sfctl" run --mem 192M --image "$work/disk" "${booted[@]}" -- sh -c '
	[ "$(sf clone 2)" = 0 ] || { dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null; echo read; }
	sleep 1000' >"$work/out" 2>"$work/err" </dev/null &
child=$!

# free: of h2, in MB
free()
{
	"$sfctl" hosts --json | tr -d ' \n' | grep -o '"name":"h2"[^}]*' |
		sed 's/.*"mem_free_bytes":\([0-9]*\).*/\1/' | awk '{ print int($1 / 1048576) }'
}
all_read() { [ "$(grep -c read "$work/out")" = 2 ]; }
eventually 200 all_read || fail "they do not read: $(cat "$work/out" "$work/err")"
left=$(free)
echo "$left of 512 MB are left on h2"
# a clone of 192 MB counts 48 MB, and some for its window
[ "$left" -le $((512 - 48 - 128)) ] && [ "$left" -ge $((512 - 48 - 128 - 16)) ] || fail "$left MB"
timeout 60 "$sfctl" run --host h2 --mem $((left + 32))M -- true 2>"$work/why" </dev/null &&
	fail "a VM was taken that has no room"
grep -q "has $left MB left for guests" "$work/why" || fail "no sentence: $(cat "$work/why")"
kill -INT $child
wait $child
again() { [ "$(free)" = 512 ]; }
eventually 30 again || fail "in the end there are $(free) MB"
