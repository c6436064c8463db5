#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: programs compiled through distcc, on servers that are clones of the VM that compiles.
. "$(dirname "$0")/../common/host.sh"
source=/usr/share/doc/zlib1g-dev/examples
compiler=$(readlink -f "$(gcc -print-prog-name=cc1 2>/dev/null)")

need distcc /usr/bin/distcc /usr/bin/distccd
need gcc /usr/bin/gcc "$compiler" /usr/bin/as
need make /usr/bin/make
need zlib1g-dev "$source/gun.c" /usr/include/zlib.h
all_there

# What they include with the options of programs.mk, and nothing else of /usr/include.
headers() {
	gcc "$(sed -n 's/^CFLAGS = //p' "$here/programs.mk")" -M "$source"/*.c 2>/dev/null |
		tr -s ' \\' '\n' | grep '^/usr/.*\.h$' | sort -u
}

for program in distcc distccd gcc as make; do
	put "/usr/bin/$program:/usr/bin/"
done
put "$compiler:$compiler" "$source:/data" "$here/programs.mk:/data/Makefile" \
	"$here/build.sh:/usr/bin/"
while read -r header; do
	put "$header:$(readlink -m "$header")"
done < <(headers)

parent_works
compare objects.sha256 build.sh
