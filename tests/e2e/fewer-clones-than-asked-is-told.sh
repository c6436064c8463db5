#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Hosts with little memory give fewer clones, or none with an error; a VM that does not fit is refused.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 400M
must 0 --mem 256M -- sh -c '
	id=$(sf clone 50)
	[ "$id" -gt 0 ] && sf exit 0
	sf join
	n=$(sf info | grep -c "exited with status 0")
	echo "made $n"
	sf clone --min 50 50 && exit 1
	echo "and refused"'
made=$(sed -n 's/^made //p' "$work/out")
[ "${made:-0}" -ge 2 ] && [ "$made" -lt 50 ] || fail "made $made clones: $(cat "$work/out" "$work/err")"
saw "and refused"
grep -qi "MB left" "$work/err" || fail "the refusal does not say why: $(cat "$work/err")"
must 125 --mem 1G -- true
grep -q "MB left for guests" "$work/err" || fail "the refusal does not say why: $(cat "$work/err")"
