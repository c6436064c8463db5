#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Debian's disk boots under a plain QEMU, with no unit failed, and does what its agent is asked for.
# It is there if  make -C guest-image debian  has made it.
: "${SF_GUEST:?}"
command -v qemu-system-x86_64 >/dev/null || { echo 'qemu-system-x86_64 is missing'; exit 77; }
for file in vmlinuz debian.initrd debian.raw; do
	[ -r "$SF_GUEST/$file" ] || { echo "$SF_GUEST/$file is missing: make -C guest-image debian"; exit 77; }
done
# beside what the driver tells every kernel, what host/vmm/command.c does
exec timeout -k 5 600 ./boot-driver "$SF_GUEST/vmlinuz" "$SF_GUEST/debian.initrd" \
	"$SF_GUEST/debian.raw" 'root=/dev/vda1 rw rootflags=noatime psi=0 lsm= audit=0 noautogroup'
