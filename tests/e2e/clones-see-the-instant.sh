#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 24 clones on 4 hosts hash 120 MB that they inherited while the parent overwrites its own.
. "$(dirname "$0")/lib.sh"
cluster 4 --mem-per-host 4G
must 0 --mem 512M --put "$here/guest-memory" -- ./guest-memory 24 120 1
saw "all right"
