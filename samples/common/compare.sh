#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the VM: has a worker do its work alone, then in 1, 2, 4 and 8 clones, and compares results and
# times.
#
#   compare.sh WORKER
#
# WORKER is a program that is called in three ways:
#
#   WORKER prepare    makes ready what stays the same, and says on standard error what the work is
#   WORKER 0          does it in this VM, with the result on standard output
#   WORKER N          does it in N clones of this VM, with the same result on standard output
#
# The results must be equal, byte for byte. What they are goes to standard output, the story to
# standard error. PROCESSORS in the environment is how many processors all hosts have together: no
# number of clones can be faster than so many times. PARENT_WORKS is 1 if the parent does part of
# the work that clones do.
set -u
worker=$1
counts='1 2 4 8'
results=/tmp/compare
times=$results/times	# lines: number of clones, seconds

tell() { printf '%s\n' "$*" >&2; }
die() { tell "compare: $*"; exit 1; }
trap 'exit 130' INT TERM

# Hundredths of a second since the VM began.
now() {
	local up

	read -r up _ </proc/uptime
	echo "$((10#${up/./}))"
}

# Runs the worker once, with its result in a file.
work() {
	local n=$1 begin end

	begin=$(now)
	"$worker" "$n" >"$results/$n" || die "the work failed: $worker $n"
	end=$(now)
	awk -v n="$n" -v cs=$((end - begin)) 'BEGIN { printf "%d %.2f\n", n, cs / 100 }' >>"$times"
}

# The last time, for a sentence.
took() { tail -n 1 "$times" | awk '{ printf "%.1f s", $2 }'; }

table() {
	awk -v processors="${PROCESSORS:-1}" -v parent="${PARENT_WORKS:-0}" '
	BEGIN {
		print "  clones   seconds  times as fast  bound"
		print "  ------  --------  -------------  -----"
	}
	$1 == 0 { alone = $2; printf "  %6s  %8.1f\n", "none", $2; next }
	{
		printf "  %6d  %8.1f  %13.2f  %5d\n", $1, $2, alone / ($2 > 0 ? $2 : 0.01),
			$1 + parent < processors ? $1 + parent : processors
	}
	END {
		print "\n  The bound: all hosts together have " processors \
			(processors == 1 ? " processor." : " processors.")
	}' "$times" >&2
}

mkdir -p "$results" && : >"$times" || die "cannot write to $results"
"$worker" prepare || die "$worker cannot prepare"
tell 'alone …'
work 0
tell "alone: $(took), $(wc -c <"$results/0") bytes"
[ -s "$results/0" ] || die 'there is no result'
for n in $counts; do
	tell "in $n clone$([ "$n" = 1 ] || echo s) …"
	work "$n"
	cmp -s "$results/0" "$results/$n" || die "in $n the result differs from the VM's own"
	tell "in $n: $(took), the same result"
	rm "$results/$n"
done
tell
table
cat "$results/0"
