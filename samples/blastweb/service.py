#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the VM: a web page that searches 16S genes with blastn, in clones of this VM.

    service.py PORT WORKERS

    GET /             the page
    GET /example      a sequence to try
    POST /search      FASTA in, {"search": number} or {"error": sentence} out
    GET /search/N     how far it is, and in the end what was found
"""
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import snowflock

GENES = "/data/16s.fa"
PAGE = "/data/page.html"
PART = "/data/part"  # of the database: one for each worker
MAX_BYTES = 50_000  # of a request
MAX_LETTERS = 20_000
MAX_QUERIES = 10
SHOWN = 20  # hits of each query
LIMIT_SECONDS = 180  # for the workers; a machine may have much else to do
LETTERS = re.compile("[ACGTUNRYSWKMBDHV]+")
BLASTN = ["blastn", "-searchsp", "10000000000", "-evalue", "1e-5",
          "-max_target_seqs", "50", "-max_hsps", "1",
          "-outfmt", "6 qseqid sseqid pident length evalue bitscore"]


class Refused(Exception):
    """What was sent cannot be searched for; a sentence says why."""


class Query(NamedTuple):
    name: str
    letters: str


def read_queries(text: str) -> List[Query]:
    """The sequences of a FASTA text; without a header it is one sequence."""
    if not text.strip():
        raise Refused("Paste a sequence first.")
    if not text.lstrip().startswith(">"):
        text = ">query\n" + text
    queries = []
    for number, record in enumerate(re.split(r"^\s*>", text, flags=re.MULTILINE)[1:], 1):
        header, _, letters = record.partition("\n")
        words = header.split()
        name = re.sub(r"[^\w.|:-]", "_", words[0])[:40] if words else f"query{number}"
        letters = re.sub(r"\s", "", letters).upper()
        if not letters:
            raise Refused(f"Sequence “{name}” is empty.")
        if not LETTERS.fullmatch(letters):
            wrong = LETTERS.sub("", letters)[0]
            raise Refused(f"Sequence “{name}” has “{wrong}” in it, which is no letter of a nucleotide.")
        if any(query.name == name for query in queries):
            name += f"_{number}"
        queries.append(Query(name, letters))
    if len(queries) > MAX_QUERIES:
        raise Refused(f"{len(queries)} sequences are too many: up to {MAX_QUERIES} are taken.")
    if sum(len(query.letters) for query in queries) > MAX_LETTERS:
        raise Refused(f"This is too long: up to {MAX_LETTERS:,} letters are taken.")
    return queries


def read_genes() -> List[Tuple[str, str]]:
    with open(GENES, encoding="latin-1") as file:
        records = file.read().lstrip(">").split("\n>")
    return [(header, letters) for header, _, letters in (r.partition("\n") for r in records)]


def title_of(header: str) -> Tuple[str, str]:
    """The name of a gene's owner, and what it is a kind of."""
    _, _, rest = header.partition("\t") if "\t" in header else header.partition(" ")
    lineage = [word for word in header.split("\t")[-1].split("; ") if word]
    name = re.split(r"[,;(\t]", rest)[0].strip()
    if len(lineage) > 1 and name in ("", lineage[0]):
        name = f"{lineage[-1]}, unnamed"
    return name, " › ".join(lineage[1:]) if len(lineage) > 2 else ""


def prepare(workers: int) -> Tuple[Dict[str, Tuple[str, str]], str]:
    """Makes the parts of the database. Return: the genes' titles by number, and an example."""
    genes = read_genes()
    for worker in range(workers):
        fasta = "".join(f">{header}\n{letters}\n" for header, letters in genes[worker::workers])
        subprocess.run(["makeblastdb", "-dbtype", "nucl", "-title", "16S", "-out",
                        f"{PART}{worker + 1}"], input=fasta.encode("latin-1"),
                       stdout=subprocess.DEVNULL, check=True)
    letters = list(re.sub(r"\s", "", genes[len(genes) // 2][1])[100:900].upper())
    letters[::40] = "A" * len(letters[::40])  # nobody's own, but near to some
    lines = ["".join(letters)[at:at + 60] for at in range(0, len(letters), 60)]
    return ({header.split()[0]: title_of(header) for header, _ in genes},
            ">example\n" + "\n".join(lines) + "\n")


def find(queries: List[Query], part: int) -> str:
    """In a clone: what blastn finds in its part."""
    fasta = "".join(f">{query.name}\n{query.letters}\n" for query in queries)
    return subprocess.run(BLASTN + ["-db", f"{PART}{part}"], input=fasta, text=True,
                          stdout=subprocess.PIPE, check=True).stdout


def best(lines: List[str], queries: List[Query]) -> List[List[str]]:
    """The nearest of what all workers found, in the order of the queries."""
    order = {query.name: number for number, query in enumerate(queries)}
    rows = sorted((line.split("\t") for line in lines),
                  key=lambda row: (order[row[0]], -float(row[5]), row[1]))
    shown: Dict[str, int] = {}
    chosen = []
    for row in rows:
        shown[row[0]] = shown.get(row[0], 0) + 1
        if shown[row[0]] <= SHOWN:
            chosen.append(row)
    return chosen


class Service:
    """One search at a time; its state is read by whoever asks."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.titles, self.example = prepare(workers)
        self.lock = threading.Lock()
        self.number = 0
        self.state: Dict[str, Any] = {}
        self.busy = False
        self.ticket: Optional[int] = None
        self.reserve()

    def reserve(self) -> None:
        """Asks for room for the next clones, all of them or none."""
        try:
            self.ticket = snowflock.request_ticket(self.workers, min=self.workers)
        except snowflock.Error as error:
            self.ticket = None
            print(f"no room for clones: {error}", file=sys.stderr)

    def begin(self, queries: List[Query]) -> int:
        with self.lock:
            if self.busy:
                raise Refused("Another search is under way. Try again in some seconds.")
            self.busy = True
            self.number += 1
            self.state = {"phase": "cloning", "workers": [], "queries": len(queries)}
            threading.Thread(target=self.run, args=(queries,), daemon=True).start()
            return self.number

    def look(self, number: int) -> Optional[Dict[str, Any]]:
        with self.lock:
            return dict(self.state) if self.number == number else None

    def tell(self, **what: Any) -> None:
        with self.lock:
            self.state = {**self.state, **what}

    def run(self, queries: List[Query]) -> None:
        start = time.monotonic()
        try:
            rows = self.search(queries, start)
            self.tell(phase="done", seconds=time.monotonic() - start,
                      hits=[row + list(self.titles.get(row[1], ("", ""))) for row in rows])
        except Exception as error:  # whatever it is: who asked is told, and the next may ask
            print(f"search {self.number}: {error}", file=sys.stderr)
            self.tell(phase="failed", error=f"The search failed: {error}.")
        if self.ticket is None:
            self.reserve()
        with self.lock:
            self.busy = False

    def search(self, queries: List[Query], start: float) -> List[List[str]]:
        if self.ticket is None:
            self.reserve()
        if self.ticket is None:
            raise RuntimeError("the hosts have no room for clones")
        ticket, self.ticket = self.ticket, None
        try:
            me = snowflock.clone_ticket(ticket)
            if me:
                work(queries, me)
            return best(self.gather(ticket, start), queries)
        finally:
            snowflock.kill_ticket(ticket)
            while snowflock.wait_any(ticket, 10):
                pass
            snowflock.ticket_free(ticket)

    def gather(self, ticket: int, start: float) -> List[str]:
        """Waits for the workers and tells of each. Return: the lines that all of them found."""
        workers = [{"answered": None, "host": "", "hits": 0} for _ in range(self.workers)]
        lines: List[str] = []

        self.tell(phase="searching", workers=workers, cloned=time.monotonic() - start)
        for _ in workers:
            left = start + LIMIT_SECONDS - time.monotonic()
            me = snowflock.wait_any(ticket, max(left, 0.001))
            status = snowflock.status(me, ticket)
            if status.state != snowflock.State.EXITED or status.status:
                raise RuntimeError(f"worker {me} did not come to its end "
                                   f"({status.reason or 'status ' + str(status.status)})")
            found = snowflock.result(me, ticket).decode().splitlines()
            lines += found
            workers = list(workers)
            workers[me - 1] = {"answered": time.monotonic() - start, "host": status.host,
                               "hits": len(found)}
            self.tell(workers=workers)
        return lines


def work(queries: List[Query], me: int) -> None:
    """In a clone: searches its part, and ends whatever happens."""
    try:
        snowflock.set_result(find(queries, me).encode())
        snowflock.exit()
    except BaseException as error:
        print(f"worker {me}: {error}", file=sys.stderr)
        snowflock.exit(1)


class Handler(BaseHTTPRequestHandler):
    service: Service
    page: bytes
    timeout = 30

    def answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, what: Any, status: int = 200) -> None:
        self.answer(json.dumps(what).encode(), "application/json", status)

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(self.page, "text/html; charset=utf-8")
        elif self.path == "/example":
            self.answer(self.service.example.encode(), "text/plain; charset=utf-8")
        else:
            match = re.fullmatch(r"/search/(\d{1,9})", self.path)
            state = self.service.look(int(match[1])) if match else None
            if state:
                self.answer_json(state)
            else:
                self.answer_json({"error": "There is nothing here."}, 404)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/search":
            self.answer_json({"error": "There is nothing here."}, 404)
        elif not length.isdecimal() or int(length) > MAX_BYTES:
            self.close_connection = True
            self.answer_json({"error": f"This is too long: up to {MAX_LETTERS:,} letters are taken."}, 413)
        else:
            self.begin(self.rfile.read(int(length)).decode("utf-8", "replace"))

    def begin(self, text: str) -> None:
        try:
            queries = read_queries(text)
        except Refused as why:
            self.answer_json({"error": str(why)}, 400)
            return
        try:
            self.answer_json({"search": self.service.begin(queries)})
        except Refused as why:
            self.answer_json({"error": str(why)}, 503)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main(port: int, workers: int) -> None:
    Handler.service = Service(workers)
    with open(PAGE, "rb") as file:
        Handler.page = file.read()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


main(int(sys.argv[1]), int(sys.argv[2]))
