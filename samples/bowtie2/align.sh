#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the VM: aligns pairs of reads to the genome of the lambda phage, here (0) or in N clones.
# See compare.sh.
set -eu -o pipefail
cd /data
pairs=${PAIRS:-10000}

# The pairs from number $1 (0 is the first) to number $2 - 1, as records of SAM. The index is
# mapped, not read: it is in the page cache, in a clone as well.
align() {
	bowtie2-align-s --quiet --mm --no-head -x lambda_virus -1 reads_1.fq -2 reads_2.fq \
		-s "$1" -u $(($2 - $1))
}

# What comes before the records, without @PG, the command line of one program.
header() {
	bowtie2-align-s --quiet --mm -x lambda_virus -c A -u 1 | grep -v '^@PG' | grep '^@'
}

case $1 in
prepare)
	gunzip ./*.gz
	echo "$pairs pairs of reads, to be found in the genome of the lambda phage" >&2
	;;
share) align $((($2 - 1) * pairs / $3)) $(($2 * pairs / $3)) ;;	# share $2 of $3, in a clone
0) header && align 0 "$pairs" ;;
*) header && sf run -k -n "$1" -- "$0" share {} {n} ;;
esac
