#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every file that a document names in `…` is in the source tree.
cd "${srcdir:-.}/.." || exit 1
status=0
for document in README.md HACKING.md doc/*.md; do
	for name in $(grep -o '`[A-Za-z0-9._/-]*`' "$document" | tr -d '`' |
		grep -E '^(libsf|guest-kmod|mpi-shim|omp-shim|guest-image|host|proto|common|samples|tests|bench|doc)/'); do
		[ -e "$name" ] || { echo "$document names $name, which is not there"; status=1; }
	done
done
exit $status
