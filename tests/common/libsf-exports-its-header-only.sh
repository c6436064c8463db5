#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# libsf.so shows the calls of sf.h and nothing else.
set -eu
lib=$top_builddir/libsf/.libs/libsf.so
[ -e "$lib" ] || { echo "no $lib"; exit 77; }

nm -D --defined-only "$lib" | awk '{ print $NF }' | sort >exports.out
sed -n 's/^SF_API .*[ *]\(sf_[a-z_]*\)(.*/\1/p' "$top_srcdir/libsf/sf.h" | sort >declared.out
[ -s declared.out ]
diff -u declared.out exports.out
rm -f exports.out declared.out
