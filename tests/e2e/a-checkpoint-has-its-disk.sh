#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Clones of a checkpoint find the disk as it was then, on 2 hosts, twice: the parent has written
# since, over all of it, and its layers were merged.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
cluster 2 --mem-per-host 2G
scratch disk 64M
must 0 --mem 192M --image "$work/disk" "${booted[@]}" --put "$here/guest-disk" -- ./guest-disk checkpoint 4
saw "all right"
