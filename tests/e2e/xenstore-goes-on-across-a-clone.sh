#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Six processes with watches and transactions go on in the parent and in every clone; the ordinary
# xenstore-* commands work in the guest.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 256M --put "$here/guest-xenstore" -- ./guest-xenstore 6 2
saw "xenstore went on"
must 0 --mem 256M -- sh -c '
	set -e
	xenstore-write data/a 1 data/b two
	[ "$(xenstore-read data/b)" = two ]
	xenstore-list data | grep -qx a
	xenstore-ls data | grep -q "b = \"two\""
	xenstore-chmod data/a n1 r2
	xenstore-ls -p data | grep "a = " | grep -q "n1,r2"
	( timeout 20 xenstore-watch -n 2 data/a >/tmp/seen ) & w=$!
	until [ -s /tmp/seen ]; do :; done
	xenstore-write data/a 5
	wait $w
	[ "$(wc -l </tmp/seen)" = 2 ]
	xenstore-rm data
	! xenstore-read data/a 2>/dev/null
	! xenstore-write snowflock/id 5 2>/dev/null
	echo commands work'
saw "commands work"
