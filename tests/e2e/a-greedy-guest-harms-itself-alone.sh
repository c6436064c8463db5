#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest removes the directories it owns, floods its host with requests and leaves the answers lying
# about: it is refused, without filling memory or log, and clones again when it has cleaned up.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 256M -- sh -ec '
	again()
	{
		id=$(sf clone 2)
		[ "$id" -gt 0 ] && sf exit 0
		sf join
		echo "$1"
	}
	xenstore-rm snowflock/request
	xenstore-rm snowflock/reply
	again "clones without the directories"

	n=0
	while [ $n -lt 40 ]; do
		words=
		for k in 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t; do
			words="$words snowflock/request/$n-$k nonsense"
		done
		xenstore-write $words
		n=$((n + 1))
	done
	echo "answers $(xenstore-list snowflock/reply | wc -l)"
	xenstore-write snowflock/request/long "$(printf %0300d 0)" snowflock/request/many "a b c d e f g h i j"
	xenstore-rm snowflock/reply
	sleep 1
	again "clones afterwards"'
saw "clones without the directories"
saw "clones afterwards"
answers=$(sed -n 's/^answers //p' "$work/out")
[ "$answers" -ge 100 ] && [ "$answers" -le 260 ] || fail "$answers answers are kept for the guest"
lines=$(wc -l <"$rundir/h1/sfd.log")
[ "$lines" -lt 400 ] || fail "it filled the log: $lines lines"
