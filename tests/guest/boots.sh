#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest image boots under a plain QEMU and does what its agent is asked for.
: "${SF_GUEST:?}"
command -v qemu-system-x86_64 >/dev/null || { echo 'qemu-system-x86_64 is missing'; exit 77; }
for file in vmlinuz initrd.img; do
	[ -r "$SF_GUEST/$file" ] || { echo "$SF_GUEST/$file is missing: make -C guest-image"; exit 77; }
done
exec timeout -k 5 300 ./boot-driver "$SF_GUEST/vmlinuz" "$SF_GUEST/initrd.img"
