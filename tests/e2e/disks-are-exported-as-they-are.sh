#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The disks of a VM and of its clones, two each, are exported equal to what they are inside; an
# interrupted export leaves nothing; kill -9 of a disk's server ends the VM with a sentence, that of
# its page server is made good; and in the end nothing is left in the data folder.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
mkdir "$work/data"
cluster 2 --mem-per-host 2G --data "$work/data"
head -c 8M /dev/urandom >"$work/one"
head -c 4M /dev/urandom >"$work/two.raw"
qemu-img convert -O qcow2 "$work/two.raw" "$work/two"
sum=$(sha256sum <"$work/one")
# each VM writes where its ID says, and tells what it has then; a clone waits for its page server
# to have been killed
guest='id=$(sf clone 2); for d in a b; do
	yes "$id $d" | dd of=/dev/vd$d bs=4k seek=$((id * 2)) count=3 conv=notrunc iflag=fullblock 2>/dev/null
	sync; echo "$id $d $(sha256sum </dev/vd$d)"
done; sleep 1000'
timeout 240 "$sfctl" run --mem 192M --image "$work/one" --image "$work/two" "${booted[@]}" \
	-- sh -c "$guest" >"$work/out" 2>"$work/err" </dev/null &
child=$!
cloned() { [ -n "$(pids h2 sf-memtap)" ]; }
eventually 90 cloned || fail "no clone on h2: $(cat "$work/err")"
for pid in $(pids h1 sf-memtap) $(pids h2 sf-memtap); do kill -9 "$pid"; done
told() { [ "$(wc -l <"$work/out")" = 6 ]; }
eventually 120 told || fail "they do not all tell: $(cat "$work/out" "$work/err")"

# same VM DISK ID: what was exported is what ID said of it
same()
{
	"$sfctl" export --disk "$2" "$1" "$work/exported" || fail "export of $1"
	read -r _ _ want _ < <(grep "^$3 $([ "$2" = 0 ] && echo a || echo b) " "$work/out")
	[ "$(sha256sum <"$work/exported")" = "$want  -" ] || fail "disk $2 of $1 is not what it is inside"
	rm "$work/exported"
}
for disk in 0 1; do
	same h1.1 $disk 0
	same h1.1/1 $disk 1
	same h1.1/2 $disk 2
done
touch "$work/there"
"$sfctl" export h1.1 "$work/there" 2>"$work/why" && fail "it wrote over a file"
grep -q "is there already" "$work/why" || fail "it does not say why: $(cat "$work/why")"
"$sfctl" export --disk 3 h1.1 "$work/no" 2>"$work/why" && fail "there is no disk 3"
"$sfctl" show h1.1 | grep -q layers || fail "show does not tell of disks"

kill -9 "$(disk_processes | head -1)"
ended() { ! kill -0 $child 2>/dev/null; }
"$sfctl" kill h1.1 2>/dev/null
eventually 20 ended || fail "the VM outlived itself"
# the daemon keeps what it unpacked, for the next VM with that image
eventually 10 has_files "$work/data" 1 || fail "more than the unpacked image is left in the data folder"
[ "$sum" = "$(sha256sum <"$work/one")" ] || fail "somebody wrote to the image"
[ -z "$(disk_processes)" ] || fail "servers of disks are left"

timeout 60 "$sfctl" run --mem 192M --image "$work/one" "${booted[@]}" -- sh -c 'echo up; sleep 1000' \
	>"$work/out" 2>"$work/err" </dev/null &
child=$!
eventually 50 grep -q up "$work/out" || fail "no VM: $(cat "$work/err")"
kill -9 "$(disk_processes)"
wait $child
grep -q "the server of its disk 0 (nbdkit) was killed" "$work/err" || fail "no word: $(cat "$work/err")"
