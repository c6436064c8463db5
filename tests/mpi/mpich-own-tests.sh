#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# mpich-own-tests.sh SOURCE FOLDER [NAME]…: compiles MPICH's own tests of dynamic processes, all or
# those, from its unpacked sources, into FOLDER, and writes FOLDER/list: "NAME RANKS" for each. A test
# that has passed says " No Errors". The compiler gets MPICH_CFLAGS and MPICH_LIBS, or as mpicc does.
set -eu
[ $# -ge 2 ] && [ -d "$1/test/mpi/spawn" ] || {
	echo "Usage: mpich-own-tests.sh SOURCE FOLDER [NAME]..." >&2
	exit 64
}
tests=$1/test/mpi
folder=$2
shift 2
cflags=${MPICH_CFLAGS-$(pkg-config --cflags mpich)}
libs=${MPICH_LIBS--lmpich}
mkdir -p "$folder/include"

# What their configure would find here; only what these tests look at.
{
	for name in STDARG_H STDLIB_H STRING_H UNISTD_H SYS_TIME_H GETRUSAGE SYS_RESOURCE_H PTHREAD_H \
		MPI_WIN_CREATE; do
		echo "#define HAVE_$name 1"
	done
	echo '#define THREAD_PACKAGE_NAME THREAD_PACKAGE_POSIX'
	echo '#define THREAD_PACKAGE_POSIX 1'
	echo '#define MPI_AINT_FMT_DEC_SPEC "%ld"'
	echo '#define MTEST_MAX_FD 1024'
} >"$folder/include/mpitestconf.h"

# Theirs, except those that need a name server or a socket library of theirs.
sed -n 's/^\([a-z_0-9]*\) \([0-9]*\).*/\1 \2/p' "$tests/spawn/testlist.in" |
	grep -v '^\(join\|namepub\) ' >"$folder/list"
if [ $# -gt 0 ]; then
	for name in "$@"; do
		grep "^$name " "$folder/list"
	done >"$folder/wanted"
	mv "$folder/wanted" "$folder/list"
fi

compile() {
	# shellcheck disable=SC2086
	${CC:-cc} -O1 -w $cflags -I"$folder/include" -I"$tests/include" "$@" $libs -lpthread -lm
}
for name in $(cut -d ' ' -f 1 "$folder/list" | sort -u); do
	compile -o "$folder/$name" "$tests/spawn/$name.c" "$tests/util/mtest.c" \
		"$tests/util/mtest_common.c" "$tests/util/mtest_single.c"
done
