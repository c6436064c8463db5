# SPDX-License-Identifier: GPL-2.0-or-later
"""How memory gets to clones on many hosts: bytes are counted at the hosts' interfaces.

Each measurement has clusters of its own, since how pages travel is an option of the cluster.
"""

import json
import os
import statistics
import subprocess
import sys

from cluster import Cluster, Failed

HOSTS, CLONES, SET_MIB, MEM_MIB = 8, 32, 100, 256
STREAM_MIB, STREAM_MEM_MIB = 200, 400
WIRE = "eth0"
SET_BYTES = SET_MIB << 20
LOSS_PERCENT = 5
MULTICAST, TREE, UNICAST = "multicast", "tree", "unicast"

# Targets.
SENT = {MULTICAST: 1.15, TREE: 2, UNICAST: None}
LOSS_RATIO = 1.5
STREAM_RATIO = 1 / 0.6
FAULT_MEDIAN, FAULT_P99 = 2.5, 8
TOOL_RATIO = 1.07

LOSSY = """
table inet bench-loss {
	chain in {
		type filter hook input priority -10; policy accept;
		udp dport != 4789 numgen random mod 100 < %d counter drop
	}
}
"""

# A stream of so many bytes from one host to another; the receiver prints bytes per second.
RECEIVE = """
import socket, sys, time
s = socket.create_server((sys.argv[1], 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
room, got, start = bytearray(1 << 20), 0, None
while n := c.recv_into(room):
    start = start or time.monotonic()
    got += n
print(got / (time.monotonic() - start))
"""
SEND = """
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for _ in range(int(sys.argv[3])):
    c.sendall(bytes(1 << 20))
"""

FASTA = "/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta"
TOOLS = ("/usr/bin/blastn", "/usr/bin/makeblastdb")
TOOL_WAIT_MS, TOOL_MEM_MIB = 8000, 512
PUSH = "100M/s"
TOOL = "blastn -db /tmp/16s -query /tmp/query.fa -outfmt 6 >/dev/null"
# The parent has searched before: program, libraries and database are in its memory.
TOOL_PREPARE = ("makeblastdb -in /tmp/16s.fa -dbtype nucl -out /tmp/16s >/dev/null && "
                f"head -n 80 /tmp/16s.fa >/tmp/query.fa && {TOOL} && exec ./guest-spread "
                f"--clones=1 --wait={TOOL_WAIT_MS} sh -c '{TOOL}'")


# Program text and data, not numbers made up.
LOADED = ("exec ./guest-spread sh -c 'find / -xdev -type f -size +64k | "
          "xargs cat | wc -c >/dev/null'")


def need_tool():
    if not all(os.path.exists(path) for path in (FASTA, *TOOLS)):
        raise Failed("apt-get install ncbi-blast+ microbiomeutil-data")


def cluster_of(bench, name, *options, hosts=HOSTS):
    name = f"bench-{os.getpid()}-{name}"
    return Cluster(bench.cluster.sfctl, bench.cluster.guest, name, hosts, *options)


def on_host(cluster, index, *command, **options):
    """Runs a command in a host's network."""
    netns = f"sf-{cluster.name}-{cluster.hosts[index]['name']}"
    return subprocess.run(["ip", "netns", "exec", netns, *command], check=True, text=True,
                          capture_output=True, timeout=60, **options).stdout


def sent_bytes(cluster, index):
    return int(on_host(cluster, index, "cat", f"/sys/class/net/{WIRE}/statistics/tx_bytes"))


def parse(output):
    """What guest-spread and guest-disk printed: seconds for all, and of each clone its host and
    seconds; guest-spread's also those when it was done again."""
    first, *lines = output.splitlines()
    clones = []
    for line in lines:
        host, *times_ns, wrong = line.split()
        if wrong != "0":
            raise Failed(f"a clone on {host} found {wrong} wrong words")
        clones.append((host, *(int(ns) / 1e9 for ns in times_ns)))
    return int(first.split()[1]) / 1e9, clones


def spread(bench, cluster, clones, fill_mib, mem_mib, *options):
    """Runs it. Returns (seconds for all, clones, bytes that the parent's host sent, mode)."""
    before = sent_bytes(cluster, 0)
    operations, output = cluster.run(f"{bench.build}/bench/guest-spread", f"--clones={clones}",
                                     f"--fill={fill_mib}", *options, mem_mib=mem_mib)
    took_s, each = parse(output)
    if len(each) < clones:
        raise Failed(f"guest-spread: {len(each)} clones instead of {clones}")
    return took_s, each, sent_bytes(cluster, 0) - before, operations[0]["mode"]


def working_set(bench, mode, lossy=False):
    """The working set read by all clones, in a cluster of that mode; seconds and bytes of each run."""
    times, sent = [], []
    name = mode + ("-lossy" if lossy else "")
    with cluster_of(bench, name, f"--distribution={mode}", "--mem-per-host", "2G") as cluster:
        for index in range(HOSTS) if lossy else ():
            on_host(cluster, index, "nft", "-f", "-", input=LOSSY % LOSS_PERCENT)
        for _ in range(bench.runs(3, 1)):
            took_s, _, size, used = spread(bench, cluster, CLONES, SET_MIB, MEM_MIB)
            if used != mode:
                raise Failed(f"pages went by {used} instead of {mode}")
            times.append(took_s)
            sent.append(size)
    bench.raw[f"working-set-{name}"] = {"seconds": times, "sent_bytes": sent}
    return times, sent


def sets(bench):
    """Bytes and times of each mode, and with loss."""
    report = bench.report
    report.section = (f"{CLONES} clones on {HOSTS} hosts read the same {SET_MIB} MB; W is what they "
                      "read, bytes are all that the parent's host sent")
    medians = {}
    for mode in (MULTICAST, TREE, UNICAST):
        times, sent = working_set(bench, mode)
        medians[mode] = statistics.median(times)
        report.row(f"sent-{mode}", f"sent, {mode}", [s / SET_BYTES for s in sent], "× W",
                   SENT[mode])
        report.row(f"time-{mode}", f"until the last clone had ended, {mode}", times, "s")
    for mode in (MULTICAST, TREE):
        times, sent = working_set(bench, mode, lossy=True)
        report.row(f"lossy-sent-{mode}", f"sent, {mode}, {LOSS_PERCENT} % of datagrams lost",
                   [s / SET_BYTES for s in sent], "× W")
        report.ratio(f"lossy-time-{mode}", f"time, {mode}, against the same without loss",
                     statistics.median(times), medians[mode], LOSS_RATIO)


def tcp_mb_per_s(cluster, here, there, mib):
    """A plain TCP stream between two hosts of the cluster."""
    def netns(index):
        return ["ip", "netns", "exec", f"sf-{cluster.name}-{cluster.hosts[index]['name']}"]

    address = cluster.hosts[there]["address"]
    with subprocess.Popen([*netns(there), sys.executable, "-c", RECEIVE, address], text=True,
                          stdout=subprocess.PIPE) as receiver:
        port = receiver.stdout.readline().strip()
        subprocess.run([*netns(here), sys.executable, "-c", SEND, address, port, str(mib)],
                       check=True, timeout=60)
        rate, _ = receiver.communicate(timeout=60)
    return float(rate) / 1e6


def stream_on(bench, cluster, key, how):
    """One clone on another host reads 200 MB in order, beside a TCP stream to that host."""
    rates, again, tcp = [], [], []
    names = [h["name"] for h in cluster.hosts]
    for _ in range(bench.runs(3, 2)):
        _, clones, _, _ = spread(bench, cluster, 1, STREAM_MIB, STREAM_MEM_MIB)
        host, took_s, again_s = clones[0]
        if host == names[0]:
            raise Failed("the clone is on its parent's host")
        rates.append((STREAM_MIB << 20) / 1e6 / took_s)
        again.append((STREAM_MIB << 20) / 1e6 / again_s)
        tcp.append(tcp_mb_per_s(cluster, 0, names.index(host), STREAM_MIB))
    bench.raw[f"stream-{key}"] = {"mb_per_s": rates, "again_mb_per_s": again,
                                    "tcp_mb_per_s": tcp}
    bench.report.row(f"tcp-{key}", f"a plain TCP stream, {how}", tcp, "MB/s")
    read = bench.report.row(f"read-{key}", f"a clone reads {STREAM_MIB} MB in order, {how}", rates,
                            "MB/s")
    bench.report.row(f"again-{key}", "the same again, when it is there", again, "MB/s",
                     note="what the guest itself can, under emulation")
    bench.report.ratio(f"stream-ratio-{key}", "TCP's rate against it", statistics.median(tcp), read,
                       STREAM_RATIO)


def streams(bench):
    """Sequential reads: as fast as this machine's memory, and on a wire of 1 Gbit/s."""
    bench.report.section = f"A clone on another host reads {STREAM_MIB} MB that it inherited"
    with cluster_of(bench, "stream", "--mem-per-host", "2G", hosts=2) as cluster:
        stream_on(bench, cluster, "memory", "between namespaces")
        shape(cluster)
        stream_on(bench, cluster, "gigabit", "1 Gbit/s")


def shape(cluster):
    """Its wires carry 1 Gbit/s from now on."""
    for index in range(len(cluster.hosts)):
        on_host(cluster, index, "tc", "qdisc", "add", "dev", WIRE, "root", "tbf", "rate", "1gbit",
                "burst", "128kb", "latency", "100ms")


def loaded_memory(bench, cluster):
    """A clone on another host reads programs and libraries that are in the parent's memory. Returns
    seconds and the bytes that the parent's host sent."""
    home = cluster.hosts[0]["name"]
    before = sent_bytes(cluster, 0)
    _, output = cluster.run(f"{bench.build}/bench/guest-spread", mem_mib=TOOL_MEM_MIB,
                            puts=[(FASTA, "/tmp/16s.fa"), *((tool, "/usr/bin/") for tool in TOOLS)],
                            shell=LOADED)
    (host, took_s, _), = parse(output)[1]
    if host == home:
        raise Failed("the clone is on its parent's host")
    return took_s, sent_bytes(cluster, 0) - before


def compression(bench):
    """Whether LZ4 pays: time and bytes with it and without, on a fast wire and on a common one."""
    bench.report.section = "A clone on another host reads programs that its parent has loaded"
    need_tool()
    found = {}
    for word in ("off", "on"):
        with cluster_of(bench, f"lz4-{word}", f"--compress={word}", hosts=2) as cluster:
            found["memory", word] = [loaded_memory(bench, cluster) for _ in range(bench.runs(3, 1))]
            shape(cluster)
            found["gigabit", word] = [loaded_memory(bench, cluster) for _ in range(bench.runs(3, 1))]
    for (key, word), values in found.items():
        wire = "between namespaces" if key == "memory" else "1 Gbit/s"
        name, what = f"{key}-{word}", f"{wire}, compression {word}"
        bench.raw[f"compression-{name}"] = values
        bench.report.row(f"lz4-time-{name}", what, [1e3 * took_s for took_s, _ in values])
        bench.report.row(f"lz4-sent-{name}", "sent for it by the parent's host",
                         [size for _, size in values], "bytes")


def fault_times(bench):
    """Random faults against the round trip, without a guest."""
    bench.report.section = "A remote page fault against a round trip of 4 KB (no guest)"
    with cluster_of(bench, "fault", hosts=2) as cluster:
        found = []
        for _ in range(bench.runs(5, 2)):
            done = subprocess.run(
                [f"{bench.build}/tests/memtap/bench-fault", f"--home={cluster.place(0)}",
                 f"--away={cluster.place(1)}", f"--mem={MEM_MIB}"],
                env={**os.environ, "SF_MEMTAP": f"{bench.build}/host/memtap/sf-memtap"},
                check=True, text=True, capture_output=True, timeout=120)
            found.append(json.loads(done.stdout))
    bench.raw["distribution-faults"] = found
    trips = [f["round_trip_us"]["median"] for f in found]
    bench.report.row("trip", "4 KB there and back, both ends on one processor", trips, "µs")
    bench.report.row("trip-apart", "the same, on two, each to be woken",
                     [f["round_trip_apart_us"]["median"] for f in found], "µs",
                     note="a fault is compared with the first")
    for key, what, limit in (("median", "median", FAULT_MEDIAN), ("p99", "p99", FAULT_P99)):
        values = [f["fault_us"][key] / t for f, t in zip(found, trips)]
        bench.report.row(f"fault-trips-{key}", f"a fault, {what}, in round trips (median)", values,
                         "×", limit)


def tool_seconds(bench, cluster):
    """The demo's search in a clone on another host than its parent, after a wait. Returns seconds,
    and those of the same again, in the same clone and right after it."""
    puts = [(FASTA, "/tmp/16s.fa"), *((tool, "/usr/bin/") for tool in TOOLS)]
    _, output = cluster.run(f"{bench.build}/bench/guest-spread", mem_mib=TOOL_MEM_MIB, puts=puts,
                            shell=TOOL_PREPARE)
    (host, took_s, again_s), = parse(output)[1]
    if host == cluster.hosts[0]["name"]:
        raise Failed("the clone is on its parent's host")
    return took_s, again_s


def tool(bench):
    """blastn in clones whose memory comes when it is touched, and in ones that have it all: by
    turns, since the machine is now faster and now slower, and one clone at a time, since the
    processors are those of all hosts: what is done for one clone would be taken from another."""
    bench.report.section = "blastn in a clone on another host"
    need_tool()
    found = {"lazy": [], "there": []}
    with cluster_of(bench, "lazy", hosts=2) as lazy, \
            cluster_of(bench, "there", f"--push={PUSH}", hosts=2) as there:
        for _ in range(bench.runs(5, 2)):
            for name, cluster in (("lazy", lazy), ("there", there)):
                found[name].append(tool_seconds(bench, cluster))
    bench.raw["tool"] = found
    medians = {}
    for name, what in (("lazy", "memory comes when it is touched"),
                       ("there", f"all of it was sent before (--push={PUSH})")):
        medians[name] = bench.report.row(f"tool-{name}", what,
                                         [took_s for took_s, _ in found[name]], "s")
        bench.report.row(f"tool-again-{name}", "against the same again in that clone",
                         [took_s / again_s for took_s, again_s in found[name]], "×")
    bench.report.ratio("tool-ratio", "the first against the second", medians["lazy"],
                       medians["there"], TOOL_RATIO)
