# SPDX-License-Identifier: GPL-2.0-or-later
"""The samples: times in 1, 2, 4 and 8 clones against the same work in one VM, and what it costs that a
clone's memory comes when it is touched.

Prints a table, adds it to a JSON file, and makes the document of that.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import bench as program
from cluster import Cluster, Failed
from distribution import parse

# With less to do than when they are run for their own sake: what their workers find in the environment.
NAMES = {"bowtie2": "PAIRS=1000", "clustalw": "FAMILIES=8", "distcc": None, "povray": "WIDTH=96",
         "quantlib": None}
HOSTS, MEM_MIB, RUN_TIMEOUT_S = 4, 512, 600
RESIDENT_CLONES, RESIDENT_WAIT_MS, PUSH = 1, 8000, "100M/s"
HEAD = """# Samples

What `make -C build/bench samples` measured: each sample's work in one VM, and in N clones of it, from the
request for clones until the result was whole. The results were equal, byte for byte. No number of clones can be
faster than the bound, which is what there is of processors. The overhead is of the whole work in one clone on
another host, whose memory comes when it is touched, over the same in a clone that waited until all of it was
there (`--push={push}`); the VM had done the work before, so that its memory was filled.
"""


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="the top folder of the build")
    parser.add_argument("--source", required=True, help="the folder with the samples")
    parser.add_argument("--package", default="snowflock", help="its name and version")
    parser.add_argument("--json", default="samples.json", help="where results are [samples.json]")
    parser.add_argument("--markdown", help="the document to be made of them")
    parser.add_argument("--only", action="append", choices=tuple(NAMES), help="not all samples")
    parser.add_argument("--part", choices=("times", "overhead"), help="not both parts")
    return parser.parse_args()


def recipe(args, name):
    """A sample's worker and the options of sfctl run, as its run.sh has them."""
    done = subprocess.run([f"{args.source}/{name}/run.sh"], check=False, text=True, timeout=170,
                          stdin=subprocess.DEVNULL, capture_output=True, env={
                              **os.environ, "RECIPE": "1", "OUT": f"{args.build}/samples/{name}",
                              "SFCTL": f"{args.build}/host/sfctl/sfctl",
                              "LIBSF": f"{args.build}/libsf/.libs"})
    _, mark, words = done.stdout.partition("recipe\n")
    if done.returncode or not mark:
        raise Failed(f"{name}: {done.stderr.strip() or done.stdout.strip()}")
    worker, *rest = words.splitlines()
    return worker, rest + (["--env", NAMES[name]] if NAMES[name] else [])


def cluster_of(args, name, *more, hosts=HOSTS):
    return Cluster(f"{args.build}/host/sfctl/sfctl", f"{args.build}/guest-image/out",
                   f"samples-{os.getpid()}-{name}", hosts, *more)


def run(cluster, words, *command):
    """Runs a command in a VM with the sample's files. Returns what it prints."""
    try:
        done = sfctl_run(cluster, words, command)
    except subprocess.TimeoutExpired:
        raise Failed(f"it took more than {RUN_TIMEOUT_S} s") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return done.stdout


def sfctl_run(cluster, words, command):
    return subprocess.run([cluster.sfctl, "--cluster", cluster.name, "run", "--quiet", "--no-stdin",
                           "--mem", f"{MEM_MIB}M", *words, "--", *command], check=False, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=RUN_TIMEOUT_S)


def times(args, name):
    """Seconds by number of clones; 0 is the VM alone."""
    worker, words = recipe(args, name)
    words += ["--put", f"{args.source}/common/compare.sh:/usr/bin/"]
    with cluster_of(args, "times") as cluster:
        printed = run(cluster, words, "sh", "-c",
                      f"compare.sh {worker} >/dev/null && cat /tmp/compare/times")
    return {line.split()[0]: float(line.split()[1]) for line in printed.splitlines()}


def in_a_clone(args, name, *more):
    """Seconds that a clone on another host needs for the work its parent has done before."""
    worker, words = recipe(args, name)
    words += ["--put", f"{args.build}/bench/guest-spread:/usr/bin/"]
    # two, each on a host of its own: the parent's has its memory at once
    shell = (f"{worker} prepare && {worker} 0 >/dev/null && exec guest-spread "
             f"--clones={RESIDENT_CLONES + 1} --per-host=1 --wait={RESIDENT_WAIT_MS} "
             f"sh -c '{worker} 0 >/dev/null'")
    with cluster_of(args, "clone", *more, hosts=RESIDENT_CLONES + 1) as cluster:
        printed = run(cluster, words, "sh", "-c", shell)
        home = cluster.hosts[0]["name"]
    _, clones = parse(printed)
    away = [seconds for host, seconds, _ in clones if host != home]
    if not away:
        raise Failed("all clones were on their parent's host")
    return statistics.median(away)


def measure(args, results, name):
    found = results["samples"].setdefault(name, {})
    if args.part != "overhead":
        found["seconds"] = times(args, name)
    if args.part != "times":
        found["lazy"] = in_a_clone(args, name)
        found["resident"] = in_a_clone(args, name, f"--push={PUSH}")


def bound(name, clones):
    """How many times as fast it can be: all hosts are this machine. distcc's parent works as well."""
    return min(clones + (name == "distcc"), len(os.sched_getaffinity(0)))


def cells(name, found):
    """One line of the table: alone, then seconds, times as fast and bound for each number of clones."""
    seconds = found.get("seconds", {})
    alone = seconds.get("0")
    line = [name, f"{alone:.1f} s" if alone else "–"]
    for clones in (1, 2, 4, 8):
        took = seconds.get(str(clones))
        line.append(f"{took:.1f} s, {alone / took:.2f} × of {bound(name, clones)}" if took else "–")
    lazy, resident = found.get("lazy"), found.get("resident")
    line.append(f"{lazy:.2f} s, {100 * (lazy / resident - 1):+.0f} %" if resident else "–")
    return line


TABLE = ("", "alone", "1 clone", "2", "4", "8", "overhead")


def as_text(results):
    lines = [TABLE, *(cells(name, results["samples"][name]) for name in results["samples"])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(TABLE))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def as_markdown(results):
    lines = [HEAD.format(push=PUSH)]
    lines += [f"- {name}: {value}" for name, value in results["conditions"].items()]
    lines += ["", f"| {' | '.join(TABLE)} |", "|---" + "|--:" * (len(TABLE) - 1) + "|"]
    lines += [f"| {' | '.join(cells(name, found))} |" for name, found in results["samples"].items()]
    lines += [f"\nNot measured: {sentence}." for sentence in results["failures"]]
    return "\n".join(lines) + "\n"


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"version": 1, "conditions": {}, "samples": {}, "failures": []}


def conditions(args):
    with cluster_of(args, "which", hosts=1) as cluster:
        found = program.conditions(cluster, argparse.Namespace(package=args.package, quick=False))
    found["hosts"] = f"{HOSTS}, as network namespaces of this machine; VMs of {MEM_MIB} MB with 1 CPU"
    return found


def main():
    args = options()
    if os.geteuid():
        sys.exit("samples: they are run in VMs, which needs root")
    for number in program.SIGNALS:
        signal.signal(number, program.end_by_signal)
    results = load(args.json)
    results["conditions"] = conditions(args)
    for name in args.only or NAMES:
        start = time.monotonic()
        print(f"samples: {name} … ", end="", file=sys.stderr, flush=True)
        results["failures"] = [f for f in results["failures"] if not f.startswith(f"{name}:")]
        try:
            measure(args, results, name)
            print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
        except program.MISHAPS as error:
            print(f"failed: {error}", file=sys.stderr)
            results["failures"].append(f"{name}: {error}")
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1, ensure_ascii=False)
    print(as_text(results))
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(as_markdown(results))
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except program.MISHAPS as problem:
        sys.exit(f"samples: {problem}")
