# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's kernel module saves: memory that nobody needs, and time until a clone is itself."""

from cluster import Failed
from measure import each

MEM_MIB, USED_MIB, FRESH_MIB = 1024, 250, 400

# Targets.
BYTES_RATIO, TIME_RATIO = 1 / 20, 1.3
ADDRESSED_US, HOLD_MS = 5000, 3


def fill(bench, *options):
    """One VM. Returns ms to fill and µs to its addresses for each line, and the record's operations."""
    operations, output = bench.guest("guest-allocate", f"--used={USED_MIB}", *options, FRESH_MIB,
                                     mem_mib=MEM_MIB)
    try:
        lines = [[float(word) for word in line.split()] for line in output.splitlines()]
        return [line[0] for line in lines], [line[1] for line in lines], operations
    except (ValueError, IndexError) as error:
        raise Failed(f"guest-allocate: it said {output!r}") from error


def fills(bench, count, *options):
    """The same in clones of one VM, one after the other: and bytes that each fetched."""
    times, addressed, operations = fill(bench, f"--clones={count}", *options)
    made = [c for o in operations for c in o["clones"]]
    home = bench.cluster.hosts[0]["name"]
    if any(c["host"] == home for c in made):
        raise Failed("guest-allocate: its clone was not on another host")
    return times, addressed, operations, [c["bytes_fetched"] for c in made]


def allocation(bench):
    """Fresh memory, filled in a booted VM, in clones, and in clones whose kernel has no module."""
    report = bench.report
    report.section = (f"{FRESH_MIB} MB of free memory are filled ({MEM_MIB >> 10} GB guest, "
                      f"{USED_MIB} MB used, all of the rest used before)")
    booted = report.row("fill-booted", "in a VM that was booted",
                        [fill(bench)[0][0] for _ in range(bench.runs(5, 2))])
    times, addressed, operations, sizes = fills(bench, bench.runs(9, 5))
    bench.raw["allocate"] = operations
    cloned = report.row("fill-clone", "in a clone on another host", times,
                        note=f"the first {times[0]:.0f} ms")
    report.ratio("fill-time", "that, against the booted VM", cloned, booted, TIME_RATIO)
    fetched = report.row("fill-bytes", "fetched for it", sizes, "bytes")
    times, _, operations, sizes = fills(bench, bench.runs(3, 2), "--without")
    bench.raw["allocate-without"] = operations
    report.row("fill-without", "in a clone without the kernel module", times)
    without = report.row("fill-bytes-without", "fetched for it", sizes, "bytes")
    report.ratio("fill-bytes-ratio", "fetched with the module against without", fetched, without,
                 BYTES_RATIO)
    report.row("addressed", "a clone's first moment to its addresses in place", addressed, "µs",
               ADDRESSED_US, note="in the clone's time, page faults and cold code in it; "
               f"the first {addressed[0] / 1000:.0f} ms")
    report.row("hold", "the module's part of the parent's pause",
               each(bench.raw["allocate"], "hold_ms"), limit=HOLD_MS)
