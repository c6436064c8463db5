#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sfctl clean ends what a dead cluster left (processes, namespaces, folders), and nothing of a live one.
. "$(dirname "$0")/sfctl-lib.sh"
[ "$(id -u)" -eq 0 ] || skip 'needs root'
export LC_ALL=C

"$sfctl" cluster up --hosts 2 --mem-per-host 256M >"$here/out" 2>"$here/err" || {
	grep -q 'namespace' "$here/err" && skip "$(cat "$here/err")"
	fail "up: $(cat "$here/err")"
}
has 'up' "$here/out" '2 hosts, 256 MB of memory each'
has 'in namespaces' <(ip netns list) "sf-$SNOWFLOCK_CLUSTER-h2"
trap '"$sfctl" cluster down 2>/dev/null; finish' EXIT
dir=$SF_RUN_DIR/$SNOWFLOCK_CLUSTER
read -r pid1 _ <"$dir/h1/sfd.pid"
read -r pid2 _ <"$dir/h2/sfd.pid"
[ "$(readlink "/proc/$pid1/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail 'h1 shares our network'

"$sfctl" clean "$SNOWFLOCK_CLUSTER" >"$here/out" 2>"$here/err"
expect 'nothing of a live cluster' "$(grep -c "$SNOWFLOCK_CLUSTER" "$here/out")" 0
has 'and it says so' "$here/err" "cluster \"$SNOWFLOCK_CLUSTER\" is up"

# what a daemon started, and what carries no such mark
SF_CLUSTER=$SNOWFLOCK_CLUSTER SF_HOST=h1 sleep 100 &
orphan=$!
sleep 100 &
stranger=$!
kill -KILL "$pid1"
"$sfctl" clean "$SNOWFLOCK_CLUSTER" >"$here/out" 2>/dev/null
lives "$pid2" || fail 'the other daemon was killed'
kill -KILL "$pid2"
dead() { ! lives "$pid1" && ! lives "$pid2"; }
eventually 'both are dead' dead

"$sfctl" clean --dry-run "$SNOWFLOCK_CLUSTER" >"$here/out" 2>&1
has 'a dry run tells' "$here/out" "^would remove process $orphan \(sleep\) of $SNOWFLOCK_CLUSTER h1"
kill -0 "$orphan" || fail 'a dry run killed'
[ -d "$dir" ] || fail 'a dry run removed'

"$sfctl" clean "$SNOWFLOCK_CLUSTER" >"$here/out" 2>"$here/err"
expect 'clean' $? 0
has 'the process' "$here/out" "^removed process $orphan \(sleep\)"
has 'the namespaces' "$here/out" "^removed 3 namespaces of $SNOWFLOCK_CLUSTER"
has 'the folder' "$here/out" "^removed $dir"
wait "$orphan" 2>/dev/null
expect 'it was killed' $? 137
kill -0 "$stranger" || fail 'a stranger was killed'
kill "$stranger"
[ ! -e "$SF_RUN_DIR" ] || fail "left: $(find "$SF_RUN_DIR")"
"$sfctl" clean "$SNOWFLOCK_CLUSTER" >"$here/out"
expect 'nothing is left to remove' "$(cat "$here/out")" 'nothing to remove'
hasnt 'no namespace is left' <(ip netns list) "sf-$SNOWFLOCK_CLUSTER"
done_testing
