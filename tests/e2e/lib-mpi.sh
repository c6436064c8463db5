# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the tests of MPI programs share, after lib.sh: options of sfctl run that put mpi-shim, MPICH and
# the programs of tests/mpi into the VM, and a look at what is left of a program that ended.
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

[ -e "$top/mpi-shim/mpich/libmpich.so.12" ] || {
	echo "skipped: no MPICH that spawns: make -C mpi-shim mpich"
	exit 77
}
[ -x "$top/tests/mpi/manager" ] || { echo "skipped: no programs: make -C tests/mpi check TESTS="; exit 77; }
command -v mpiexec.hydra >/dev/null || { echo "skipped: no mpiexec.hydra: install mpich"; exit 77; }
"$source/mpi-shim/mktree" --build "$top" --out "$work/tree" || fail "mktree"

mpi=(--put "$work/tree/usr:/usr")
for program in count-spawn halo manager spawn-many worker-abort; do
	mpi+=(--put "$top/tests/mpi/$program:/usr/bin/")
done

# In the VM: waits until the shim has nothing there any more, and says what it still has if that takes long.
cat >"$work/mpi-left" <<'END'
#!/bin/sh
left() { pidof sf-mpikeeper sf-mpilaunch sf-mpirun mpiexec.hydra hydra_pmi_proxy; }
tries=0
while pids=$(left); do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || { echo "left in the VM: $(ps | grep -E "$(echo $pids | tr ' ' '|')")"; exit 1; }
	sleep 0.1
done
echo "nothing left in the VM"
END
chmod 755 "$work/mpi-left"
mpi+=(--put "$work/mpi-left:/usr/bin/")

# clones: how many the cluster has now.
clones() { "$sfctl" ps --json | grep -c '"kind": *"clone"'; }
no_clones() { [ "$(clones)" = 0 ]; }

# descriptors: open in all daemons of the cluster.
descriptors()
{
	local pid sum=0

	for pid in $(family); do
		case $(cat "/proc/$pid/comm" 2>/dev/null) in
		sfd|sf-memtap) sum=$((sum + $(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l))) ;;
		esac
	done
	echo $sum
}

# need FILE PACKAGE: skips the test if the file is not here.
need()
{
	[ -e "$1" ] || { echo "skipped: no $1: apt-get install --no-install-recommends $2"; exit 77; }
}
