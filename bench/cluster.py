# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster of the benchmark's own on this machine, by sfctl, and runs on it."""

import json
import os
import subprocess
import tempfile
import time

RUN_TIMEOUT_S = 300


class Failed(Exception):
    """Something could not be measured; the sentence says what and why."""


class Cluster:
    """Up within `with`, down after it, whatever happens."""

    def __init__(self, sfctl, guest, name, hosts, *options):
        self.sfctl, self.guest, self.name, self.host_count = sfctl, guest, name, hosts
        self.options = options

    def _sfctl(self, *args, timeout=60):
        return subprocess.run([self.sfctl, "--cluster", self.name, *args], check=False, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout)

    def _must(self, *args, timeout=60):
        done = self._sfctl(*args, timeout=timeout)
        if done.returncode:
            raise Failed(f"sfctl {' '.join(args[:2])}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def __enter__(self):
        try:
            self._must("cluster", "up", "--hosts", str(self.host_count), "--guest", self.guest,
                       *self.options)
            self.hosts = json.loads(self._must("hosts", "--json"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._sfctl("cluster", "down").returncode:
            self._sfctl("clean", self.name)

    def place(self, index):
        """Network namespace and address of the host with that index."""
        host = self.hosts[index]
        return f"/run/netns/sf-{self.name}-{host['name']},{host['address']}"

    def _run_options(self, mem_mib, *options):
        return ["run", "--quiet", "--no-stdin", "--mem", f"{mem_mib}M", *options, "--"]

    def run(self, program, *args, mem_mib, puts=(), shell=None, options=()):
        """Runs a program in a new VM, or a shell command that runs it; `puts`: more files and where
        to; `options` of sfctl run. Returns the record's operations and the output."""
        name = os.path.basename(program)
        with tempfile.TemporaryDirectory(prefix="sf-bench.") as folder:
            record = f"{folder}/record.json"
            more = [word for path, to in puts for word in ("--put", f"{path}:{to}")]
            options = self._run_options(mem_mib, "--put", program, *more, "--json", record,
                                        *options)
            command = ["sh", "-c", shell] if shell else [f"./{name}", *map(str, args)]
            done = self._sfctl(*options, *command, timeout=RUN_TIMEOUT_S)
            if done.returncode:
                why = done.stderr.strip() or "no word of why"
                raise Failed(f"{name}: status {done.returncode}: {why}")
            with open(record, encoding="utf-8") as file:
                return json.load(file)["clones"], done.stdout

    def boot(self, *command, mem_mib, host=None):
        """Boots a VM for one command. Returns ms until its first line of output, and that line."""
        options = self._run_options(mem_mib, *(["--host", host] if host else []))
        start = time.monotonic()
        with subprocess.Popen([self.sfctl, "--cluster", self.name, *options, *command],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            line = process.stdout.readline()
            took_ms = (time.monotonic() - start) * 1000
            _, complaint = process.communicate(timeout=RUN_TIMEOUT_S)
        if process.returncode or not line:
            raise Failed(f"boot: status {process.returncode}: {complaint.strip()}")
        return took_ms, line.strip()
