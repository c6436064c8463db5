# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, as rows: a table for the eye, one for a document, and JSON."""

import statistics

MARKS = {True: "met", False: "MISSED", None: ""}


class Report:
    """Rows in sections. A row has a target (`limit`) or none."""

    def __init__(self):
        self.rows, self.failures, self.section = [], [], ""

    def row(self, key, what, values, unit="ms", limit=None, note=""):
        """Adds the median of some values, None for one that was not to be had. Returns it."""
        have = [v for v in values if v is not None]
        median = statistics.median(have) if have else None
        if len(have) < len(values):
            note = (note and f"{note}; ") + f"{len(values) - len(have)} without a value"
        met = None if limit is None else len(have) == len(values) > 0 and median <= limit
        self.rows.append({
            "section": self.section, "key": key, "what": what, "unit": unit, "limit": limit,
            "median": median, "min": min(have, default=None), "max": max(have, default=None),
            "runs": len(values), "met": met, "note": note,
        })
        return median

    def ratio(self, key, what, above, below, limit=None, note=""):
        """Adds a quotient of two medians; nothing if one of them was not measured."""
        if above is not None and below:
            self.row(key, what, [above / below], "×", limit, note)


PREFIXES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def scaled(value, unit):
    """A number of bytes in what a person reads them in; others as they are."""
    if unit == "bytes":
        for size, name in PREFIXES:
            if value >= size:
                return value / size, name
    return value, unit


def quantity(value, unit):
    """As in "12.3 ms": three digits, no fraction for what is counted."""
    if value is None:
        return "–"
    number, name = scaled(value, unit)
    digits = 0 if number >= 100 or unit in ("pages", "faults") else 1 if number >= 10 else 2
    return f"{number:,.{digits}f} {name}"


def _target(row):
    if row["limit"] is None:
        return ""
    number, name = scaled(row["limit"], row["unit"])
    return f"≤ {number:g} {name}"


def _spread(row):
    if row["min"] == row["max"]:
        return ""
    low, high = quantity(row["min"], row["unit"]), quantity(row["max"], row["unit"])
    if low.split()[1] == high.split()[1]:
        low = low.split()[0]
    return f"{low} … {high}"


def _cells(row):
    median = quantity(row["median"], row["unit"])
    runs, mark = str(row["runs"]), MARKS[row["met"]]
    return [row["what"], _target(row), median, _spread(row), runs, mark]


HEAD = ["", "target", "median", "min … max", "n", ""]


def _text_line(cells, widths):
    first, *middle, mark = cells
    aligned = [c.rjust(w) for c, w in zip(middle, widths[1:-1])]
    return f"  {first.ljust(widths[0])}  {'  '.join(aligned)}  {mark}".rstrip()


def _sections(rows):
    for name in dict.fromkeys(r["section"] for r in rows):
        yield name, [r for r in rows if r["section"] == name]


def as_text(results):
    """The table for a terminal."""
    rows = results["rows"]
    widths = [max(len(c) for c in column) for column in zip(HEAD, *map(_cells, rows))]
    lines = [f"{name + ':':<14}{value}" for name, value in results["conditions"].items()]
    lines += ["", _text_line(HEAD, widths)]
    for section, members in _sections(rows):
        lines += ["", section]
        for row in members:
            lines += [_text_line(_cells(row), widths)]
            lines += [f"      ({row['note']})"] if row["note"] else []
    return "\n".join(lines + ["", verdict(results)])


DOCUMENT_HEAD = (
    "# Numbers",
    "",
    "What `make bench` measured, written down by `make -C build/bench numbers`. Targets are for two",
    "cores under emulation; a row without one is there to compare with. Medians of n, with the",
    "smallest and the largest.",
    "",
)
TABLE_HEAD = ("", "| | target | median | min … max | n | |", "|---|--:|--:|--:|--:|---|")


def as_markdown(results):
    """The table for doc/numbers.md."""
    lines = [*DOCUMENT_HEAD]
    lines += [f"- {name}: {value}" for name, value in results["conditions"].items()]
    for section, members in _sections(results["rows"]):
        lines += ["", f"## {section}", *TABLE_HEAD]
        for row in members:
            what, *others = _cells(row)
            note = f" ({row['note']})" if row["note"] else ""
            lines.append(f"| {' | '.join([what + note, *others])} |")
    return "\n".join(lines + ["", verdict(results), ""])


def verdict(results):
    """One paragraph: how many targets were met, and what could not be measured."""
    judged = [r for r in results["rows"] if r["met"] is not None]
    lines = [f"{sum(r['met'] for r in judged)} of {len(judged)} targets met."]
    lines += [f"Missed: {r['section']}: {r['what']}." for r in judged if not r["met"]]
    lines += [f"NOT MEASURED: {sentence}" for sentence in results["failures"]]
    return "\n".join(lines)
