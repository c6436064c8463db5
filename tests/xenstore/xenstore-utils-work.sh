#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every program of xenstore-utils works against the server.
. "${srcdir:-.}/xenstore.bash" || exit 1

# xenstore-ls -p without what it puts in between to align
ls_perms() { xenstore-ls -p "$@" | sed 's/[ .]*(/ (/'; }

# write, read, list, exists: relative, absolute, several at once
xenstore-write data/one 1 data/two "a b c" data/empty ""
is 1 xenstore-read data/one
is "a b c" xenstore-read /local/domain/7/data/two
is "" xenstore-read data/empty
is $'1\na b c' xenstore-read data/one data/two
is $'empty\none\ntwo' xenstore-list data
xenstore-exists data/one
refused "" xenstore-exists data/three
refused "couldn't read path data/three" xenstore-read data/three

# ls: with values, with permissions, from the root
is $'empty = ""\none = "1"\ntwo = "a b c"' xenstore-ls data
is $'empty = "" (n7)\none = "1" (n7)\ntwo = "a b c" (n7)' ls_perms data
[[ $(xenstore-ls) == *'local = ""'*'domain = ""'*' 7 = ""'*'data = ""'* ]]

# what the host writes can be read, and that is all
host write snowflock/id 3
is 3 xenstore-read snowflock/id
refused "could not write path" xenstore-write snowflock/id 4
refused "could not write path" xenstore-write snowflock/new 4
refused "could not remove path" xenstore-rm snowflock
refused "could not remove path" xenstore-rm snowflock/id
refused "Permission denied" xenstore-chmod snowflock/id b7
is 3 xenstore-read snowflock/id
host give snowflock/request ""
xenstore-write snowflock/request/key "ticket 4"
is "ticket 4" host read snowflock/request/key

# chmod, as given and below
xenstore-write p/q/r x
xenstore-chmod p n7 r3
is $'q = "" (n7)\n r = "x" (n7)' ls_perms p
xenstore-chmod -r p n7 b4
is $'q = "" (n7,b4)\n r = "x" (n7,b4)' ls_perms p
refused "Operation not permitted" xenstore-chmod p n0

# rm, with what is below; -t prunes what becomes empty
xenstore-rm p
refused "" xenstore-exists p/q/r
xenstore-write t/u/v 1
xenstore-rm -t t/u/v
refused "" xenstore-exists t
refused "could not remove path" xenstore-rm nowhere/at/all

# a directory longer than one message
for i in $(seq 1 40); do
	args=()
	for j in $(seq 1 20); do
		args+=("wide/a-rather-long-name-$i-$j" "")
	done
	xenstore-write "${args[@]}"
done
is 800 bash -c "xenstore-list wide | wc -l"
is 800 bash -c "xenstore-ls wide | wc -l"
is a-rather-long-name-2-3 bash -c "xenstore-list wide | sed -n 23p"
# … and the quota
refused "could not write path" bash -c 'for i in $(seq 1 300); do xenstore-write "full/$i" "" || exit 1; done'
xenstore-rm wide

# watch: fires at once, then for what the host does; relative as it was asked
coproc WATCH { exec xenstore-watch -n 4 data /local/domain/7/data/one; }
watch=$WATCH_PID
exec {events}<&"${WATCH[0]}"
two_events() { head -n 2 <&"$events" | paste -s -d ' '; }
is "data /local/domain/7/data/one" two_events
host write data/one 2
is "data/one /local/domain/7/data/one" two_events
wait "$watch"
