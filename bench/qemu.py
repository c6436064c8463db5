# SPDX-License-Identifier: GPL-2.0-or-later
"""The same guest in plain QEMU: boot it, save all of it to memory of this machine, restore it."""

import json
import os
import select
import socket
import subprocess
import tempfile
import time

from cluster import Failed

PROGRAM = "qemu-system-x86_64"
READY_TIMEOUT_S = 120
POLL_S = 0.002  # what QMP has no event for
FULL_SPEED = 1 << 40  # bytes a second; QEMU's own limit would be 128 MB/s
FILLED, TICK = b"filled", b"~"  # what guest-fill prints

KERNEL_OPTIONS = {
    "tcg": "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check",
    "kvm": "console=ttyS0 panic=-1 quiet",
}
ACCEL = {"tcg": "tcg,thread=multi,tb-size=128", "kvm": "kvm"}
CPU = "Nehalem"
MACHINE = "q35,mem-merge=off,vmport=off,smbus=off,sata=off,usb=off,graphics=off,smm=off,i8042=off"

# The devices of host/vmm/command.c, with nobody at the other ends.
DEVICES = """
-nodefaults -no-user-config -no-reboot -display none -serial stdio
-device virtio-serial-pci,id=ports,bus=pcie.0,addr=0x2,max_ports=3,disable-legacy=on
-chardev null,id=xenstore
-device virtserialport,id=port1,bus=ports.0,nr=1,chardev=xenstore,name=org.snowflock.xenstore.0
-chardev null,id=agent
-device virtserialport,id=port2,bus=ports.0,nr=2,chardev=agent,name=org.snowflock.agent.0
-object rng-builtin,id=random
-device virtio-rng-pci,id=rng0,rng=random,bus=pcie.0,addr=0x3,disable-legacy=on
""".split()
NIC = "virtio-net-pci,id=net0,netdev=net,bus=pcie.0,addr=0x4,disable-legacy=on,romfile="
ALONE = ("-netdev", "hubport,id=net,hubid=0", "-device", NIC)


def version():
    """The first line of --version."""
    out = subprocess.run([PROGRAM, "--version"], check=True, text=True, capture_output=True).stdout
    return out.splitlines()[0]


def make_initrd(initrd, files, to):
    """Writes to the file `to` the initrd with `files` added: pairs of a file and its path there, in
    a folder that the initrd has."""
    with tempfile.TemporaryDirectory(prefix="sf-bench.") as tree, open(to, "wb") as out:
        for path, name in files:
            subprocess.run(["install", "-D", "-m", "755", path, f"{tree}/{name}"], check=True)
        with open(initrd, "rb") as original:
            out.write(original.read())
        out.write(b"\0" * (-out.tell() % 512))
        out.flush()
        names = "\n".join(name.lstrip("/") for _, name in files)
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(),
                       stdout=out, check=True)


class Qemu:
    """One QEMU process, ended with its `with` block or with this program."""

    def __init__(self, accel, mem_mib, *more, net=ALONE, within=()):
        """`more` and `net` are options of QEMU, `within` a command that is to run it."""
        ours, theirs = socket.socketpair()
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *within, PROGRAM, "-machine", MACHINE,
             "-accel", ACCEL[accel], "-cpu", CPU, "-m", f"{mem_mib}M", *DEVICES, *net,
             "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
             "-mon", "chardev=qmp,mode=control", *more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()])
        theirs.close()
        self.socket, self.lines = ours, ours.makefile("r")
        self.socket.settimeout(READY_TIMEOUT_S)

    def __enter__(self):
        try:
            self._message()  # the greeting
            self.command("qmp_capabilities")
            self.command("migrate-set-parameters", {"max-bandwidth": FULL_SPEED})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.lines.close()
        self.socket.close()

    def _message(self):
        line = self.lines.readline()
        if not line:
            said = self.process.stdout.read().decode(errors="replace").strip()
            raise Failed(f"{PROGRAM} ended: {said}")
        return json.loads(line)

    def command(self, name, arguments=None):
        """Returns its answer."""
        message = {"execute": name, **({"arguments": arguments} if arguments else {})}
        self.socket.sendall(json.dumps(message).encode())
        while True:
            answer = self._message()
            if "error" in answer:
                raise Failed(f"QMP {name}: {answer['error']['desc']}")
            if "return" in answer:  # else an event
                return answer["return"]

    def wait_console(self, text):
        """Until the guest printed `text`. Returns all that it printed till then."""
        seen, console, limit = b"", self.process.stdout.fileno(), time.monotonic() + READY_TIMEOUT_S
        while text not in seen:
            if not select.select([console], [], [], limit - time.monotonic())[0]:
                raise Failed(f"plain QEMU: the guest did not print {text} in {READY_TIMEOUT_S} s")
            more = os.read(console, 65536)
            if not more:
                raise Failed(f"plain QEMU ended: {seen.decode(errors='replace').strip()}")
            seen += more
        return seen.decode(errors="replace")

    def save(self, file):
        """Saves all of the VM, standing still, to a memfd. Returns ms from its stop to the end."""
        start = time.monotonic()
        self.command("stop")
        self.command("migrate", {"uri": f"exec:cat >/proc/{os.getpid()}/fd/{file}"})
        while (status := self.command("query-migrate")["status"]) != "completed":
            if status in ("failed", "cancelled"):
                raise Failed(f"plain QEMU: saving {status}")
            time.sleep(POLL_S)
        return (time.monotonic() - start) * 1000


def boot(accel, mem_mib, kernel, initrd, fill_mib):
    """A guest of plain QEMU that wrote `fill_mib` megabytes; to be used by `with`."""
    return Qemu(accel, mem_mib, "-kernel", kernel, "-initrd", initrd, "-append",
                f"{KERNEL_OPTIONS[accel]} rdinit=/bench-fill -- {fill_mib}")


def restore(accel, mem_mib, file):
    """Starts a QEMU that loads what save() wrote. Returns ms from its start until the guest does
    something."""
    with Qemu(accel, mem_mib, "-incoming", "defer") as vm:
        vm.command("migrate-incoming", {"uri": f"exec:cat </proc/{os.getpid()}/fd/{file}"})
        while vm.command("query-status")["status"] == "inmigrate":
            time.sleep(POLL_S)
        vm.command("cont")
        vm.wait_console(TICK)
        return (time.monotonic() - vm.start) * 1000
