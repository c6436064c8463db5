# SPDX-License-Identifier: GPL-2.0-or-later
"""Two VMs of plain QEMU, booted on two hosts of a cluster and joined as sfd joins a parent and its
clones: by a bridge on each host, and a tunnel between them."""

import os
import subprocess
import tempfile

import qemu
from cluster import Failed

VNI = 0xfffffe  # sfd takes others
BRIDGE, TUNNEL, TAP = "bench-bridge", "bench-tunnel", "bench-tap"
MTU_BYTES = 1500
ADDRESSES = ("10.255.0.1", "10.255.0.2")
KERNEL_OPTIONS = ("cryptomgr.notests init_on_alloc=0 psi=0 lsm= audit=0 noautogroup nowatchdog "
                  "transparent_hugepage=madvise ipv6.disable_ipv6=1 rdinit=/pair")
READY, DONE = b"pair: ready", b"pair: done"

# The first process: the guest's own, beside which this waits for a NIC and serves commands, as
# rsh's daemon does. The VM that knows of a peer then runs the command.
FIRST = """#!/bin/sh
pair() {{
	until [ -c /dev/console ] && [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
	exec >/dev/console 2>&1 </dev/null
	ip link set lo up
	ip addr add "$address/24" dev eth0
	ip link set eth0 up
	nc -ll -p 514 -e sh &
	echo "{ready}"
	[ -n "$peer" ] || return
	cd /root
	until ping -c 1 -W 1 "$peer" >/dev/null; do :; done
	{command}
	echo "{done}"
}}
mknod /dev/null c 1 3
pair &
exec /init
"""
# As rsh is called by MPICH: HOST COMMAND ARGUMENT…
RSH = """#!/bin/sh
host=$1
shift
echo "exec $*" | nc "$host" 514
"""


def _ip(host, *words):
    done = subprocess.run(["ip", "-n", host, *words], check=False, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Pair:
    """The network is there within `with`; VMs as often as wanted."""

    def __init__(self, bench, mem_mib, files, command):
        """`files`: pairs of a file and its path in the guest; `command` is one of the shell's."""
        self.bench, self.mem_mib = bench, mem_mib
        cluster = bench.cluster
        self.hosts = [f"sf-{cluster.name}-{cluster.hosts[i]['name']}" for i in range(2)]
        self.underlay = [cluster.hosts[i]["address"] for i in range(2)]
        self.initrd = os.memfd_create("initrd")
        with tempfile.TemporaryDirectory(prefix="sf-bench.") as folder:
            for name, text in (("pair", FIRST.format(ready=READY.decode(), done=DONE.decode(),
                                                     command=command)), ("rsh", RSH)):
                with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                    file.write(text)
            qemu.make_initrd(bench.initrd, [*files, (f"{folder}/pair", "pair"),
                                            (f"{folder}/rsh", "usr/bin/pair-rsh")],
                             f"/proc/{os.getpid()}/fd/{self.initrd}")

    def __enter__(self):
        try:
            for i, host in enumerate(self.hosts):
                self._join(host, self.underlay[i], self.underlay[1 - i])
        except BaseException:
            self.__exit__()
            raise
        return self

    def _join(self, host, own, peer):
        """As host/vnet/vnet.c does, without its filters."""
        mtu = ["mtu", str(MTU_BYTES)]
        _ip(host, "link", "add", BRIDGE, *mtu, "type", "bridge", "mcast_snooping", "0")
        _ip(host, "link", "add", TUNNEL, *mtu, "type", "vxlan", "id", str(VNI), "local", own,
            "remote", peer, "dstport", "4789", "udpcsum", "learning")
        _ip(host, "tuntap", "add", TAP, "mode", "tap")
        for name in (TUNNEL, TAP):
            _ip(host, "link", "set", name, "master", BRIDGE, "up")
        _ip(host, "link", "set", BRIDGE, "up")

    def __exit__(self, *_):
        for host in self.hosts:
            for name in (TAP, TUNNEL, BRIDGE):
                subprocess.run(["ip", "-n", host, "link", "del", name], check=False,
                               capture_output=True)
        os.close(self.initrd)

    def _boot(self, i, environment):
        more = " ".join(f"{name}={value}" for name, value in environment.items())
        return qemu.Qemu(
            self.bench.accel, self.mem_mib, "-kernel", self.bench.kernel,
            "-initrd", f"/proc/{os.getpid()}/fd/{self.initrd}",
            "-append", f"{qemu.KERNEL_OPTIONS[self.bench.accel]} {KERNEL_OPTIONS} {more}",
            net=["-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no,vhost=off",
                 "-device", f"{qemu.NIC},mac=52:54:00:00:00:0{i + 1}"],
            within=["ip", "netns", "exec", self.hosts[i]])

    def run(self):
        """Boots both, runs the command in the first. Returns what it printed."""
        first, second = ADDRESSES
        with self._boot(1, {"address": second}) as other:
            other.wait_console(READY)
            with self._boot(0, {"address": first, "peer": second}) as one:
                one.wait_console(READY)
                return one.wait_console(DONE)
