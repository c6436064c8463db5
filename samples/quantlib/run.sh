#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: a book of options priced with QuantLib, by a C++ program that clones the VM it runs in.
#
# LIBSF names the folder of the libsf that was built.
. "$(dirname "$0")/../common/host.sh"
: "${LIBSF:?}"
source=$here/price.cpp
program=$OUT/price

need g++ "$(command -v "${CXX:-g++}")"
need libquantlib0-dev /usr/include/ql/version.hpp
all_there

if [ ! "$program" -nt "$source" ]; then
	say "compiling ${source##*/} …"
	"${CXX:-g++}" -std=c++14 -O2 -Wall -Wextra "-I$here/../../libsf" "$source" \
		-o "$program.new" "-L$LIBSF" -lsf -lQuantLib ||
		die "${source##*/} cannot be compiled"
	mv "$program.new" "$program"
fi
put "$program:/usr/bin/"

compare prices.tsv price
say
say 'The book begins:'
head -n 6 "$OUT/prices.tsv" | awk -F '\t' '{
	format = "  %-14s %6s %7s %11s "
	format = format (NR == 1 ? "%10s %8s\n" : "%10.4f %8.4f\n")
	printf format, $1, $2, $3, $4, $5, $6
}'
