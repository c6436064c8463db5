#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest whose agent does not get quiet is told ETIMEDOUT; the VM goes on and clones the next time.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
must 0 --mem 256M --put "$here/guest-never-quiet" -- ./guest-never-quiet
saw "told: "
saw "did not get quiet"
saw "goes on"
