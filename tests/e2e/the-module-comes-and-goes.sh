#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest's kernel module is unloaded and loaded while the guest is cloned, and without it cloning
# works and says what is missing.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 128M --put "$here/guest-module" -- ./guest-module 10
saw "0 wrong"
cat "$work/out"
must 0 --mem 128M -- sh -c 'rmmod snowflock && sf run -n 1 -- echo here' 
saw "here"
grep -qi "kernel module" "$work/err" || fail "nobody says that the module is missing"
