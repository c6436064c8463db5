# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of sfctl share: a folder of their own, a cluster of one fake host, expectations.
# shellcheck shell=bash

set -u
builddir=${top_builddir:-../..}
builddir=$(cd "$builddir" && pwd)
sfctl=$builddir/host/sfctl/sfctl
here=$(mktemp -d)
failures=0

export SF_RUN_DIR=$here/run SF_LIBEXEC=$here/libexec SF_GUEST=$here/guest FAKE_LOG=$here/log
export SNOWFLOCK_CLUSTER=test-$$
unset FAKE_START FAKE_VERSION FAKE_STAYS SF_LOG

mkdir "$SF_LIBEXEC" "$SF_GUEST"
cp "$builddir/tests/sfd/fake-sfd" "$SF_LIBEXEC/sfd"
: >"$FAKE_LOG"

finish() {
	local pid

	for pid in "$SF_RUN_DIR"/*/*/sfd.pid; do
		[ -f "$pid" ] && kill -9 "$(cut -d' ' -f1 "$pid")" 2>/dev/null
	done
	rm -rf "$here"
}
trap finish EXIT

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# expect WHAT GOT WANTED
expect() {
	[ "$2" = "$3" ] || fail "$1: got «$2», wanted «$3»"
}

# has WHAT FILE PATTERN
has() {
	grep -qE -- "$3" "$2" || { fail "$1: no «$3» in:"; sed 's/^/  | /' "$2"; }
}

hasnt() {
	! grep -qE -- "$3" "$2" || { fail "$1: «$3» in:"; sed 's/^/  | /' "$2"; }
}

# eventually WHAT COMMAND…: until it succeeds, for ten seconds
eventually() {
	local what=$1 i

	shift
	for ((i = 0; i < 500; i++)); do
		"$@" && return
		sleep 0.02
	done
	fail "$what: not within ten seconds"
	return 1
}

# Does the process live? One that only waits to be reaped does not.
lives() {
	[ -e "/proc/$1" ] && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null
}

up() {
	"$sfctl" cluster key >"$here/key"
	echo 'h1 127.0.0.1' >"$here/hosts"
	"$sfctl" cluster up --hosts-file "$here/hosts" --host h1 --key "$here/key" >"$here/up.out" 2>"$here/up.err"
}

done_testing() {
	[ "$failures" -eq 0 ] && echo passed
	exit $((failures > 0))
}
