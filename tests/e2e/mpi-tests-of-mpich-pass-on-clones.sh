#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# MPICH's own tests of dynamic processes, as they are in its sources, find no errors when what they spawn is
# on clones; the last one's first ranks are on clones as well.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
command -v "${CC:-cc}" >/dev/null || { echo "skipped: no ${CC:-cc}: install gcc"; exit 77; }
[ -d "$top/mpi-shim/mpich/source/test/mpi/spawn" ] || {
	echo "skipped: no sources of MPICH's tests: make -C mpi-shim mpich"
	exit 77
}
"$source/tests/mpi/mpich-own-tests.sh" "$top/mpi-shim/mpich/source" "$work/own" spawn1 spawnargv spawninfo1 \
	spawnminfo1 spawnintra spaiccreate disconnect_reconnect || fail "they do not compile"
cluster 4 --mem-per-host 2G
for name in $(cut -d ' ' -f 1 "$work/own/list" | sort -u); do
	mpi+=(--put "$work/own/$name:/root/own/") # some look at the name of the folder above theirs
done
must 0 --mem 256M "${mpi[@]}" --put "$work/own/list:/root/own/" -- sh -c '
	cd own
	while read -r name ranks; do
		# that one meets its children a hundred times unless told otherwise
		[ $name = disconnect_reconnect ] && times=10 || times=
		sf-mpirun --here -n $ranks ./$name $times </dev/null; echo "$name, $ranks ranks: $?"
	done <list
	sf-mpirun -n 2 ./spaiccreate </dev/null; echo "from clones: $?"
	mpi-left'
while read -r name ranks; do
	saw "$name, $ranks ranks: 0"
done <"$work/own/list"
saw "from clones: 0"
tests=$(($(wc -l <"$work/own/list") + 1))
[ "$tests" = 9 ] || fail "$tests tests instead of 9"
[ "$(grep -c "^ No Errors" "$work/out")" = "$tests" ] || fail "not all found no errors: $(cat "$work/out")"
[ "$(jq '.clones | length' "$work/record.json")" = $((tests + 1)) ] ||
	fail "not a ticket for each: $(jq -c '[.clones[].granted]' "$work/record.json")"
saw "nothing left in the VM"
