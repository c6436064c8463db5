# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What tests with OpenMP programs share: compile one, run it on plain libgomp and with the shim.
set -u -o pipefail
top=${abs_top_builddir:?}
here=${srcdir:-.}
work=$(mktemp -d "${TMPDIR:-/tmp}/sf-omp.XXXXXX")
trap 'rm -rf "$work"' EXIT
library=$top/omp-shim/.libs/libsfomp.so.0
[ -e "$library" ] || { echo "skipped: $library was not built"; exit 77; }

fail() { echo "FAILED: $*"; exit 1; }

# compile PROGRAM FILE [OPTION]…: with the compiler of its language.
compile() {
	local to=$1 file=$2 compiler

	shift 2
	case $file in
	*.c) compiler=gcc ;;
	*.cc) compiler=g++ ;;
	*.f90) compiler=gfortran ;;
	esac
	command -v "$compiler" >/dev/null || { echo "skipped: no $compiler"; exit 77; }
	"$compiler" -fopenmp "$@" -o "$work/$to" "$file" -lm || fail "$file does not compile"
}

# plain THREADS PROGRAM…: on libgomp alone, into plain.out.
plain() {
	OMP_NUM_THREADS=$1 "$work/$2" "${@:3}" >"$work/plain.out" 2>"$work/plain.err" </dev/null
}

# away MEMBERS PROGRAM…: each region in processes ($mode: those that are worth it), into away.out; the report is
# away.err.
away() {
	LD_PRELOAD=$library SF_OMP=${mode-always,processes} SF_OMP_CLONES=$1 OMP_NUM_THREADS=$1 \
		SF_OMP_REPORT=1 timeout 60 "$work/$2" "${@:3}" >"$work/away.out" 2>"$work/away.err" </dev/null
}

# went_away: at least one region did, and none came back.
went_away() {
	grep -q "libsfomp: .*: in $1 clones" "$work/away.err" ||
		{ cat "$work/away.err"; fail "$2: nothing went away"; }
	! grep -q 'libsfomp: .*: here, .*\(conflict\|construct\|crash\|lost\|too much\)' "$work/away.err" ||
		{ cat "$work/away.err"; fail "$2: a region came back"; }
}
