#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sf-mpirun and MPI_Comm_spawn() with programs as users write them: a halo exchange over 8 ranks on four
# hosts is bit by bit what one rank finds, a manager's workers are on clones, with and without sf-mpirun;
# input, output, arguments and status go through, and a Slurm around it is none of its business.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
cluster 4 --mem-per-host 2G
must 0 --mem 256M "${mpi[@]}" --env SLURM_JOB_ID=7 --env SLURM_NNODES=2 --env SLURM_NODELIST='node[1-2]' \
	--env SLURM_TASKS_PER_NODE='4(x2)' -- sh -c '
	sf-mpirun -n 8 halo; echo "halo: $?"
	sf-mpirun --here -n 1 manager 4; echo "manager: $?"
	manager 4 || echo "alone it cannot spawn"
	LD_PRELOAD=/usr/libexec/snowflock/libsfmpi.so.0 LD_LIBRARY_PATH=/usr/libexec/snowflock/mpich manager 3
	echo "preloaded: $?"
	echo "one line" | sf-mpirun -n 2 sh -c "[ \$PMI_RANK = 1 ] || { read line; echo \"rank 0 read \$line\"; }"
	sf-mpirun -n 2 sh -c "[ \$PMI_RANK = 0 ] || exit 9"; echo "ranks: $?"
	sf-mpirun -n 1 sh -c "ip -o -4 addr show eth0" : -n 1 sh -c "ip -o -4 addr show eth0" |
		sed "s/.*inet/of a part:/"
	mpi-left'
saw "50 steps by 8 ranks: bit by bit"
saw "halo: 0"
[ "$(grep -c "17984 primes below 200000, which is right" "$work/out")" = 2 ] || fail "the manager: $(cat "$work/out")"
saw "alone it cannot spawn"
saw "manager: 0"
saw "preloaded: 0"
saw "rank 0 read one line"
saw "ranks: 9"
[ "$(grep "^of a part" "$work/out" | sort -u | wc -l)" = 2 ] || fail "two parts are not on two clones: $(cat "$work/out")"
saw "nothing left in the VM"
hosts=$(jq '[.clones[0].clones[].host] | unique | length' "$work/record.json")
[ "$hosts" = 4 ] || fail "the 8 ranks were on $hosts hosts"
[ "$(jq '[.clones[].granted] | tostring' "$work/record.json")" = '"[8,4,3,2,2,2]"' ] ||
	fail "not the clones that were asked for: $(jq -c '[.clones[].granted]' "$work/record.json")"
eventually 10 no_clones || fail "clones are left: $("$sfctl" ps)"
