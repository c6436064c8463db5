#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every fault point in the code is in HACKING.md, with a test that names it; and no other is.
cd "${srcdir:-.}/.." || exit 1
status=0
points=$(grep -rh 'fault_hit(' --include='*.c' host libsf common | grep -o '"[a-z]*-[a-z-]*"' | tr -d '"' | sort -u)
for point in $points; do
	test=$(sed -n "s/^| \`$point\` .*\`\\(tests[^\`]*\\)\`.*/\\1/p" HACKING.md)
	[ -n "$test" ] || { echo "HACKING.md does not list $point"; status=1; continue; }
	grep -q "$point" "$test" || { echo "$test does not use $point"; status=1; }
done
for point in $(sed -n 's/^| `\([a-z]*-[a-z-]*\)` .*`tests.*/\1/p' HACKING.md); do
	echo "$points" | grep -qx "$point" || { echo "HACKING.md lists $point, which is not in the code"; status=1; }
done
exit $status
