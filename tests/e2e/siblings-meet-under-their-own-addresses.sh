#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Six clones on 3 hosts, two CPUs each, and the parent: everybody connects to everybody.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G
must 0 --mem 256M --cpus 2 --put "$here/guest-siblings" -- ./guest-siblings 6 2
saw "0 wrong"
