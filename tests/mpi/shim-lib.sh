# SPDX-License-Identifier: GPL-2.0-or-later
# What tests of libsfmpi share: MPICH (SF_MPICH: a folder with a libmpich.so.12 that can spawn; without
# it the test is skipped), Hydra, a double of the keeper, and a network of their own. To be sourced.
[ -f "${SF_MPICH:-}/libmpich.so.12" ] && command -v mpiexec.hydra >/dev/null &&
	unshare -n true 2>/dev/null && command -v ip >/dev/null || exit 77

here=$(pwd)
top=$(cd ../.. && pwd)
srcdir=$(cd "${srcdir:-.}" && pwd)
shim=$top/mpi-shim/.libs/libsfmpi.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
	echo "FAIL: $*" >&2
	cat "$work/out" "$work/err" "$work/log" >&2 2>/dev/null || :
	exit 1
}

HYDRA_LAUNCHER=rsh HYDRA_LAUNCHER_EXEC=$top/mpi-shim/sf-mpilaunch HYDRA_LAUNCHER_AUTOFORK=0
HYDRA_IFACE=lo SF_MPI_LIBEXEC=$top/mpi-shim
export HYDRA_LAUNCHER HYDRA_LAUNCHER_EXEC HYDRA_LAUNCHER_AUTOFORK HYDRA_IFACE SF_MPI_LIBEXEC

# mpi RANKS PROGRAM ARG…: on the double, which gets the options in $double, with the environment in
# $with; output, errors and the double's log in $work. PRELOAD says what is preloaded, MPICH which
# one it is.
mpi() {
	ranks=$1
	shift
	: >"$work/log"
	# shellcheck disable=SC2016,SC2086
	timeout "${LIMIT_S:-120}" unshare -n sh -c 'ip link set lo up && exec "$@"' sh \
		"$here/keeper-double" -l "$work/log" ${double:-} -- \
		env ${with:-} LD_PRELOAD="${PRELOAD-$shim}" \
		LD_LIBRARY_PATH="${MPICH-$SF_MPICH}:$top/libsf/.libs" \
		mpiexec.hydra -rmk user -hosts 127.0.0.1:64 -n "$ranks" "$@" \
		>"$work/out" 2>"$work/err" </dev/null
}

# case_of RANKS NAME: one of shim-program's
case_of() {
	mpi "$1" ./shim-program "$2" || fail "$2: exit status $?"
	grep -q '^done' "$work/out" || fail "$2: not done"
}
