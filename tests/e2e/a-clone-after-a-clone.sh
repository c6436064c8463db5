#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 20 clone operations in a row, each with memory of its own instant.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 3G
must 0 --mem 256M --put "$here/guest-memory" -- ./guest-memory 3 16 20
saw "all right"
