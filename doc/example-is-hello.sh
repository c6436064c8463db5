#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The README's example is samples/hello/hello.c, word for word, without its two lines of head.
cd "${srcdir:-.}/.." || exit 1
want=$(sed 1,2d samples/hello/hello.c)
have=$(sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d')
[ "$have" = "$want" ] || { echo 'README.md and samples/hello/hello.c differ'; exit 1; }
