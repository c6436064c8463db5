#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The network keeps from one host what is sent to the group. It is in the group, in its own network
# and no other; its clones are right all the same, and the others still get their pages by multicast.
. "$(dirname "$0")/lib.sh"
cluster 4 --mem-per-host 2G --distribution=multicast
on h3 nft -f - <<'END' || fail "multicast cannot be dropped on h3"
	table inet e2e-deaf {
		chain in {
			type filter hook input priority -10; policy accept;
			udp dport != 4789 ip daddr 239.0.0.0/8 counter drop
		}
	}
END
dropped() { on h3 nft list table inet e2e-deaf | grep -o 'packets [0-9]*' | cut -d' ' -f2; }

run --mem 256M --put "$here/guest-memory" -- ./guest-memory 6 60 4 &
child=$!
group=
known() { group=$("$sfctl" show --json h1.1 2>/dev/null | jq -er '.distribution.group'); }
is_in() { on "$1" ip -4 maddr show dev eth0 | grep -qwF "$group"; }
eventually 60 known || fail "the group is not told"
for host in h2 h3 h4; do
	eventually 60 is_in $host || fail "$host has not joined $group"
done
! ip -4 maddr show | grep -wF "$group" || fail "the machine itself is in the group"
sent() { "$sfctl" show --json h1.1 2>/dev/null | jq -r '.memory | "\(.pages_served) \(.pages_multicast)"'; }
last="0 0"
while [ -d /proc/$child ]; do
	now=$(sent) && [ -n "$now" ] && last=$now
	sleep 0.2
done
wait $child || fail "the clones were not right: $(cat "$work/out" "$work/err")"
saw "all right"
echo "pages sent, and of these to the group: $last; $(dropped) datagrams kept from h3"
[ "$(dropped)" -gt 100 ] || fail "nothing was kept from h3"
read -r served multicast <<<"$last"
[ "$multicast" -gt 0 ] || fail "nothing was sent to the group"
[ "$served" -lt $((3 * multicast)) ] || fail "more than one host got its pages alone"
gone() { ! is_in h2 && ! is_in h3 && ! is_in h4; }
eventually 20 gone || fail "a group has members though its clones have gone"
