#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One of twenty datagrams with pages, requests or reports is lost on each host, whichever way pages
# travel: every clone is right.
. "$(dirname "$0")/lib.sh"

lossy()
{
	on "$1" nft -f - <<-'END'
		table inet e2e-loss {
			chain in {
				type filter hook input priority -10; policy accept;
				udp dport != 4789 numgen random mod 100 < 5 counter drop
			}
		}
	END
}
lost_on() { on "$1" nft list table inet e2e-loss | grep -o 'packets [0-9]*' | cut -d' ' -f2; }

for mode in multicast tree unicast; do
	cluster 4 --mem-per-host 2G --distribution=$mode
	for host in h1 h2 h3 h4; do
		lossy $host || fail "datagrams cannot be dropped on $host"
	done
	must 0 --mem 256M --put "$here/guest-memory" -- ./guest-memory 6 40 2
	saw "all right"
	[ "$(jq -r '.clones[0].mode' "$work/record.json")" = $mode ] || fail "it was not $mode"
	for host in h2 h3 h4; do
		echo "$mode: $(lost_on $host) datagrams lost on their way to $host"
		[ "$(lost_on $host)" -gt 20 ] || fail "nothing was lost on $host"
	done
	"$sfctl" cluster down || fail "the cluster does not end"
done
