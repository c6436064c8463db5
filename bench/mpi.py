# SPDX-License-Identifier: GPL-2.0-or-later
"""MPI programs on clones: what MPI_Comm_spawn() costs against MPICH's own on VMs that run already,
what fifty of them leave behind, and the network that two clones have against two booted VMs."""

import glob
import os
import re
import subprocess
import tempfile

from cluster import Failed
from measure import MEM_MIB, each, last
from pair import ADDRESSES, Pair

WORKERS, ROUNDS, ROUND_WORKERS = 8, 50, 2
NETPIPE, LIBRARIES = "/usr/bin/NPmpich2", "usr/lib/x86_64-linux-gnu/"
LATENCY_BYTES, BANDWIDTH_BYTES = 1, 1 << 20

# Targets.
SPAWN_MS, NET_RATIO, LEFT = 2000, 1.05, 0

# Spawns once on clones made for it, then on clones that something keeps which needs no processor.
SPAWN_SCRIPT = f"""
sf-mpirun --here -n 1 ./count-spawn {WORKERS} || exit
sf-mpirun -n {WORKERS} sh -c '
	ip -o -4 addr show eth0 | sed "s/.*inet \\([0-9.]*\\).*/\\1/"
	exec sleep 1000' >hosts &
until [ "$(wc -l <hosts)" = {WORKERS} ]; do sleep 0.1; kill -0 $! || exit; done
sf-mpirun --here -n 1 ./count-spawn {WORKERS} 4 "$(tr "\\n" , <hosts | sed "s/,$//")"
status=$?
kill $!
wait
exit $status
"""
# Prints what is still there when the shim had time to end what it has.
LEFT_SCRIPT = """
tries=0
while pidof sf-mpikeeper sf-mpilaunch mpiexec.hydra hydra_pmi_proxy >/dev/null; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || break
	sleep 0.1
done
set -- $(pidof sf-mpikeeper sf-mpilaunch mpiexec.hydra hydra_pmi_proxy)
echo "processes $#"
"""


class Tree:
    """Within `with`: options of sfctl run that put mpi-shim and MPICH into a VM."""

    def __init__(self, bench):
        self.build = bench.build
        self.source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        if not os.path.exists(f"{self.build}/mpi-shim/mpich/libmpich.so.12"):
            raise Failed("no MPICH that spawns: make -C mpi-shim mpich")

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="sf-bench.")
        self.path = f"{self.folder.name}/tree"
        subprocess.run([f"{self.source}/mpi-shim/mktree", "--build", self.build,
                        "--out", self.path], check=True)
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def run(self, bench, program, shell):
        return bench.cluster.run(program, mem_mib=MEM_MIB, shell=shell,
                                 puts=[(f"{self.path}/usr", "/usr")])


def numbers(output, label):
    """Those behind each line's first word, where that is `label`."""
    return [[float(word) for word in line.split()[1:]] for line in output.splitlines()
            if line.split()[:1] == [label]]


def spawning(bench):
    """8 workers on 4 hosts, until all have answered; then by MPICH alone, on clones that are there."""
    report = bench.report
    report.section = (f"MPI_Comm_spawn of {WORKERS} on {bench.cluster.host_count} hosts "
                      f"({MEM_MIB} MB, until all have answered)")
    ours, plain, operations = [], [], []
    with Tree(bench) as tree:
        for _ in range(bench.runs(5, 2)):
            made, output = tree.run(bench, f"{bench.build}/tests/mpi/count-spawn", SPAWN_SCRIPT)
            operations += made[:1]  # the second made those that are there
            ours += [row[1] for row in numbers(output, "spawn")]
            # the first finds their memory cold
            plain += [row[1] for row in numbers(output, "there")[1:]]
    bench.raw["mpi-spawn"] = operations
    total = report.row("mpi-spawn", "on clones made for it", ours, limit=SPAWN_MS)
    report.row("mpi-ticket", "in that: the ticket", each(operations, "ticket_ms"))
    report.row("mpi-clone", "in that: the clones, until the last reached the VM",
               last(operations, "answered_ms"))
    alone = report.row("mpi-plain", "by MPICH alone, on VMs that run", plain,
                       note="clones that are kept, and idle; the same launcher")
    if total and alone:
        report.row("mpi-share", "our share: the difference", [total - alone])


def leaving(bench):
    """What is there after 50 spawns that was not there after 2, and what never ends."""
    report = bench.report
    report.section = f"{ROUNDS} times MPI_Comm_spawn of {ROUND_WORKERS}"
    with Tree(bench) as tree:
        made, output = tree.run(
            bench, f"{bench.build}/tests/mpi/spawn-many",
            f"sf-mpirun --here -n 1 ./spawn-many {ROUNDS} {ROUND_WORKERS} || exit; {LEFT_SCRIPT}")
    found = re.search(r"descriptors (\d+) then (\d+), sockets (\d+) then (\d+)", output)
    took = re.search(r"answered right, in ([\d.]+) s", output)
    if not found or not took:
        raise Failed(f"spawn-many: it said {output!r}")
    before, after, sockets_before, sockets_after = map(int, found.groups())
    clones = [c for o in made for c in o["clones"]]
    report.row("mpi-one-spawn", "one of them", [float(took[1]) * 1000 / ROUNDS])
    for key, what, count in (
        ("clones", "clones left of those", sum(c["status"] != 0 for c in clones)),
        ("processes", "processes of MPICH and ours left in the VM",
         int(re.search(r"processes (\d+)", output)[1])),
        ("descriptors", "descriptors left in the program", after - before),
        ("sockets", "sockets left in the program", sockets_after - sockets_before),
    ):
        report.row(f"mpi-left-{key}", what, [count], "left", LEFT)


def netpipe(output):
    """Latency in µs and bandwidth in MB/s of what NetPIPE printed."""
    lines = re.findall(r"(\d+) bytes +\d+ times --> +([\d.]+) Mbps in +([\d.]+) usec", output)
    by_size = {int(size): (float(mbps), float(usec)) for size, mbps, usec in lines}
    try:
        return by_size[LATENCY_BYTES][1], by_size[BANDWIDTH_BYTES][0] / 8
    except KeyError:
        raise Failed(f"NetPIPE: it said {output[-500:]!r}") from None


def commands(mpirun):
    """NetPIPE for one message size each, by what starts MPI programs."""
    return " && ".join(f"{mpirun} {NETPIPE} -l {size} -u {size} -p 0 -o /tmp/np.out 2>&1"
                       for size in (LATENCY_BYTES, BANDWIDTH_BYTES))


def on_clones(bench, tree):
    _, output = tree.run(bench, NETPIPE, commands("sf-mpirun -n 2 --per-host 1").replace(
        NETPIPE, "./" + os.path.basename(NETPIPE)))
    return netpipe(output)


def booted_files(tree):
    """What a booted VM runs NetPIPE with: the very files that clones have."""
    yield NETPIPE, NETPIPE.lstrip("/")
    for name in glob.glob(f"{tree.path}/**", recursive=True):
        if os.path.isfile(name):
            path = os.path.relpath(name, tree.path)
            yield name, LIBRARIES + os.path.basename(path) if ".so" in path else path


def network(bench):
    """NetPIPE between two clones and between two booted VMs, in turn, on the same two hosts."""
    report = bench.report
    report.section = f"NetPIPE between two VMs on two hosts ({MEM_MIB} MB)"
    if not os.path.exists(NETPIPE):
        raise Failed(f"no {NETPIPE}: install netpipe-mpich2")
    mpirun = (f"mpiexec.hydra -rmk user -launcher rsh -launcher-exec /usr/bin/pair-rsh "
              f"-localhost {ADDRESSES[0]} -hosts {','.join(f'{a}:1' for a in ADDRESSES)} -n 2")
    clones, booted = [], []
    with Tree(bench) as tree, Pair(bench, MEM_MIB, list(booted_files(tree)),
                                   commands(mpirun)) as pair:
        for _ in range(bench.runs(7, 3)):
            clones.append(on_clones(bench, tree))
            booted.append(netpipe(pair.run()))
    for i, key, what, unit in ((0, "latency", f"latency, {LATENCY_BYTES} byte", "µs"),
                               (1, "bandwidth", f"bandwidth, {BANDWIDTH_BYTES >> 20} MiB", "MB/s")):
        there = report.row(f"mpi-{key}", f"{what}: clones", [run[i] for run in clones], unit)
        here = report.row(f"mpi-{key}-booted", f"{what}: booted VMs", [run[i] for run in booted],
                          unit)
        above, below = (there, here) if key == "latency" else (here, there)
        report.ratio(f"mpi-{key}-ratio", "clones, times as bad", above, below, NET_RATIO)
