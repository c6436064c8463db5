# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What tests with disks have in common, after lib.sh: scratch images, and the guest on top of them.
for tool in qemu-img nbdkit; do
	command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
# The guest image's kernel: the disks are beside it.
booted=(--kernel "$guestdir/vmlinuz" --initrd "$guestdir/initrd.img")

# scratch NAME SIZE: an empty raw image.
scratch()
{
	truncate -s "$2" "$work/$1" || fail "no image"
}

# disk_processes: those that serve disks of this test's cluster.
disk_processes()
{
	local pid

	for pid in $(family); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = nbdkit ] && echo "$pid"
	done
}

# has_files DIR COUNT: so many files are in the data folder, without names; none has one.
has_files()
{
	[ -z "$(ls -A "$1")" ] &&
		[ "$(ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o " $1/#[0-9]*" | sort -u | wc -l)" = "$2" ]
}

# no_data DIR: no file is in the data folder, with a name or without.
no_data()
{
	local open

	open=$(ls -l /proc/[0-9]*/fd 2>/dev/null)
	[ -z "$(ls -A "$1")" ] && [[ $open != *" $1/"* ]]
}
