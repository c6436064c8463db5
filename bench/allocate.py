# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's kernel module saves: memory that nobody needs, and time until a clone is itself."""

from cluster import Failed
from measure import each

MEM_MIB, USED_MIB, FRESH_MIB = 1024, 250, 400

# Targets.
BYTES_RATIO, TIME_RATIO = 1 / 20, 1.3
ADDRESSED_US, HOLD_MS = 5000, 3


def fill(bench, *options):
    """One VM. Returns the ms to fill, the µs to its addresses, and the record's operations."""
    operations, output = bench.guest("guest-allocate", f"--used={USED_MIB}", *options, FRESH_MIB,
                                     mem_mib=MEM_MIB)
    try:
        took_ms, addressed_us = map(float, output.split())
    except ValueError as error:
        raise Failed(f"guest-allocate: it said {output!r}") from error
    return took_ms, addressed_us, operations


def fills(bench, runs, *options):
    """The same in a clone, several times: as fill(), in lists, and bytes that it fetched."""
    found = [fill(bench, "--clone", *options) for _ in range(runs)]
    operations = [o for _, _, of_run in found for o in of_run]
    clones = [c for o in operations for c in o["clones"]]
    home = bench.cluster.hosts[0]["name"]
    if any(c["host"] == home for c in clones):
        raise Failed("guest-allocate: its clone was not on another host")
    return [f[0] for f in found], [f[1] for f in found], operations, [c["bytes_fetched"] for c in clones]


def allocation(bench):
    """Fresh memory, filled in a booted VM, in a clone, and in one whose kernel has no module."""
    report = bench.report
    report.section = (f"{FRESH_MIB} MB of fresh memory are filled ({MEM_MIB >> 10} GB guest, "
                      f"{USED_MIB} MB used)")
    runs = bench.runs(5, 2)
    booted = report.row("fill-booted", "in a VM that was booted",
                        [fill(bench)[0] for _ in range(runs)])
    times, addressed, operations, sizes = fills(bench, runs)
    bench.raw["allocate"] = operations
    cloned = report.row("fill-clone", "in a clone on another host", times)
    report.ratio("fill-time", "that, against the booted VM", cloned, booted, TIME_RATIO)
    fetched = report.row("fill-bytes", "fetched for it", sizes, "bytes")
    times, _, operations, sizes = fills(bench, runs, "--without")
    bench.raw["allocate-without"] = operations
    report.row("fill-without", "in a clone without the kernel module", times)
    without = report.row("fill-bytes-without", "fetched for it", sizes, "bytes")
    report.ratio("fill-bytes-ratio", "fetched with the module against without", fetched, without,
                 BYTES_RATIO)
    report.row("addressed", "a clone's first moment to its addresses in place", addressed, "µs",
               ADDRESSED_US, note="in the clone's time, page faults and cold code in it")
    report.row("hold", "the module's part of the parent's pause",
               each(bench.raw["allocate"], "hold_ms"), limit=HOLD_MS)
