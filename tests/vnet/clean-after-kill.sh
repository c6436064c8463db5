#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What a killed process leaves of a segment and a cluster is found by its names and removed.
set -eu
[ "$(id -u)" = 0 ] && [ -c /dev/net/tun ] && command -v ip >/dev/null || exit 77
cluster=test-kill-$$
out=$(mktemp)
trap './hold $cluster destroy >/dev/null; rm -f "$out"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }
running() { [ "$1" != 0 ] && [ -n "$(tr -d '\0' 2>/dev/null <"/proc/$1/cmdline")" ]; }
links() { ip -n "sf-$cluster-h$1" -o link show | grep -c ": $2" || :; }

mkfifo "$out.ready"
./hold "$cluster" >"$out.ready" &
holder=$!
read -r word router <"$out.ready" || :
rm -f "$out.ready"
[ "${word:-}" = ready ] || { wait "$holder" || :; fail "no cluster"; }
for k in 1 2; do
	[ "$(links $k sft00beef-)" = 3 ] || fail "host $k: not three taps"
done

kill -9 "$holder"
wait "$holder" 2>/dev/null || :
for k in 1 2; do
	[ "$(links $k sft)" = 0 ] || fail "host $k: taps outlived their process"
	[ "$(links $k sfb)" = 1 ] || fail "host $k: the bridge is gone already"
done

./hold "$cluster" clean | grep -q '^removed [1-9]' || fail "nothing to clean"
for k in 1 2; do
	[ "$(links $k sf)" = 0 ] || fail "host $k: interfaces left"
	[ -z "$(ip netns exec "sf-$cluster-h$k" nft list ruleset)" ] || fail "host $k: rules left"
	[ "$(ip netns exec "sf-$cluster-h$k" cat /proc/sys/net/ipv4/ip_forward)" = 0 ] ||
		fail "host $k: still forwards"
done
./hold "$cluster" clean | grep -qx 'removed 0' || fail "something to clean twice"

[ "$router" = 0 ] || running "$router" || fail "the router went with the process"
./hold "$cluster" destroy | grep -qx 'destroyed 3' || fail "not three namespaces"
! running "$router" || fail "the router is left"
ip netns list | grep "^sf-$cluster-" && fail "namespaces left"
./hold "$cluster" destroy | grep -qx 'destroyed 0' || fail "something to destroy twice"
