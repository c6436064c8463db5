#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# sf.h compiles by itself, as strict C and as C++, and its calls can be linked from both.
set -eu
lib=$top_builddir/libsf/.libs
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/user.c" <<'END'
#include <sf.h>
static void nothing(void) {}
int main()
{
	struct sf_hints hints = SF_HINTS_INIT;
	struct sf_status status;
	char text[SF_ADDRESS_BYTES];
	size_t len;
	hints.min = 2;
	if (sf_version()[0] == 'x') {
		sf_atclone(nothing, 0, nothing);
		if (sf_clone_ticket(sf_request_ticket(2, &hints)) > 0)
			sf_exit(0);
		sf_status(1, &status);
		return sf_result(1, &len) && SF_STATE_ENDED(status.state) && sf_address(1, text, sizeof(text));
	}
	return 0;
}
END
cp "$dir/user.c" "$dir/user.cc"
strict="-Wall -Wextra -Werror -pedantic-errors -I$top_srcdir/libsf"
${CC:-cc} -std=c99 $strict -o "$dir/user-c" "$dir/user.c" -L"$lib" -lsf ${LDFLAGS-}
LD_LIBRARY_PATH=$lib "$dir/user-c"
if ! command -v "${CXX:-g++}" >/dev/null; then
	echo "no C++ compiler: only C was tried"
	exit 77
fi
${CXX:-g++} -std=c++11 $strict -o "$dir/user-cxx" "$dir/user.cc" -L"$lib" -lsf ${LDFLAGS-}
LD_LIBRARY_PATH=$lib "$dir/user-cxx"
