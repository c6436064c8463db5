#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Unmodified programs of Debian that use libgomp give the same, byte for byte, with their regions in members:
# Clustal Omega aligns genes of bacteria, FastTree makes a tree of the alignment.
. "$(dirname "$0")/lib.sh"
genes=/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta
[ -r "$genes" ] || { echo 'skipped: no microbiomeutil-data'; exit 77; }
command -v clustalo fasttreeMP >/dev/null || { echo 'skipped: no clustalo or fasttree'; exit 77; }
awk '/^>/ { n++ } n <= 8' "$genes" >"$work/genes.fa"
few=$work/few.fa
awk '/^>/ { n++ } n <= 3' "$genes" >"$few"
ln -s "$(command -v clustalo)" "$work/clustalo"
ln -s "$(command -v fasttreeMP)" "$work/fasttreeMP"

plain 2 clustalo -i "$few" --threads=2 || fail 'clustalo on plain libgomp'
away 2 clustalo -i "$few" --threads=2 || { tail "$work/away.err"; fail "clustalo: status $?"; }
cmp "$work/plain.out" "$work/away.out" || fail 'clustalo: another alignment'
grep -q 'libsfomp: .* in 2 clones' "$work/away.err" || { tail "$work/away.err"; fail 'clustalo: nothing went away'; }

plain 2 clustalo -i "$work/genes.fa" --threads=2 && cp "$work/plain.out" "$work/genes.aln" || fail 'no alignment'

plain 2 fasttreeMP -nt -quiet "$work/genes.aln" || fail 'fasttreeMP on plain libgomp'
away 2 fasttreeMP -nt -quiet "$work/genes.aln" || { tail "$work/away.err"; fail "fasttreeMP: status $?"; }
cmp "$work/plain.out" "$work/away.out" || fail 'fasttreeMP: another tree'
grep -q 'libsfomp: .* in 2 clones' "$work/away.err" || { tail "$work/away.err"; fail 'fasttreeMP: nothing went away'; }
