#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A cluster with segments, and its end, change nothing in the namespaces it is started from.
set -eu
[ "$(id -u)" = 0 ] && [ -c /dev/net/tun ] || exit 77
command -v ip >/dev/null && command -v nft >/dev/null || exit 77
[ "${1:-}" = inside ] || exec unshare --net --mount "$0" inside
cluster=test-calm-$$
dir=$(mktemp -d)
holder=
trap '[ -z "$holder" ] || kill -9 $holder; ./hold $cluster destroy >/dev/null
	umount -R /mnt; rm -rf "$dir"' EXIT

state()
{
	ip -o link show
	ip -o address show
	ip route show table all
	nft list ruleset
	(cd /proc/sys/net && grep -rs . ipv4 bridge |
		grep -Ev '^ipv4/(tcp_fastopen_key|neigh/.*/stale|route/flush)' | sort)
	grep -v "/sf-$cluster-" /proc/self/mountinfo
}

ip link add lan0 type bridge
[ ! -d /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/lan0/disable_ipv6
ip address add 203.0.113.1/24 dev lan0
ip link set lan0 up
ip link set lo up
# As systemd has them: shared mounts, from which unmounting elsewhere could reach us.
mount -t tmpfs machine /mnt
mount --make-shared /mnt
mkdir /mnt/disk
mount -t tmpfs disk /mnt/disk
state >"$dir/before"
mkfifo "$dir/ready"
./hold "$cluster" >"$dir/ready" &
holder=$!
read -r word _ <"$dir/ready" || :
[ "${word:-}" = ready ] || exit 1
state >"$dir/during"
kill -9 $holder
wait $holder 2>/dev/null || :
holder=
./hold "$cluster" destroy >/dev/null
state >"$dir/after"
diff "$dir/before" "$dir/during"
diff "$dir/before" "$dir/after"
