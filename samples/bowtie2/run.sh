#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: a short-read aligner as a pipeline of shell commands with sf run.
. "$(dirname "$0")/../common/host.sh"
examples=/usr/share/doc/bowtie2/examples
index=$examples/index/lambda_virus
reads=$examples/reads/reads

need bowtie2 /usr/bin/bowtie2-align-s
need bowtie2-examples "$index".{1.bt2.gz,2.bt2,3.bt2,4.bt2.gz,rev.1.bt2.gz,rev.2.bt2} \
	"$reads"_{1,2}.fq.gz
put "${index%/*}:/data" "${reads}_1.fq.gz:/data/" "${reads}_2.fq.gz:/data/" \
	/usr/bin/bowtie2-align-s:/usr/bin/ "$here/align.sh:/usr/bin/"

compare aligned.sam align.sh
say
say 'Where the first reads belong in the genome (read, position, how it lies there, quality):'
awk '!/^@/ && $4 { printf "  %-6s %6d  %-24.24s %3d\n", $1, $4, $6, $5; if (++n == 5) exit }' \
	"$OUT/aligned.sam"
