#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A stranger on the wire joins the group, reads along, sends everything again, changes it, cuts it:
# it reads nothing, the clones are right, and what it sent was counted and dropped.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G --distribution=multicast

# A host of the wire's, but none of the cluster.
wire=sf-$SNOWFLOCK_CLUSTER-wire
stranger=sf-$SNOWFLOCK_CLUSTER-h99
ip netns add "$stranger" &&
	ip -n "$wire" link add h99 mtu 9000 type veth peer name eth0 mtu 9000 netns "$stranger" &&
	ip -n "$wire" link set h99 master br0 up &&
	ip -n "$stranger" addr add 198.18.0.99/24 dev eth0 &&
	ip -n "$stranger" link set eth0 up || fail "no stranger could be made"

run --mem 256M --put "$here/guest-memory" -- ./guest-memory 6 60 4 &
child=$!
show() { "$sfctl" show --json h1.1 2>/dev/null; }
known() { group=$(show | jq -er '.distribution.group, .distribution.group_port'); }
eventually 60 known || fail "the group is not told"
read -r -d '' address port <<<"$group"
SF_CLUSTER=$SNOWFLOCK_CLUSTER ip netns exec "$stranger" "$here/stranger" 198.18.0.99 "$address" "$port" >"$work/stranger" &
spy=$!
dropped() { [ "$(show | jq '[.hosts_memory[].dropped] | add // 0')" -gt "$1" ]; }
eventually 60 dropped 100 || fail "nothing was counted: $(cat "$work/stranger"; show)"
wait $child || fail "the clones were not right: $(cat "$work/out" "$work/err")"
saw "all right"
kill "$spy"
wait "$spy" || fail "the stranger could not do its part: $(cat "$work/stranger")"
cat "$work/stranger"
read -r heard sent secrets <"$work/stranger"
[ "$heard" -gt 100 ] && [ "$sent" -gt 100 ] || fail "the stranger heard $heard and sent $sent"
[ "$secrets" = 0 ] || fail "the stranger could read $secrets pages"
