#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: families of genes aligned with ClustalW, by a Python script that clones the VM it runs in.
. "$(dirname "$0")/../common/host.sh"
fasta=/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta
python=/usr/bin/python3
ffi=/usr/lib/x86_64-linux-gnu/libffi.so.8	# what Python's ctypes needs
library=/usr/lib/$(basename "$(readlink -f "$python")")

need clustalw /usr/bin/clustalw
need microbiomeutil-data "$fasta"
need python3 "$python" "$ffi" "$library/ctypes/__init__.py"
put /usr/bin/clustalw:/usr/bin/ "$fasta:/data/16s.fa" \
	"$python:/usr/bin/" "$library:$library" "$ffi:$ffi" \
	"$here/../../libsf/python/snowflock.py:/usr/bin/" "$here/align.py:/usr/bin/"

compare families.aln align.py
say
say 'It begins:'
head -n 12 "$OUT/families.aln" | sed 's/^/  /'
