# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs mcdist-sim over numbers of hosts, links, modes and losses; writes table, JSON, document."""
import argparse
import itertools
import json
import os
import subprocess
import sys
import time

HOSTS = (8, 32, 125, 500, 1000)
MBITS = (1000, 10000)
MODES = ("unicast", "multicast", "tree")
LOSSES_PPM = (0, 10000, 50000)
CLONES = 10
PAGE_BYTES = 4096


def run(program, **options):
    """One simulation. Return: what it printed; `failed` is set if not all pages came, or not right."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    done = subprocess.run([program, "--json", *arguments], capture_output=True, text=True)
    if not done.stdout:
        sys.exit(f"{program} {' '.join(arguments)}: {done.stderr}")
    result = json.loads(done.stdout)
    result["failed"] = done.returncode != 0
    result["options"] = options
    return result


def sets(result):
    """What the source sent, in working sets."""
    return result["source_sent_bytes"] / (result["working_pages"] * PAGE_BYTES)


def ms(ns):
    value = ns / 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def row(result):
    return [str(result["hosts"]), result["mode"], f"{result['bits_per_s'] / 1e9:g}",
            f"{result['loss_ppm'] / 1e4:g}", ms(result["done_ns"]), f"{sets(result):.2f}",
            f"{result['members_sent_bytes'] / result['hosts'] / 1e3:,.0f}",
            ms(result["fault_median_ns"]), ms(result["fault_p99_ns"]), f"{result['faults']:,}",
            f"{result['retries']:,}",
            "NOT DONE" if result["failed"] else f"{result['cpu_ns'] / 1e9:.1f}"]


HEAD = ["hosts", "mode", "Gbit/s", "loss %", "done ms", "source sent, sets", "a member sent, kB",
        "fault median ms", "p99 ms", "faults", "asked again", "simulated in CPU s"]


def table(results):
    rows = [row(r) for r in results]
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "|".join(["--:"] * len(HEAD)) + "|"]
    return lines + ["| " + " | ".join(r) + " |" for r in rows]


def choose(results, **wanted):
    return [r for r in results if all(r[name] == value for name, value in wanted.items())]


def matrix(program, arguments):
    """The simulations, in the order of the table."""
    results = []
    for mbit, loss, hosts, mode in itertools.product(MBITS, LOSSES_PPM, arguments.hosts, MODES):
        results.append(run(program, hosts=hosts, clones=CLONES, working=arguments.working, mbit=mbit,
                           loss=loss, mode=mode, order="same"))
        print(*(f"{cell:>11}" for cell in row(results[-1])), flush=True)
    return results


def orders(program):
    """How the order in which clones touch pages matters."""
    return [dict(run(program, hosts=125, clones=CLONES, working=2048, mbit=10000, loss=10000,
                     mode=mode, order=order), order=order)
            for order, mode in itertools.product(("row", "same", "random"), MODES)]


def large(program):
    """8 hosts, 32 clones, 100 MB: the benchmark on real hosts has the same."""
    return [run(program, hosts=8, clones=4, working=25600, mbit=mbit, loss=loss, mode=mode,
                order="row")
            for mbit, loss, mode in itertools.product(MBITS, (0, 50000), MODES)]


def flatness(results):
    """The source's bytes and the time at the largest number of hosts against those at the smallest."""
    lines = ["| Gbit/s | loss % | mode | source sent, sets: from … to | ratio | done ms: from … to |",
             "|--:|--:|---|--:|--:|--:|"]
    for mbit, loss, mode in itertools.product(MBITS, LOSSES_PPM, MODES):
        some = choose(results, bits_per_s=mbit * 10 ** 6, loss_ppm=loss, mode=mode)
        lines.append(f"| {mbit / 1000:g} | {loss / 1e4:g} | {mode} | {sets(some[0]):.2f} … "
                     f"{sets(some[-1]):.2f} | {sets(some[-1]) / sets(some[0]):.2f} | "
                     f"{ms(some[0]['done_ns'])} … {ms(some[-1]['done_ns'])} |")
    return lines


def commit():
    """What is measured; nothing outside of a repository."""
    done = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse",
                           "--short=12", "HEAD"], capture_output=True, text=True)
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""


def document(results, more, arguments, took_s):
    size_mb = arguments.working * PAGE_BYTES / 1e6
    with open(os.path.join(os.path.dirname(__file__), "simulation-text.md"), encoding="utf-8") as f:
        text = f.read()
    parts = {
        "VERSION": arguments.package + commit(), "TOOK": f"{took_s:.0f}",
        "WORKING": str(arguments.working),
        "MB": f"{size_mb:.1f}", "CLONES": str(CLONES),
        "LARGEST": f"{max(r['cpu_ns'] for r in results) / 1e9:.0f}",
        "MEMORY": f"{max(r['peak_memory_bytes'] for r in results) / 1e6:.0f}",
        "FLAT": "\n".join(flatness(results)),
        "LARGE": "\n".join(table(more["large"])),
        "ORDERS": "\n".join(line.replace("| mode |", "| mode, order |") for line in table(
            [dict(r, mode=f"{r['mode']}, {r['order']}") for r in more["orders"]])),
        "TABLE": "\n".join(table(results)),
    }
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="mcdist-sim")
    parser.add_argument("--package", default="", help="name and version")
    parser.add_argument("--json", help="file for all that was printed")
    parser.add_argument("--markdown", help="file for the document")
    parser.add_argument("--working", type=int, default=512, help="pages of the working set")
    parser.add_argument("--most", type=int, default=HOSTS[-1], help="hosts at most")
    arguments = parser.parse_args()
    arguments.hosts = [n for n in HOSTS if n <= arguments.most]
    began_s = time.monotonic()
    print(*(f"{cell:>11.11}" for cell in HEAD))
    results = matrix(arguments.program, arguments)
    more = {"orders": orders(arguments.program), "large": large(arguments.program)}
    print(*table(more["large"]), *table(more["orders"]), *flatness(results), sep="\n")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as f:
            json.dump({"matrix": results, **more}, f, indent=1)
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as f:
            f.write(document(results, more, arguments, time.monotonic() - began_s))
    every = results + more["orders"] + more["large"]
    sys.exit(any(r["failed"] for r in every))


if __name__ == "__main__":
    main()
