# SPDX-License-Identifier: GPL-2.0-or-later
"""What clones cost: measurements, each a function that adds its rows to the report.

Targets are those for two cores under emulation, a guest of 512 MB and four hosts.
"""

import json
import os
import statistics
import subprocess

from cluster import Failed

MEM_MIB = 512
FILL_MIB = 256  # what the guest has loaded when it is cloned
LARGE_MIB, LARGE_FILL_MIB = 4096, 2560
REWRITE_MIB = 64

# Targets.
PAUSE_MS, LARGE_RATIO, ROW_RATIO = 15, 2, 2
ANSWERED_MS = {8: 300, 32: 1000}
DESCRIPTOR_BYTES = 1000000
JOIN_MS = 20
FAULT_RATIO = 3

# How long the clones of an operation live: longer than it takes until the last one answered.
HOLD_MS = {8: 1000, 32: 4000}


class Bench:
    """What measurements share: the cluster, the report, the programs, medians to compare."""

    def __init__(self, cluster, report, build, quick):
        self.cluster, self.report, self.build, self.quick = cluster, report, build, quick
        self.accel = cluster.hosts[0]["accel"]
        self.kernel, self.initrd = (f"{cluster.guest}/{name}" for name in ("vmlinuz", "initrd.img"))
        self.raw, self.medians = {}, {}

    def runs(self, full, quick):
        """How often to do something."""
        return quick if self.quick else full

    def guest(self, program, *options, mem_mib=MEM_MIB):
        """Runs one of our programs in a new VM. Returns operations of the record, and output."""
        return self.cluster.run(f"{self.build}/bench/{program}", *options, mem_mib=mem_mib)

    def clones(self, name, *options, mem_mib=MEM_MIB):
        """Runs guest-clone; its record is kept as `name`. Returns the record's operations."""
        operations, _ = self.guest("guest-clone", *options, mem_mib=mem_mib)
        if not operations:
            raise Failed(f"{name}: the record is empty")
        self.raw[name] = operations
        return operations


def each(operations, key):
    """One value of each operation."""
    return [o[key] for o in operations]


def each_clone(operations, key):
    """One value of each clone of each operation."""
    return [c[key] for o in operations for c in o["clones"]]


def last(operations, key):
    """Of each operation the greatest value of its clones; None if one has none or is missing."""

    def one(o):
        values = [c[key] for c in o["clones"]]
        return None if None in values or o["granted"] < o["n"] else max(values)

    return [one(o) for o in operations]


# ── The parent ──


def pause(bench):
    """How long the parent stands still, by what it does and has, and the twentieth time."""
    bench.report.section = f"The parent stands still ({MEM_MIB} MB, {FILL_MIB} MB written, 1 clone)"
    small = [f"--fill={FILL_MIB}", f"--rounds={bench.runs(20, 8)}"]
    found = {}
    for name, what, options in (
        ("pause", "idle between clones", []),
        ("pause-writing", f"wrote {REWRITE_MIB} MB since the last", [f"--rewrite={REWRITE_MIB}"]),
        ("pause-overlap", "clones and instants before it live", ["--overlap"]),
    ):
        found[name] = bench.clones(name, *small, *options)
        pauses = each(found[name], "pause_ms")
        bench.medians[name] = bench.report.row(name, what, pauses, limit=PAUSE_MS)
    in_a_row(bench.report, "pause", "one after another", each(found["pause"], "pause_ms"))
    in_a_row(bench.report, "pause-overlap", "all alive", each(found["pause-overlap"], "pause_ms"))
    pause_large(bench)
    one_clone(bench, found["pause"])


def in_a_row(report, name, how, pauses):
    """The last pauses against the first; a quarter at each end, for one alone is chance."""
    quarter = max(1, len(pauses) // 4)
    first, final = statistics.median(pauses[:quarter]), statistics.median(pauses[-quarter:])
    what = f"last {quarter} of {len(pauses)} against the first {quarter}, {how}"
    note = f"the first {pauses[0]:.1f} ms, the {len(pauses)}th {pauses[-1]:.1f} ms"
    report.ratio(f"{name}-row", what, final, first, ROW_RATIO, note)


def pause_large(bench):
    options = [f"--fill={LARGE_FILL_MIB}", f"--rounds={bench.runs(10, 4)}"]
    operations = bench.clones("pause-large", *options, mem_mib=LARGE_MIB)
    what = f"{LARGE_MIB >> 10} GB guest, {LARGE_FILL_MIB / 1024:.1f} GB written"
    large = bench.report.row("pause-large", what, each(operations, "pause_ms"))
    small = bench.medians["pause"]
    bench.report.ratio("pause-large-ratio", "that, against 512 MB", large, small, LARGE_RATIO)


def one_clone(bench, operations):
    """The same clones, until they answered."""
    report, medians = bench.report, bench.medians
    tickets = each(operations, "ticket_ms")
    medians["ticket", 1] = report.row("ticket-1", "before that: the ticket", tickets)
    medians[1] = report.row("answered-1", "the clone answered", last(operations, "answered_ms"))


# ── Clones ──


def clones(bench):
    """8 and 32 clones: until they run and answered, what they fetched, how soon join is back."""
    hosts = bench.cluster.host_count
    for n, rounds in ((8, bench.runs(12, 4)), (32, bench.runs(5, 2))):
        bench.report.section = f"{n} clones on {hosts} hosts ({MEM_MIB} MB, {FILL_MIB} MB written)"
        options = [f"--fill={FILL_MIB}", f"--clones={n}", f"--rounds={rounds}"]
        operations = bench.clones(f"clones-{n}", *options, f"--hold={HOLD_MS[n]}")
        clone_times(bench, n, operations)
        clone_costs(bench.report, n, operations)


def clone_times(bench, n, operations):
    for key, what, values, limit in (
        ("answered-all", f"all {n} answered", last(operations, "answered_ms"), ANSWERED_MS[n]),
        ("answered", "a clone answered", each_clone(operations, "answered_ms"), None),
        ("running-all", f"all {n} run", last(operations, "running_ms"), None),
        ("running", "a clone runs", each_clone(operations, "running_ms"), None),
        ("ticket", "before that: the ticket", each(operations, "ticket_ms"), None),
        ("pause", "the parent stands still", each(operations, "pause_ms"), PAUSE_MS),
        ("join", "last sf_exit to return of sf_join", each(operations, "join_ms"), JOIN_MS),
    ):
        bench.medians[key, n] = bench.report.row(f"{key}-{n}", what, values, limit=limit)
    bench.medians[n] = bench.medians["answered-all", n]


def clone_costs(report, n, operations):
    away = [c for o in operations for c in o["clones"] if c["pages_fetched"]]
    pages, size = ([c[key] for c in away] for key in ("pages_fetched", "bytes_fetched"))
    together = [sum(c["bytes_fetched"] for c in o["clones"]) for o in operations]
    descriptors, faulted = each(operations, "descriptor_bytes"), each_clone(operations, "faults")
    for key, what, values, unit, limit in (
        ("descriptor", "the descriptor", descriptors, "bytes", DESCRIPTOR_BYTES),
        ("pages", "fetched by a clone on another host", pages, "pages", None),
        ("bytes", "the same, as it went over the wire", size, "bytes", None),
        ("faults", "page faults of a clone", faulted, "faults", None),
        ("fetched", f"fetched by all {n}", together, "bytes", None),
    ):
        report.row(f"{key}-{n}", what, values, unit, limit)


# ── Page faults ──


def bench_fault(bench):
    """One run of it between the first two hosts."""
    home, away = bench.cluster.place(0), bench.cluster.place(1)
    done = subprocess.run(
        [f"{bench.build}/tests/memtap/bench-fault", f"--home={home}", f"--away={away}",
         f"--mem={MEM_MIB}"],
        env={**os.environ, "SF_MEMTAP": f"{bench.build}/host/memtap/sf-memtap"},
        check=False, text=True, capture_output=True, timeout=120)
    if done.returncode:
        raise Failed(f"bench-fault: status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def faults(bench):
    """A remote fault beside the round trip of 4 KB between the same hosts; then in a guest."""
    bench.report.section = "A remote page fault (between two of the hosts)"
    found = bench.raw["bench-fault"] = [bench_fault(bench) for _ in range(bench.runs(5, 2))]
    for key, what, values, unit, limit in (
        ("round-trip", "4 KB there and back", [f["round_trip_us"]["median"] for f in found],
         "µs", None),
        ("fault", "a page fault", [f["fault_us"]["median"] for f in found], "µs", None),
        ("fault-ratio", "that, in round trips", each(found, "ratio"), "×", FAULT_RATIO),
        ("stream", "one thread reads on and on", each(found, "stream_mb_per_s"), "MB/s", None),
    ):
        bench.report.row(key, what, values, unit, limit)
    guest_faults(bench)


def guest_faults(bench):
    _, output = bench.guest("guest-fault", bench.cluster.host_count)
    parent = bench.cluster.hosts[0]["name"]
    here, away = [], []
    for line in output.splitlines():
        host, median_ns = line.split()[:2]
        (here if host == parent else away).append(int(median_ns) / 1000)
    if not away:
        raise Failed("guest-fault: no clone was on another host")
    note = "by the guest's clock, with all that emulation adds"
    bench.report.row("guest-fault", "a touch, seen in a clone there", away, "µs", note=note)
    if here:
        bench.report.row("guest-fault-here", "a touch, in a clone on the parent's host", here, "µs")
