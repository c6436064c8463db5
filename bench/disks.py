# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of clones: what freezing them adds to the pause, and how what they inherit gets to them."""

import contextlib
import os
import statistics
import tempfile

from cluster import Failed
from distribution import MULTICAST, TREE, cluster_of, parse, sent_bytes

MEM_MIB = 256
SMALL_MIB, SMALL_WRITE_MIB = 64, 32
LARGE_MIB, LARGE_DATA_MIB, LARGE_WRITE_MIB = 10000, 1200, 300
HOSTS, CLONES, READ_MIB = 4, 8, 200
READ_BYTES = READ_MIB << 20
PARTS = READ_MIB // 2  # of what is read, written by the guest

# Targets.
DISK_MS = 5
SENT = 1.2


@contextlib.contextmanager
def image(mib, data_mib):
    """A raw image, sparse but for random data at its beginning, no two megabytes of it alike."""
    noise = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="sf-bench.") as file:
        for at in range(data_mib):
            file.write(noise[at:] + noise[:at])
        file.truncate(mib << 20)
        file.flush()
        os.fsync(file.fileno())
        yield file


def forget(file):
    """From here on the host has the image on its disk alone."""
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def guest_disk(bench, cluster, file, *options):
    """Runs it in a new VM with that image. Returns the record's operations, and output."""
    guest = [] if file is None else ["--image", file.name, "--kernel", bench.kernel,
                                     "--initrd", bench.initrd]
    return cluster.run(f"{bench.build}/bench/guest-disk", *options, mem_mib=MEM_MIB, options=guest)


def frozen(bench, key, file, write_mib):
    """Clone operations, something written before each. Returns pauses, and the disk's part."""
    rounds = bench.runs(10, 4)
    operations, _ = guest_disk(bench, bench.cluster, file, f"--rounds={rounds}",
                               f"--write={write_mib}")
    if len(operations) != rounds:
        raise Failed(f"disks-{key}: {len(operations)} operations instead of {rounds}")
    bench.raw[f"disks-{key}"] = operations
    return [o["pause_ms"] for o in operations], [o["disk_ms"] for o in operations]


def freezing(bench):
    """The pause of a VM with and without a disk."""
    report = bench.report
    report.section = (f"A disk of {LARGE_MIB // 1000} GB, {LARGE_DATA_MIB} MB of data, is frozen; "
                      f"{LARGE_WRITE_MIB} MB were written since the last time")
    none, _ = frozen(bench, "none", None, 0)
    with image(SMALL_MIB, SMALL_MIB) as file:
        small, small_disk = frozen(bench, "small", file, SMALL_WRITE_MIB)
    with image(LARGE_MIB, LARGE_DATA_MIB) as file:
        large, large_disk = frozen(bench, "large", file, LARGE_WRITE_MIB)
    report.row("disk-large", "freezing the disk, within the pause", large_disk, "ms", DISK_MS)
    report.row("disk-small", f"freezing one of {SMALL_MIB} MB, {SMALL_WRITE_MIB} MB written",
               small_disk)
    without = report.row("disk-pause-none", "pause without a disk", none)
    report.row("disk-pause-small", f"pause with a disk of {SMALL_MIB} MB", small)
    with_it = report.row("disk-pause-large", "pause with the disk", large)
    report.row("disk-pause-added", "its median less that without", [with_it - without], "ms",
               DISK_MS)


def read_by(bench, cluster, clones, read_mib, write_mib, per_host):
    """Clones that read. Returns (seconds for all, clones, bytes the parent's host sent, mode)."""
    with image(LARGE_MIB, READ_MIB) as file:
        forget(file)
        before = sent_bytes(cluster, 0)
        operations, output = guest_disk(bench, cluster, file, f"--clones={clones}",
                                        f"--per-host={per_host}", f"--read={read_mib}",
                                        f"--write={write_mib}")
        sent = sent_bytes(cluster, 0) - before
    took_s, each = parse(output)
    if len(each) < clones:
        raise Failed(f"guest-disk: {len(each)} clones instead of {clones}")
    return took_s, each, sent, operations[0]["mode"]


def crowd(bench, mode):
    """All clones read the same, in a cluster of that mode: seconds, bytes; bytes if they do not."""
    times, sent = [], []
    with cluster_of(bench, f"disk-{mode}", f"--distribution={mode}", "--mem-per-host", "2G",
                    hosts=HOSTS) as cluster:
        _, _, rest, _ = read_by(bench, cluster, CLONES, 0, PARTS, CLONES // HOSTS)
        for _ in range(bench.runs(3, 1)):
            took_s, clones, size, used = read_by(bench, cluster, CLONES, READ_MIB, PARTS,
                                                 CLONES // HOSTS)
            if used != mode or len({host for host, _ in clones}) != HOSTS:
                raise Failed(f"disks went by {used} to {clones}")
            times.append(took_s)
            sent.append(size)
    bench.raw[f"disk-read-{mode}"] = {"seconds": times, "sent_bytes": sent, "without": rest}
    return times, sent, rest


def reading(bench):
    """Bytes on the parent's link, and times."""
    report = bench.report
    report.section = (f"{CLONES} clones on {HOSTS} hosts read {READ_MIB} MB of their disks: "
                      f"{PARTS} MB the parent wrote, {READ_MIB - PARTS} MB of the image")
    for mode in (MULTICAST, TREE):
        times, sent, rest = crowd(bench, mode)
        report.row(f"disk-sent-{mode}", f"sent by the parent's host, {mode}",
                   [s / READ_BYTES for s in sent], f"× {READ_MIB} MB", SENT)
        report.row(f"disk-rest-{mode}", "the same if nothing is read", [rest / READ_BYTES],
                   f"× {READ_MIB} MB")
        report.row(f"disk-time-{mode}", f"until the last clone had ended, {mode}", times, "s")


def rates(bench):
    """What one clone on another host reads, beside its parent; the image is on the host's disk."""
    report, mb = bench.report, READ_BYTES / 1e6
    report.section = f"{READ_MIB} MB of an image that is in no memory are read in order"
    there, here = [], []
    with cluster_of(bench, "disk-rate", "--mem-per-host", "2G", hosts=2) as cluster:
        for _ in range(bench.runs(3, 2)):
            with image(LARGE_MIB, READ_MIB) as file:
                forget(file)
                _, output = guest_disk(bench, cluster, file, f"--read={READ_MIB}", "--here")
                here.append(mb / parse(output)[0])
            _, clones, _, _ = read_by(bench, cluster, 1, READ_MIB, 0, 1)
            host, took_s = clones[0]
            if host == cluster.hosts[0]["name"]:
                raise Failed("the clone is on its parent's host")
            there.append(mb / took_s)
    bench.raw["disk-rates"] = {"parent": here, "clone": there}
    report.row("disk-rate-parent", "by the parent", here, "MB/s")
    report.row("disk-rate-clone", "by one clone on another host", there, "MB/s")
    report.ratio("disk-rate-ratio", "the first against the second", statistics.median(here),
                 statistics.median(there))
