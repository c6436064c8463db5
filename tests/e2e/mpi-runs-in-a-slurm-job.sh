#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A job of Slurm's that runs an MPI program in a VM: its ranks are on clones, its output and exit status are
# the job's. Slurm is real, with one node that nobody else sees.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
for program in slurmctld slurmd srun munged; do
	command -v $program >/dev/null || { echo "skipped: no $program: install slurm-wlm, munge"; exit 77; }
done
cluster 2 --mem-per-host 2G
slurm=$work/slurm
mkdir -p "$slurm/state" "$slurm/spool"
chmod 755 "$work" "$slurm"
(umask 077 && head -c 1024 /dev/urandom >"$slurm/munge.key")
cat >"$slurm/slurm.conf" <<END
ClusterName=e2e
SlurmctldHost=$(hostname -s)(10.254.0.1)
SlurmUser=root
AuthInfo=socket=$slurm/munge.socket
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=10.254.0.1 CPUs=2
PartitionName=all Nodes=$(hostname -s) Default=YES
END
# All of it ends with the shell, which is the first process of a namespace of its own.
cat >"$slurm/job" <<'END'
slurm=$1
shift
ip link set lo up
# with no address but the loopback's, getaddrinfo() finds none for Slurm to listen on
ip link add slurm type bridge
ip addr add 10.254.0.1/24 dev slurm
ip link set slurm up
mount -t proc proc /proc
mkdir -p /run/munge
munged --foreground --force --socket="$slurm/munge.socket" --key-file="$slurm/munge.key" \
	--log-file="$slurm/munge.log" --pid-file="$slurm/munge.pid" --seed-file="$slurm/munge.seed" &
tries=0
until [ -S "$slurm/munge.socket" ]; do
	tries=$((tries + 1)); [ $tries -lt 100 ] || exit 98
	sleep 0.1
done
export SLURM_CONF=$slurm/slurm.conf
slurmctld -D >"$slurm/slurmctld.log" 2>&1 &
slurmd -D >"$slurm/slurmd.log" 2>&1 &
tries=0
until [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; do
	tries=$((tries + 1)); [ $tries -lt 300 ] || exit 99
	sleep 0.1
done
srun -n 1 "$@"
END
in_job()
{
	timeout --signal=KILL 200 unshare --net --mount --pid --fork --kill-child bash "$slurm/job" "$slurm" "$@" \
		>"$work/out" 2>"$work/err" </dev/null
}
logs() { tail -n 5 "$slurm"/*.log; cat "$work/out" "$work/err"; }
# what Slurm tells its job goes into the VM as well
cat >"$slurm/run" <<'END'
#!/bin/bash
words=()
while read -r name; do words+=(--env "$name=${!name}"); done < <(compgen -e | grep '^SLURM_')
echo "job $SLURM_JOB_ID tells ${#words[@]} words"
exec "$1" run "${words[@]}" "${@:2}"
END
chmod 755 "$slurm/run"
in_job "$slurm/run" "$sfctl" --quiet --no-stdin --mem 256M "${mpi[@]}" -- sh -c '
	sf-mpirun -n 4 halo; echo "halo: $?"
	sf-mpirun --here -n 1 manager 2; echo "manager: $?"
	sf-mpirun -n 2 sh -c "exit 7"'
status=$?
[ $status = 7 ] || fail "exit status $status: $(logs)"
saw "job 1 tells"
saw "bit by bit"
saw "halo: 0"
saw "manager: 0"
