#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# samples/blastweb: its page answers a request with what one blastn finds in all genes, refuses what is no
# sequence and a second search meanwhile, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"
source=$(cd "$(dirname "$0")/../../samples/blastweb" && pwd)
for file in /usr/bin/blastn /usr/bin/makeblastdb /usr/bin/curl /usr/bin/jq \
	/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta; do
	[ -r "$file" ] || { echo "skipped: no $file"; exit 77; }
done
unset RECIPE
SELF_TEST=1 SFCTL=$sfctl OUT=$work SAMPLE_CLUSTER=$SNOWFLOCK_CLUSTER timeout 280 "$source/run.sh" >"$work/out" 2>&1 ||
	fail "$(cat "$work/out") $(tail -n 8 "$work/run.log")"
saw 'What the clones found is what one blastn finds.'
saw 'Another search is under way.'
