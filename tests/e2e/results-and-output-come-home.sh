#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sf run brings home each clone's output and status, large ones too; sfctl run passes status and
# standard input; what clones print themselves comes out here.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 2 --mem 256M -- sh -c '
	sf run -n 4 --keep-order -- sh -c "echo I am {} of {n}; [ {} -lt 3 ] || exit 1"'
saw "I am 1 of 4"
saw "I am 4 of 4"
must 0 --mem 256M -- sh -c '
	sf run -n 2 -- sh -c "dd if=/dev/zero bs=1M count=3 2>/dev/null | tr \"\\0\" x" | wc -c
	id=$(sf clone 2)
	echo "printed by $id"
	[ "$id" -gt 0 ] && sf exit 0
	sf join'
saw 6291456
saw "printed by 1"
saw "printed by 2"
echo "from outside" | timeout 100 "$sfctl" run --mem 128M -- sh -c 'read line; echo "got $line"; exit 42' >"$work/out"
[ $? = 42 ] || fail "the exit status is not the command's"
saw "got from outside"
