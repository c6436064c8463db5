#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Where hosts hear each other's multicast, it is used; where one does not, pages go through a tree,
# and nobody has to say so.
. "$(dirname "$0")/lib.sh"
[ -z "${SF_E2E_DISTRIBUTION-}" ] || { echo "skipped: the way is given"; exit 77; }
cluster 3 --mem-per-host 2G

mode_of() { "$sfctl" hosts --json | jq -r ".[] | select(.name == \"$1\").mode"; }
is() { [ "$(mode_of "$1")" = "$2" ]; }
clones() { must 0 --mem 256M --put "$here/guest-memory" -- ./guest-memory 3 20 1; saw "all right"; }
used() { jq -r '.clones[0].mode' "$work/record.json"; }

is h1 multicast || fail "multicast was not found out: $("$sfctl" hosts)"
clones
[ "$(used)" = multicast ] || fail "it was not used, but $(used)"

# From now on h3 hears none. It is silent until it is given up, and comes up again.
on h3 nft -f - <<'END' || fail "multicast cannot be dropped on h3"
	table inet e2e-deaf {
		chain in {
			type filter hook input priority -10; policy accept;
			ip daddr 239.0.0.0/8 counter drop
		}
	}
END
read -r pid _ <"$rundir/h3/sfd.pid"
kill -STOP "$pid"
eventually 30 grep -q "host h3: lost" "$rundir/h1/sfd.log" || fail "h3 was not given up"
kill -CONT "$pid"
eventually 30 is h1 tree || fail "h1 was not told: $("$sfctl" hosts)"
eventually 30 is h3 multicast || fail "h3 itself is heard: $("$sfctl" hosts)"
clones
[ "$(used)" = tree ] || fail "a tree was not used, but $(used)"
