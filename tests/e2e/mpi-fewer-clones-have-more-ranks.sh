#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Where there is no room for a clone per rank (here: one on each of two hosts), clones have more ranks each;
# with --min it is an error before anything starts. With two CPUs a clone has two ranks, with -ppn as many as
# that says.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 2 --mem-per-host 2G
where='ip -o -4 addr show eth0 | sed "s/.*inet \([0-9.]*\).*/rank on \1/"'
must 0 --mem 256M "${mpi[@]}" --env WHERE="$where" -- sh -c '
	sf-mpirun -n 6 --per-host 1 sh -c "$WHERE"; echo "fewer: $?"
	sf-mpirun -n 6 --per-host 1 --min 6 sh -c "echo it ran"; echo "too few: $?"
	sf-mpirun --here -n 1 --per-host 1 --min 6 manager 6; echo "spawn: $?"
	mpi-left'
made=$(jq '.clones[0].granted' "$work/record.json")
[ "$made" = 2 ] || fail "made $made clones"
[ "$(grep -c "^rank on" "$work/out")" = 6 ] || fail "not 6 ranks: $(cat "$work/out")"
[ "$(grep "^rank on" "$work/out" | sort | uniq -c | grep -c "^ *3 ")" = 2 ] || fail "not 3 on each: $(cat "$work/out")"
saw "fewer: 0"
saw "too few: 255"
! grep -qF "it ran" "$work/out" || fail "it ran with too few clones"
! grep -q "^spawn: 0" "$work/out" || fail "it spawned with too few clones"
[ "$(jq '.clones | length' "$work/record.json")" = 1 ] || fail "it cloned: $(cat "$work/record.json")"
must 0 --mem 256M --cpus 2 "${mpi[@]}" --env WHERE="$where" -- sh -c '
	sf-mpirun -n 4 sh -c "$WHERE" | sort | uniq -c | sed "s/^ *//"
	sf-mpirun --here -n 1 manager 4; echo "manager: $?"
	sf-mpirun -n 3 -ppn 3 sh -c "$WHERE" | sort | uniq -c | sed "s/^ *//"
	mpi-left'
[ "$(grep -c "^2 rank on" "$work/out")" = 2 ] || fail "not two ranks on each of two clones: $(cat "$work/out")"
[ "$(grep -c "^3 rank on" "$work/out")" = 1 ] || fail "not three ranks on one clone: $(cat "$work/out")"
saw "manager: 0"
saw "nothing left in the VM"
