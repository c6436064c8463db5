#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# For some queries: the nearest relative that blastn found, by name. FASTA $1, hits $2.
awk -F '\t' '
# Names by sequence number: what follows it in the header, up to the first of , ; (
function name(id) { return (id in names) ? names[id] : id }
NR == FNR {
	if (sub(/^>/, "")) {
		match($0, /[ \t]/)
		id = substr($0, 1, RSTART - 1)
		$0 = substr($0, RSTART + 1)
		sub(/[,;(\t].*/, "")
		sub(/ +$/, "")
		names[id] = $0
	}
	next
}
FNR == 1 { print "Some of the nearest relatives:" }
$1 != $2 && !($1 in seen) && shown < 5 {
	seen[$1] = 1
	shown++
	printf "  %-42.42s  %-42.42s  %5.1f %%\n", name($1), name($2), $3
}' "$1" "$2"
