#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A clone on another host fills memory that was free at the instant, and memory that it frees
# itself: neither is fetched. While the guest fills and frees without pause, nothing that is in use
# is lost.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 3G

# pages PARAMETER VALUE WHAT: the pages a clone fetched for 64 MB of WHAT, with a parameter set.
pages()
{
	must 0 --mem 256M --put "$here/guest-pages" -- sh -c \
		"echo $2 >/sys/module/snowflock/parameters/$1 && exec /root/guest-pages $3 64"
	fetched=$(jq '.clones[0].clones[0].pages_fetched' "$work/record.json")
	[ "$(jq -r '.clones[0].clones[0].host' "$work/record.json")" != h1 ] ||
		fail "the clone is not on another host"
	echo "$3, $1=$2: $fetched pages fetched"
}

whole=$((64 * 256))

pages hints 1 fresh
[ "$fetched" -lt $((whole / 4)) ] || fail "$fetched pages travelled for memory that was free"
pages hints 0 fresh
[ "$fetched" -gt $((whole / 2)) ] || fail "nothing travelled although nobody knew it was free"

pages later 1 freed
[ "$fetched" -lt $((whole / 4)) ] || fail "$fetched pages travelled for memory that was freed"
pages later 0 freed
[ "$fetched" -gt $((whole / 2)) ] || fail "nothing travelled although nobody knew it was freed"

must 0 --mem 256M --cpus 2 --put "$here/guest-pages" -- ./guest-pages churn 100 6 4
saw "24 of 24 clones found all as it was, 0 wrong words in the parent"
