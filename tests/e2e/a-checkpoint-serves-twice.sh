#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Clones of a checkpoint begin at its instant, twice, with an ordinary clone in between.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 256M --put "$here/guest-checkpoint" -- ./guest-checkpoint
saw "used twice"
