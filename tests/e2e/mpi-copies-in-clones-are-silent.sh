#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything that runs in the VM is in its clones as well, where it stays stopped: a script that prints and
# writes beside sf-mpirun prints nothing twice, and its copies write nothing; in the VM it goes on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 256M "${mpi[@]}" -- sh -c '
	sh -c "i=0; while :; do i=\$((i + 1)); echo tick \$i; echo \$i >>/tmp/ticks; done" | head -n 2000000 >/tmp/printed &
	sh -c "i=0; while [ \$i -lt 400 ]; do i=\$((i + 1)); echo said \$i; sleep 0.05; done" &
	sleep 1
	sf-mpirun -n 3 sh -c "
		before=\$(wc -l </tmp/ticks); sleep 2; after=\$(wc -l </tmp/ticks)
		[ \$before -gt 0 ] && echo \"a copy wrote \$((after - before))\""
	before=$(wc -l </tmp/ticks); sleep 1; after=$(wc -l </tmp/ticks)
	[ $after -gt $before ] && echo "it goes on here"
	sf-mpirun --here -n 1 manager 2
	kill %1
	wait %2
	mpi-left'
[ "$(grep -c "^a copy wrote 0$" "$work/out")" = 3 ] || fail "copies wrote: $(cat "$work/out")"
saw "it goes on here"
saw "which is right"
[ "$(grep -c "^said" "$work/out")" = 400 ] || fail "it printed $(grep -c "^said" "$work/out") lines instead of 400"
[ -z "$(grep "^said" "$work/out" | sort | uniq -d)" ] || fail "printed twice: $(grep "^said" "$work/out" | sort | uniq -d)"
saw "nothing left in the VM"
