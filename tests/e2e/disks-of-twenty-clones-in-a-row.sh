#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Twenty clones, one after the other, with something written before each: all find what was there at
# their instant, and the parent's layers stay few.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
cluster 2 --mem-per-host 2G
scratch disk 64M
mkfifo "$work/in"
timeout 240 "$sfctl" run --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" \
	-- sh -c './guest-disk chain 20; cat' <"$work/in" >"$work/out" 2>"$work/err" &
child=$!
exec 7>"$work/in"
eventually 230 grep -q . "$work/out" || fail "no end: $(cat "$work/err")"
saw "all right"
layers() { "$sfctl" show --json h1.1 | grep -o '"layers": [0-9]*' | grep -o '[0-9]*'; }
few() { [ "$(layers)" -le 6 ]; }
eventually 20 few || fail "after twenty clones there are $(layers) layers"
echo "layers: $(layers)"
exec 7>&-
wait $child || fail "it ended with $?: $(cat "$work/err")"
