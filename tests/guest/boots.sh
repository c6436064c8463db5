#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest image boots under a plain QEMU and does what its agent is asked for, with a disk as well.
: "${SF_GUEST:?}"
command -v qemu-system-x86_64 >/dev/null || { echo 'qemu-system-x86_64 is missing'; exit 77; }
for file in vmlinuz initrd.img; do
	[ -r "$SF_GUEST/$file" ] || { echo "$SF_GUEST/$file is missing: make -C guest-image"; exit 77; }
done
timeout -k 5 300 ./boot-driver "$SF_GUEST/vmlinuz" "$SF_GUEST/initrd.img" || exit

dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/content" && echo hello >"$dir/content/hello" && truncate -s 64M "$dir/disk" || exit
PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -d "$dir/content" "$dir/disk" || exit
timeout -k 5 300 ./boot-driver "$SF_GUEST/vmlinuz" "$SF_GUEST/initrd.img" "$dir/disk"
