# SPDX-License-Identifier: GPL-2.0-or-later
"""What one would do without clones: booting, or QEMU's own save and restore. Then the ratios."""

import os
import subprocess
import threading

import qemu
from cluster import Failed
from measure import FILL_MIB, MEM_MIB


def at_once(count, function):
    """Calls function(i) in `count` threads. Returns the greatest result; raises what one raised."""
    results, errors = [], []

    def call(i):
        try:
            results.append(function(i))
        except (Failed, OSError, subprocess.SubprocessError) as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return max(results)


def cold_boots(bench):
    """The same guest, booted: until a command's first word comes."""
    hosts = bench.cluster.hosts
    bench.report.section = f"Without clones: boot ({MEM_MIB} MB; nothing is loaded in it)"

    def boot(i):
        host = hosts[i % len(hosts)]["name"]
        return bench.cluster.boot("uname", "-r", mem_mib=MEM_MIB, host=host)[0]

    bench.medians["boot"] = bench.report.row("boot", "one, until its first word",
                                             [boot(0) for _ in range(bench.runs(5, 2))])
    bench.medians["boot", 8] = bench.report.row("boot-8", "8 at once, until all spoke",
                                                [at_once(8, boot) for _ in range(bench.runs(3, 1))])


def save_restore(bench):
    """QEMU's own: all of the same VM to a file in memory, and back into new processes."""
    report, medians = bench.report, bench.medians
    report.section = f"Without clones: save and restore ({MEM_MIB} MB, {FILL_MIB} MB written)"
    saves, sizes, restores, restores_8 = [], [], [], []
    image, initrd = os.memfd_create("vm"), os.memfd_create("initrd")
    try:
        initrd_path = f"/proc/{os.getpid()}/fd/{initrd}"
        fill = f"{bench.build}/bench/guest-fill", "bench-fill"
        qemu.make_initrd(bench.initrd, [fill], initrd_path)
        with qemu.boot(bench.accel, MEM_MIB, bench.kernel, initrd_path, FILL_MIB) as vm:
            vm.wait_console(qemu.FILLED)
            for _ in range(bench.runs(5, 2)):
                os.ftruncate(image, 0)
                saves.append(vm.save(image))
                sizes.append(os.fstat(image).st_size)
                vm.command("cont")
        for _ in range(bench.runs(5, 2)):
            restores.append(qemu.restore(bench.accel, MEM_MIB, image))
        for _ in range(bench.runs(3, 1)):
            restores_8.append(at_once(8, lambda _: qemu.restore(bench.accel, MEM_MIB, image)))
    finally:
        os.close(image)
        os.close(initrd)
    medians["save"] = report.row("save", "save; the VM stands still", saves)
    report.row("save-bytes", "what is saved", sizes, "bytes")
    medians["restore"] = report.row("restore", "restore one, until it lives", restores)
    medians["restore", 8] = report.row("restore-8", "restore 8 at once, until all live", restores_8)


def ratios(bench):
    """Clones against both."""
    report, m = bench.report, bench.medians
    report.section = "Clones against that (how many times as fast)"

    def total(*keys):
        return sum(m[k] for k in keys) if all(m.get(k) for k in keys) else None

    for key, what, above, below in (
        ("boot", "1 clone answered, against 1 boot", ["boot"], [1]),
        ("boot-ticket", "the same, the ticket counted", ["boot"], [1, ("ticket", 1)]),
        ("boot-8", "8 clones answered, against 8 boots at once", [("boot", 8)], [8]),
        ("boot-8-ticket", "the same, the ticket counted", [("boot", 8)], [8, ("ticket", 8)]),
        ("save", "1 clone answered, against save and restore", ["save", "restore"], [1]),
        ("save-8", "8 clones answered, against save and 8 restores", ["save", ("restore", 8)], [8]),
        ("save-pause", "the parent stands still, against save", ["save"], ["pause"]),
    ):
        report.ratio(f"{key}-ratio", what, total(*above), total(*below))
