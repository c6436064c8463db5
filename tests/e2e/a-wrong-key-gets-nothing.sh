#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A daemon with another key is no host of the cluster, a stranger gets nothing but TLS's alert, and
# neither fills the log.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 1G
read -r pid _ <"$rundir/h2/sfd.pid"
kill -9 "$pid"
one() { [ "$("$sfctl" hosts --json | grep -o '"state": *"up"' | wc -l)" = 1 ]; }
eventually 10 one || fail "h2 is not seen as lost: $("$sfctl" hosts)"

head -c 32 /dev/urandom >"$work/key"
mkdir "$work/h2"
SF_CLUSTER=$SNOWFLOCK_CLUSTER ip netns exec "sf-$SNOWFLOCK_CLUSTER-h2" "$top/host/sfd/sfd" --cluster "$SNOWFLOCK_CLUSTER" \
	--host h2 --hosts "$rundir/hosts" --key "$work/key" --dir "$work/h2" --mem 1G --accel tcg 2>"$work/rogue" &
rogue=$!
refused() { grep -q "does not have the same cluster key" "$rundir/h1/sfd.log"; }
eventually 10 refused || fail "h1 does not say that the key is wrong"
bytes=$(ip netns exec "sf-$SNOWFLOCK_CLUSTER-h2" timeout 3 bash -c '
	exec 3<>/dev/tcp/198.18.0.1/1972; echo "{}{}{}{}" >&3; cat <&3' 2>/dev/null | wc -c)
[ "$bytes" -le 7 ] || fail "a stranger got $bytes bytes"
sleep 3
one || fail "a host with another key is up: $("$sfctl" hosts)"
[ "$(grep -c "cluster key" "$rundir/h1/sfd.log")" -le 12 ] || fail "the log is filled: $(grep -c "cluster key" "$rundir/h1/sfd.log") lines"
must 0 --mem 256M -- sh -c 'id=$(sf clone 2); [ "$id" -gt 0 ] && sf exit 0; sf join'
kill "$rogue"
wait "$rogue"
