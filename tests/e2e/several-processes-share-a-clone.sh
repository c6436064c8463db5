#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sf run --procs: a clone with two CPUs does two jobs at a time, each in a process of its own on either CPU, and
# the output of all comes home; by default as many as it has CPUs. A wish for other CPUs is refused.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G

# A job that ends only if the clone's other one runs beside it.
meet='touch here.$SF_JOB; tries=0
until [ $(ls here.* | wc -l) -ge 2 ]; do
	tries=$((tries + 1)); [ $tries -lt 200 ] || { echo "job {} is alone in clone {%}"; exit 1; }
	sleep 0.1
done
echo "job {} met another in clone {%} of $SF_COUNT with $(nproc) CPUs"; dd if=/dev/zero bs=1000 count=300 2>/dev/null | tr "\0" {}'
must 0 --mem 256M --cpus 2 --env MEET="$meet" -- sh -c '
	sf run -k -n 2 --per-host=1 --vcpus=2 --procs=2 -- sh -c "$MEET" >all
	tr -d "1234\n" <all >/dev/null
	for job in 1 2 3 4; do
		echo "$(tr -cd "$job" <all | wc -c) bytes of $job"
	done
	grep -o "job . met.*CPUs" all'
for job in 1 2 3 4; do
	saw "job $job met another in clone $(((job - 1) % 2 + 1)) of 2 with 2 CPUs"
	[ "$(sed -n "s/ bytes of $job//p" "$work/out")" -ge 300000 ] || fail "output of job $job is missing"
done

must 0 --mem 256M --cpus 2 --env MEET="$meet" -- sh -c 'sf run -n 1 -- sh -c "$MEET" ::: 1 2 | grep -o "job.*CPUs"'
saw 'job 2 met another in clone 1 of 1 with 2 CPUs'
must 1 --mem 256M --cpus 2 --env MEET="$meet" -- sh -c 'sf run -n 1 --procs=2 -- sh -c "exit \$(({} - 1))" ::: 1 2'
must 255 --mem 256M --cpus 2 -- sf run -n 1 --vcpus=3 -- true
