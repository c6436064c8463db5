# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What every end-to-end test begins with: a cluster of its own, gone at the end whatever happens,
# and a look at whether anything was left behind.
#
# A test calls `cluster HOSTS [sfctl options]`, then `run [sfctl run options] -- COMMAND` and the
# checks below. It fails by `fail SENTENCE`. With SF_E2E_DISTRIBUTION set, pages travel that way in
# all that do not choose another themselves.
set -u -o pipefail

[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
[ -r /dev/userfaultfd ] || { echo "skipped: no /dev/userfaultfd"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo "skipped: no qemu-system-x86_64"; exit 77; }

top=${abs_top_builddir:-$(cd "$(dirname "$0")/../.." && pwd)}
here=${abs_builddir:-$top/tests/e2e}
guestdir=${SF_GUEST:-$top/guest-image/out}
[ -r "$guestdir/initrd.img" ] || { echo "skipped: no guest image in $guestdir"; exit 77; }
export SNOWFLOCK_CLUSTER="e2e-$$"
export SF_GUEST=$guestdir
work=$(mktemp -d "${TMPDIR:-/tmp}/sf-e2e.XXXXXX")
sfctl=$top/host/sfctl/sfctl
rundir=/run/snowflock/$SNOWFLOCK_CLUSTER

fail()
{
	echo "FAILED: $*"
	for log in "$rundir"/*/sfd.log; do
		[ -r "$log" ] && { echo "--- ${log#"$rundir"/}"; tail -n 25 "$log"; }
	done
	exit 1
}

# Processes that belong to this test's cluster.
family()
{
	grep -lsz "^SF_CLUSTER=$SNOWFLOCK_CLUSTER\$" /proc/[0-9]*/environ | cut -d/ -f3
}

# Fails if anything of the cluster is left.
nothing_left()
{
	local left
	left=$(family)
	[ -z "$left" ] || fail "processes are left: $(ps -o pid=,args= -p "$(echo "$left" | paste -sd,)")"
	! ip netns list | grep -q "^sf-$SNOWFLOCK_CLUSTER-" || fail "network namespaces are left"
	[ ! -e "$rundir" ] || fail "$rundir is left"
}

end()
{
	local status=$?
	trap - EXIT INT TERM
	[ -e "$rundir" ] && "$sfctl" cluster down >/dev/null 2>&1
	if [ $status = 0 ]; then
		(nothing_left) || status=1
	fi
	rm -rf "$work"
	exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

cluster()
{
	local hosts=$1
	shift
	"$sfctl" cluster up --hosts "$hosts" --guest "$guestdir" \
		${SF_E2E_DISTRIBUTION:+"--distribution=$SF_E2E_DISTRIBUTION"} "$@" >"$work/up" 2>&1 ||
		fail "the cluster did not come up: $(cat "$work/up")"
}

# run OPTIONS -- COMMAND: as `sfctl run`, with its output in $work/out and $work/err, the record in
# $work/record.json. Returns the command's status.
# A kernel that warns of anything panics, and its VM ends.
run()
{
	timeout 240 "$sfctl" run --append "panic_on_warn=1 oops=panic ${append-}" --json "$work/record.json" "$@" >"$work/out" 2>"$work/err" </dev/null
}

# must STATUS OPTIONS…: the same, with a status that must come.
must()
{
	local want=$1 got
	shift
	run "$@"
	got=$?
	[ "$got" = "$want" ] || {
		cat "$work/out" "$work/err"
		fail "exit status $got instead of $want: $*"
	}
}

# saw TEXT: the command printed it.
saw()
{
	grep -qF -- "$1" "$work/out" || {
		cat "$work/out" "$work/err"
		fail "it did not print \"$1\""
	}
}

# pids HOST NAME: processes of that name on a host.
pids()
{
	local pid

	for pid in $(family); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] &&
			tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "SF_HOST=$1" && echo "$pid"
	done
}

# on HOST COMMAND…: in the network of a host.
on()
{
	local host=$1

	shift
	ip netns exec "sf-$SNOWFLOCK_CLUSTER-$host" "$@"
}

# eventually SECONDS COMMAND…: until it succeeds, looking ten times a second.
eventually()
{
	local tries=$(($1 * 10))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}
