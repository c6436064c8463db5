#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The first lines of each file that is not prose say its licence, and what is in a guest has the LGPL.
cd "${srcdir:-.}/.." || exit 1
status=0
for file in $(find bootstrap configure.ac common-rules.mk Makefile.am .ci common libsf guest-image host mpi-shim omp-shim proto \
	samples \
	tests bench doc -type f \( -name '*.[ch]' -o -name '*.sh' -o -name '*.bash' -o -name '*.py' -o -name '*.am' \
	-o -name '*.mk' -o -name '*.in' -o -name '*.ac' -o -name '*.map' -o -name '*.supp' -o -name '*.[178]' -o -name run \
	-o -name mkguest -o -name mkmpich -o -name mktree -o -name timed-driver -o -name bootstrap \) ! -name Makefile.in); do
	licence=$(head -n 2 "$file" | sed -n 's/.*SPDX-License-Identifier: \([A-Za-z0-9.-]*\).*/\1/p')
	case $file in
	libsf/*|mpi-shim/*|omp-shim/*|common/io.*|common/log.*|common/fault.*|common/cleanup.h|proto/agent-*|proto/xenstore-tree.h|proto/kmod.h|proto/[mo]?[ip].h|\
	guest-image/init.c) want=LGPL-2.1-or-later ;;
	samples/*) want=${licence:-a licence} ;;
	*) want=GPL-2.0-or-later ;;
	esac
	[ "$licence" = "$want" ] || { echo "$file: \"$licence\" instead of $want"; status=1; }
done
exit $status
