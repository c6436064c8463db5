# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: what a clone costs on this machine, and what one would do without.

Prints a table and writes JSON. A missed target is told and no failure; the exit status is 1 if
something could not be measured.
"""

import argparse
import datetime
import json
import os
import platform
import re
import signal
import shutil
import subprocess
import sys
import time

import allocate
import baselines
import disks
import distribution
import measure
import mpi
import qemu
import report as reports
from cluster import Cluster, Failed

HOSTS = 4
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A measurement that ends by one of these was not made; the last two are records we cannot read.
MISHAPS = (Failed, OSError, subprocess.SubprocessError, KeyError, ValueError)
ALL = (
    measure.pause,
    measure.clones,
    measure.faults,
    allocate.allocation,
    baselines.cold_boots,
    baselines.save_restore,
    baselines.ratios,
    distribution.sets,
    distribution.streams,
    distribution.compression,
    distribution.fault_times,
    distribution.tool,
    disks.freezing,
    disks.reading,
    disks.rates,
    mpi.spawning,
    mpi.leaving,
    mpi.network,
)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="the top folder of the build")
    parser.add_argument("--package", default="snowflock", help="its name and version")
    parser.add_argument("--json", default="results.json", help="where results go [results.json]")
    parser.add_argument("--quick", action="store_true", help="fewer runs of each")
    parser.add_argument("--only", action="append", choices=[f.__name__ for f in ALL],
                        help="not all measurements; may be given again")
    parser.add_argument("--markdown", action="store_true", help="only print the JSON as a document")
    return parser.parse_args()


def idle_percent(seconds=1.0):
    """How idle the machine is, measured for so long."""
    def ticks():
        with open("/proc/stat", encoding="ascii") as stat:
            numbers = [int(n) for n in stat.readline().split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)

    idle, total = ticks()
    time.sleep(seconds)
    later_idle, later_total = ticks()
    return 100 * (later_idle - idle) / max(1, later_total - total)


def commit():
    """Of the sources, if git knows it."""
    if not shutil.which("git"):
        return ""
    folder = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(["git", "-C", folder, "rev-parse", "--short=12", "HEAD"], check=False,
                          text=True, capture_output=True)
    return "" if done.returncode else f", commit {done.stdout.strip()}"


def conditions(cluster, args):
    """Under which the numbers are what they are. Boots a guest to ask it."""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        cpu = (re.findall(r"model name\s*: (.*)", info.read()) or [platform.machine()])[0]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    load, idle = os.getloadavg(), idle_percent()
    _, guest_kernel = cluster.boot("uname", "-r", mem_mib=measure.MEM_MIB)
    return {
        "date": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        "version": args.package + commit() + (", a quick run" if args.quick else ""),
        "machine": f"{len(os.sched_getaffinity(0))} cores ({cpu}), {memory_gb:.0f} GB",
        "kernel": f"Linux {platform.release()}; in the guest {guest_kernel}",
        "hypervisor": f"{qemu.version()}, accelerator {cluster.hosts[0]['accel']}",
        "hosts": f"{cluster.host_count}, as network namespaces of this machine",
        "load before": f"{load[0]:.2f} {load[1]:.2f} {load[2]:.2f}, processors {idle:.0f} % idle",
    }


def run_all(bench, wanted):
    """Each measurement by itself: one that fails does not keep the others from being made."""
    for function in ALL:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        print(f"bench: {name} … ", end="", file=sys.stderr, flush=True)
        try:
            function(bench)
            print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
        except MISHAPS as error:
            print(f"failed: {error}", file=sys.stderr)
            bench.report.failures.append(f"{name}: {error}")


def end_by_signal(number, _):
    """The first ends the run; what follows must not keep the cluster from being taken down."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main():
    args = options()
    if args.markdown:
        with open(args.json, encoding="utf-8") as file:
            print(reports.as_markdown(json.load(file)), end="")
        return 0
    if os.geteuid():
        print("bench: it makes VMs and networks, which needs root", file=sys.stderr)
        return 1
    for number in SIGNALS:
        signal.signal(number, end_by_signal)
    report, start = reports.Report(), time.monotonic()
    sfctl, guest = f"{args.build}/host/sfctl/sfctl", f"{args.build}/guest-image/out"
    with Cluster(sfctl, guest, f"bench-{os.getpid()}", HOSTS) as cluster:
        found = conditions(cluster, args)
        bench = measure.Bench(cluster, report, args.build, args.quick)
        run_all(bench, args.only)
    found["took"] = f"{time.monotonic() - start:.0f} s"
    results = {"version": 1, "conditions": found, "rows": report.rows, "failures": report.failures,
               "records": bench.raw}
    with open(args.json, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    print(f"\n{reports.as_text(results)}\n")
    print(f"All of it, with the records of each run, is in {args.json}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MISHAPS as problem:
        sys.exit(f"bench: {problem}")
