#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Daemons are killed while clones read and write their disks, and one is exported: servers of disks
# go with them, and no file is left, in the data folder or where the image was to be.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
mkdir "$work/data" "$work/to"
head -c 64M /dev/urandom >"$work/raw"
qemu-img convert -O qcow2 "$work/raw" "$work/disk"
cluster 2 --mem-per-host 2G --data "$work/data"
timeout 120 "$sfctl" run --mem 192M --image "$work/disk" "${booted[@]}" -- sh -c '
	id=$(sf clone 4)
	echo "$id is there"
	while :; do
		dd if=/dev/urandom of=/dev/vda bs=64k count=64 oflag=direct
		dd if=/dev/vda of=/dev/null bs=64k iflag=direct
	done 2>/dev/null' >"$work/out" 2>"$work/err" </dev/null &
child=$!
all_there() { [ "$(grep -c "is there" "$work/out")" = 5 ]; }
eventually 90 all_there || fail "they are not all there: $(cat "$work/out" "$work/err")"
[ "$(disk_processes | wc -l)" -ge 5 ] || fail "where are the servers of disks?"
no_data "$work/data" && fail "no layers in the data folder"
"$sfctl" export h1.1 "$work/to/disk" 2>"$work/why" &
export=$!
for h in h2 h1; do
	read -r pid _ <"$rundir/$h/sfd.pid"
	kill -9 "$pid"
	sleep 0.1
done
wait $export
wait $child
none() { [ -z "$(disk_processes)$(pids h1 qemu-system-x86)$(pids h2 qemu-system-x86)" ]; }
eventually 10 none || fail "they outlived their daemons: $(ps -o pid=,args= -p "$(family | paste -sd,)")"
eventually 10 no_data "$work/data" || fail "something is left in the data folder"
# all of the image, or nothing
[ -z "$(ls -A "$work/to")" ] || [ "$(stat -c %s "$work/to/disk")" = $((64 << 20)) ] || fail "half an image"
"$sfctl" clean >"$work/clean" || fail "sfctl clean: $(cat "$work/clean")"
eventually 5 nothing_left || nothing_left
grep -F -e "$work" -e "sf-$SNOWFLOCK_CLUSTER-" /proc/mounts && fail "mounts are left"
true
