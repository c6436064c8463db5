#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A clone of a checkpoint of three seconds ago has the right time, and its sleepers wake when they
# should.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 1G
must 0 --mem 128M --put "$here/guest-clock" -- ./guest-clock
saw "clone: status 0"
cat "$work/out"
