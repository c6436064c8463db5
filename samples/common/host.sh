# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What every sample's run.sh begins with: a cluster of its own, taken down however the sample ends,
# and a VM in which a worker does its work alone, then in clones.
#
# A sample calls, in this order:
#	need PACKAGE FILE…              what it runs with, and the Debian package that has it
#	put FILE[:PATH]…                what goes into the VM, as for sfctl run --put
#	parent_works                    if the parent does part of the work that clones do
#	compare RESULT WORKER [SIZE]    all the rest: compare.sh says what a worker is. RESULT names
#	                                the file that keeps its output, SIZE the memory of the VM
#
# With RECIPE in the environment nothing is run: the worker and the options are printed.
#
# SAMPLE_CLUSTER is another name for the cluster than the sample's.
#
# SFCTL names the program that was built, OUT a folder for what is left to read.
set -u
: "${SFCTL:?}" "${OUT:?}"
here=$(cd "$(dirname "$0")" && pwd)
sample=${here##*/}
hosts=4
missing=()	# packages
options=()	# of sfctl run
child=		# the sfctl run under way
mkdir -p "$OUT" || exit 1

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$sample" "$*" >&2; exit 1; }
sfctl() { "$SFCTL" --cluster "${SAMPLE_CLUSTER:-$sample}" "$@"; }

need() {
	local package=$1 file

	shift
	for file in "$@"; do
		[ -r "$file" ] || { missing+=("$package"); break; }
	done
}

put() {
	local file

	for file in "$@"; do
		options+=(--put "$file")
	done
}

parent_works() { options+=(--env PARENT_WORKS=1); }

# Takes the cluster down, however this ends.
finish() {
	local status=$?

	trap '' INT TERM HUP
	sfctl cluster down || status=1
	exit "$status"
}

interrupted() {
	trap '' INT TERM HUP
	printf '%s: interrupted, cleaning up\n' "$sample" >&2
	[ -z "$child" ] || kill -TERM "$child" 2>/dev/null
	wait
	exit 130
}

# Ends with the packages that are missing, if any are.
all_there() {
	[ ${#missing[@]} -eq 0 ] ||
		die "missing: apt-get install --no-install-recommends ${missing[*]}"
	[ "$(id -u)" = 0 ] || die 'needs root'
}

introduce() {
	head -n 1 "$here/README"
	say "A VM does it alone, then in clones of itself on $hosts hosts, which are all this machine."
	awk '$1 >= 1 {
		print "It does other work as well (load " $1 "), which will show in the times."
	}' /proc/loadavg
}

compare() {
	local result=$1 worker=$2 memory=${3-512M}

	all_there
	if [ -n "${RECIPE-}" ]; then
		printf '%s\n' recipe "$worker" ${options[@]+"${options[@]}"}
		exit
	fi
	introduce
	trap finish EXIT
	trap interrupted INT TERM HUP
	sfctl cluster up --hosts "$hosts" || { trap - EXIT; exit 1; }
	# in the background, so that a signal is heard at once
	sfctl run --progress --no-stdin --mem "$memory" --env PROCESSORS="$(nproc)" \
		${options[@]+"${options[@]}"} --put "$here/../common/compare.sh:/usr/bin/" \
		--json "$OUT/record.json" -- compare.sh "$worker" >"$OUT/$result" &
	child=$!
	wait "$child" || die 'the run failed'
	child=
	say
	say "The result is $OUT/$result, what each clone operation cost in record.json there."
}
