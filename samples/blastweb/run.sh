#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: a web page whose searches are done in clones of the VM that serves it.
#
# PORT is the page's port here [8016; 0: any]. With SELF_TEST=1 it asks its own page, compares what comes with
# what one blastn finds on this machine, and ends.
. "$(dirname "$0")/../common/host.sh"
fasta=/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta
python=/usr/bin/python3
ffi=/usr/lib/x86_64-linux-gnu/libffi.so.8	# what Python's ctypes needs
library=/usr/lib/$(basename "$(readlink -f "$python")")
guest_port=8016
workers=4
: "${PORT:=8016}" "${SELF_TEST:=0}"
[ "$SELF_TEST" = 0 ] || PORT=0
log=$OUT/run.log

need ncbi-blast+ /usr/bin/blastn /usr/bin/makeblastdb
need microbiomeutil-data "$fasta"
need python3 "$python" "$ffi" "$library/ctypes/__init__.py"
[ "$SELF_TEST" = 0 ] || { need curl /usr/bin/curl; need jq /usr/bin/jq; }
put /usr/bin/blastn:/usr/bin/ /usr/bin/makeblastdb:/usr/bin/ "$fasta:/data/16s.fa" \
	"$python:/usr/bin/" "$library:$library" "$ffi:$ffi" "$here/page.html:/data/" \
	"$here/../../libsf/python/snowflock.py:/usr/bin/" "$here/service.py:/usr/bin/"

# Waits until the page is served, as long as the run goes on; $url is its address.
await() {
	until grep -qx ready "$OUT/answers"; do
		kill -0 "$child" 2>/dev/null || { tail -n 5 "$log" >&2; die 'the run failed'; }
		sleep 0.2
	done
	url=http://$(sed -n 's/^\([0-9.:]*\) leads to port .*/\1/p' "$log")/
}

# Sends a request's body ($1); prints the answer.
ask() { curl -sS --max-time 60 --data-binary "@$1" "${url}search"; }

# Waits for search $1; prints its last state.
result() {
	local state

	while state=$(curl -sS --max-time 60 "${url}search/$1") &&
		[[ $(jq -r .phase <<<"$state") = *ing ]]; do
		sleep 0.2
	done
	printf '%s\n' "$state"
}

# What one blastn finds for $1 in all genes, as the page orders it.
alone() {
	makeblastdb -in "$fasta" -dbtype nucl -out "$OUT/all" >/dev/null &&
		blastn -searchsp 10000000000 -evalue 1e-5 -max_target_seqs 50 -max_hsps 1 \
			-outfmt '6 qseqid sseqid pident length evalue bitscore' -query "$1" -db "$OUT/all" |
		sort -t $'\t' -k6,6gr -k2,2 | head -n 20
}

self_test() {
	local query=$OUT/query.fa error number

	curl -sS "${url}" | grep -q '<title>' || die 'there is no page'
	for bad in '' '>x' 'ACGT!' "$(printf 'A%.0s' {1..20001})"; do
		printf '%s' "$bad" >"$query"
		error=$(ask "$query" | jq -r .error)
		[ -n "$error" ] && [ "$error" != null ] || die "\"${bad:0:20}\" was searched for"
		say "refused: $error"
	done
	curl -sS "${url}example" >"$query"
	number=$(ask "$query" | jq .search)
	error=$(ask "$query" | jq -r .error)
	[[ $error = Another* ]] || die "a second search at the same time: $error"
	say "refused: $error"
	for _ in 1 2; do	# the second time with clones that were asked for meanwhile
		result "$number" >"$OUT/state.json"
		jq -r '.hits[][:6] | @tsv' "$OUT/state.json" >"$OUT/hits.tsv"
		jq -r '"\(.phase): \(.hits | length) hits by \(.workers | length) clones in \(.seconds) s, cloned in \(.cloned) s \(.error // "")"' \
			"$OUT/state.json"
		alone "$query" >"$OUT/alone.tsv"
		[ -s "$OUT/alone.tsv" ] || die 'blastn alone finds nothing'
		cmp "$OUT/hits.tsv" "$OUT/alone.tsv" || die 'the clones found something else than one blastn'
		until number=$(ask "$query" | jq -e .search); do sleep 0.2; done
	done
	result "$number" >/dev/null
	say 'What the clones found is what one blastn finds.'
}

all_there
head -n 1 "$here/README"
trap finish EXIT
trap interrupted INT TERM HUP
sfctl cluster up --hosts "$hosts" || { trap - EXIT; exit 1; }
: >"$log" >"$OUT/answers"
say 'The VM boots and prepares its genes …'
sfctl run --progress --no-stdin --mem 512M --publish "$PORT:$guest_port" ${options[@]+"${options[@]}"} \
	-- service.py "$guest_port" "$workers" >"$OUT/answers" 2>"$log" &
child=$!
await
if [ "$SELF_TEST" != 0 ]; then
	self_test
	kill -TERM "$child"
	wait "$child"
	child=
	exit
fi
say "The page is at  $url  until Ctrl-C."
wait "$child"
die 'the run ended'
