#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every call of sf.h has a page, whose NAME and SYNOPSIS have it too, and the pages are clean.
set -eu
man=$top_srcdir/libsf/man
failed=0

complain() {
	echo "$*"
	failed=1
}

for call in $(sed -n 's/^SF_API .*[ *]\(sf_[a-z_]*\)(.*/\1/p' "$top_srcdir/libsf/sf.h"); do
	page=$man/$call.3
	[ -e "$page" ] || { complain "$call has no page"; continue; }
	link=$(sed -n 's/^\.so man3\///p' "$page")
	[ -z "$link" ] || page=$man/$link
	[ -e "$page" ] || { complain "$call.3 is a link to nothing"; continue; }
	sed -n '/^\.SH NAME/,/^\.SH SYNOPSIS/p' "$page" | grep -qw "$call" || complain "$page: not in NAME: $call"
	sed -n '/^\.SH SYNOPSIS/,/^\.SH DESCRIPTION/p' "$page" | grep -qw "$call" ||
		complain "$page: not in SYNOPSIS: $call"
done
for command in $("$SF_COMMAND" --help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p'); do
	grep -q "^\.B sf ${command%%-*}" "$man/sf.1" || complain "sf.1: nothing about sf $command"
done
if command -v groff >/dev/null; then
	for page in $(grep -L '^\.so ' "$man"/*.[137]); do
		said=$(groff -man -Tutf8 -ww -z "$page" 2>&1 || true)
		[ -z "$said" ] || complain "$said"
	done
fi
exit $failed
