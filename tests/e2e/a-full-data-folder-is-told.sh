#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The data folder fills up: clones are refused with a sentence before anything starts, a guest that
# writes on gets an I/O error and lives, and when there is room again all goes on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
mkdir "$work/data"
mount -t tmpfs -o size=96M none "$work/data" 2>/dev/null || { echo "skipped: no tmpfs"; exit 77; }
trap 'status=$?; umount -l "$work/data"; (exit $status); end' EXIT
cluster 1 --mem-per-host 1G --data "$work/data"
scratch disk 256M
mkfifo "$work/in"
timeout 200 "$sfctl" run --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" -- \
	./guest-disk full 4 <"$work/in" >"$work/out" 2>"$work/err" &
child=$!
exec 7>"$work/in"
eventually 90 grep -q "^begun" "$work/out" || fail "no VM: $(cat "$work/err")"

# below what VMs are left to write, and still some room
fallocate -l 80M "$work/data/filler" || fail "no filler"
echo clone >&7
eventually 60 grep -q "^refused" "$work/out" || fail "clones: $(cat "$work/out" "$work/err")"
grep "^refused" "$work/out" | grep -qF "left in $work/data" || fail "no sentence: $(cat "$work/out")"
[ "$(disk_processes | wc -l)" = 1 ] || fail "something was started"

# no room at all
echo write >&7
eventually 60 grep -q "^error" "$work/out" || fail "no error: $(cat "$work/out" "$work/err")"

rm "$work/data/filler"
echo again >&7
wait $child || fail "it ended with $?: $(cat "$work/out" "$work/err")"
saw "all right"
