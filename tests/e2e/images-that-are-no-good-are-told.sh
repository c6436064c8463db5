#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An image that is missing, damaged, packed, of another format, without its backing file, or in use;
# a data folder without room: each is told in a sentence that names the file, before anything starts.
# An image that is no system shows what the BIOS says of it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
mkdir "$work/full"
mount -t tmpfs -o size=8M none "$work/full" 2>/dev/null && full=1
trap 'status=$?; umount -l "$work/full" 2>/dev/null; (exit $status); end' EXIT
cluster 1 --mem-per-host 1G

# bad SENTENCE IMAGE: it is refused so, at once, and nothing of a VM is left.
bad()
{
	timeout 20 "$sfctl" run --image "$2" -- true >"$work/out" 2>"$work/err" </dev/null
	[ $? = 125 ] || fail "$2 was taken"
	grep -q "$1" "$work/err" && grep -qF "$2" "$work/err" || fail "$2: $(cat "$work/err")"
	[ -z "$(pids h1 qemu-system-x86)$(disk_processes)" ] || fail "$2: something was started"
}
qemu-img create -q -f qcow2 "$work/qcow2" 16M
scratch random 4M
head -c 4M /dev/urandom >"$work/random"
qemu-img convert -O qcow2 "$work/random" "$work/whole"
head -c 3M "$work/whole" >"$work/cut"
printf 'QFI\373garbage%.0s' 1 2 3 4 5 6 7 8 9 >"$work/magic"
gzip -c "$work/qcow2" >"$work/packed"
qemu-img create -q -f vmdk "$work/vmdk" 16M
qemu-img create -q -f raw "$work/base" 16M
qemu-img create -q -f qcow2 -b "$work/base" -F raw "$work/child"
rm "$work/base"
mkfifo "$work/pipe"
: >"$work/empty"
bad "there is no" "$work/missing"
bad "cut short" "$work/cut"
bad "." "$work/magic"
bad "packed by gzip" "$work/packed"
bad "format is vmdk" "$work/vmdk"
bad "base" "$work/child"
bad "not a regular file" "$work/pipe"
bad "empty" "$work/empty"

# in use: somebody with QEMU's locks writes
scratch busy 16M
mkfifo "$work/io"
qemu-io -f raw "$work/busy" <"$work/io" >/dev/null 2>&1 &
writer=$!
exec 7>"$work/io"
locked() { grep -q ":$(stat -c %i "$work/busy") " /proc/locks; }
eventually 10 locked || fail "qemu-io has no locks"
bad "another program uses it" "$work/busy"
exec 7>&-
wait $writer

# and while we use it, nobody who respects them can write
timeout 60 "$sfctl" run --mem 192M --no-agent --image "$work/busy" >"$work/out" 2>"$work/err" </dev/null &
child=$!
eventually 30 grep -qi "boot" "$work/out" || fail "no word of the BIOS: $(cat "$work/out" "$work/err")"
qemu-io -f raw -c "write 0 4k" "$work/busy" >"$work/why" 2>&1 && fail "it could be written to"
grep -q "lock" "$work/why" || fail "not for a lock: $(cat "$work/why")"
kill -INT $child
wait $child
"$sfctl" cluster down >/dev/null

[ "${full-}" ] || exit 0
cluster 1 --mem-per-host 1G --data "$work/full"
scratch good 16M
timeout 20 "$sfctl" run --image "$work/good" -- true 2>"$work/err" </dev/null && fail "a full folder was taken"
grep -qF "MB left in $work/full" "$work/err" || fail "a full folder: $(cat "$work/err")"
