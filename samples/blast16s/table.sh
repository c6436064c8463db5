#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Prints a record of sfctl run --json ($1) as a person would like to read it.
set -eu -o pipefail

jq -r '.clones[] |
	(["operation", .n, .granted, .pause_ms, .descriptor_bytes] | @tsv),
	(.clones[] | ["clone", .id, .host, .running_ms, .answered_ms, .faults, .pages_fetched,
		.bytes_fetched, .status] | map(. // "-") | @tsv)' "$1" |
awk -F '\t' '
# 1234567 → 1,234,567
function grouped(n) {
	n = sprintf("%d", n)
	while (match(n, /^[0-9]+[0-9][0-9][0-9]($|,)/)) {
		at = index(n, ",")
		at = at ? at : length(n) + 1
		n = substr(n, 1, at - 4) "," substr(n, at - 3)
	}
	return n
}
function ms(t) { return t == "-" ? "-" : sprintf("%.1f ms", t) }
function rule() { print "  -----  ------  ----------  ----------  --------  --------  --------------  ------" }
function total() {
	if (!clones)
		return
	rule()
	printf "  %5s  %-6s  %10s  %10s  %8s  %8s  %14s\n", "all", "", "", "", grouped(faults),
		grouped(pages), grouped(bytes)
	clones = faults = pages = bytes = 0
}
$1 == "operation" {
	total()
	printf "%d clones of %d asked for. The VM stood still for %s. %s bytes told the clones all but\n",
		$3, $2, ms($4), grouped($5)
	printf "their memory, which came page by page.\n\n"
	printf "  %5s  %-6s  %10s  %10s  %8s  %8s  %14s  %6s\n", "clone", "host", "running", "answered",
		"faults", "pages", "bytes fetched", "status"
	rule()
}
$1 == "clone" {
	printf "  %5d  %-6s  %10s  %10s  %8s  %8s  %14s  %6s\n", $2, $3, ms($4), ms($5), grouped($6),
		grouped($7), grouped($8), $9
	clones++
	faults += $6
	pages += $7
	bytes += $8
}
END { total() }'
