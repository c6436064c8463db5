#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every wrong call gets its errno and a sentence; the VM and its later clones are well.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 7 --mem 256M --put "$here/guest-errors" -- ./guest-errors
saw "0 failures"
saw "all told"
grep -q "only a clone" "$work/err" || fail "sf_exit() in the parent said nothing: $(cat "$work/err")"
