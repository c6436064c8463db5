#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A program counts in memory and on the disk, as fast as it can, while it is cloned: in each of 4
# clones on 2 hosts both have come equally far. What clones write stays theirs, on 2 hosts as well.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
cluster 2 --mem-per-host 2G
scratch disk 64M
must 0 --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" -- ./guest-disk instant 4
saw "all right"
grep -q '"disk_ms": [0-9]' "$work/record.json" || fail "the record does not tell what the disk took"
must 0 --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" -- ./guest-disk own 4
saw "all right"
tr -d '\0' <"$work/disk" | cmp -s - /dev/null || fail "somebody wrote to the image"
