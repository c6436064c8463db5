#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The demo: one VM searches 16S genes alone, then eight clones of it on four hosts do it together.
#
# SFCTL and SEARCH name the two programs that were built; OUT is a folder for what is left to read.
set -u
here=$(dirname "$0")
: "${SFCTL:?}" "${SEARCH:?}" "${OUT:=.}"
cluster=demo
hosts=4
workers=8
queries=24
memory=512M
fasta=/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta
blast='/usr/bin/blastn /usr/bin/makeblastdb'

say() { printf '%s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
sfctl() { "$SFCTL" --cluster "$cluster" "$@"; }

processors() { local n; n=$(nproc); [ "$n" = 1 ] && echo '1 processor' || echo "$n processors"; }

# Takes the cluster down, however this ends.
finish() {
	local status=$?

	trap '' INT TERM HUP
	sfctl cluster down || status=1
	exit "$status"
}

for file in $blast "$fasta"; do
	[ -r "$file" ] || die "$file is missing: apt-get install ncbi-blast+ microbiomeutil-data jq"
done
command -v jq >/dev/null || die 'jq is missing: apt-get install jq'

say "A VM searches for $queries genes in a set of $(grep -c '^>' "$fasta") (16S rRNA) with blastn, first alone, then in"
say "$workers clones of itself on $hosts hosts. The hosts are all this machine, with $(processors): how much faster"
say 'the clones are depends on that.'
say
begin=$SECONDS
trap finish EXIT
trap 'exit 130' INT TERM HUP
sfctl cluster up --hosts "$hosts" || { trap - EXIT; exit 1; }

put=(--put "$fasta:/tmp/16s.fa")
for file in $blast "$SEARCH"; do	# their libraries come along
	put+=(--put "$file:/usr/bin/")
done
sfctl run --progress --mem "$memory" "${put[@]}" --json "$OUT/record.json" -- \
	search /tmp/16s.fa "$queries" "$workers" >"$OUT/hits.tsv" || die 'the run failed'

say
"$here/table.sh" "$OUT/record.json"
say
"$here/neighbours.sh" "$fasta" "$OUT/hits.tsv"
say
say "All of it took $((SECONDS - begin)) s. To look at again, in $OUT:"
say '  record.json  what the clone operation cost      hits.tsv  what was found'
