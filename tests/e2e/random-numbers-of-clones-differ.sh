#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 32 clones draw random numbers from the first moment: none is what another one or the parent draws.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 4G
must 0 --mem 256M --cpus 2 --put "$here/guest-random" -- ./guest-random 32
saw "32 clones and the parent: all different"

# It sees it if the module leaves the RNG alone: what the kernel does by itself comes later.
run --mem 256M --cpus 2 --put "$here/guest-random" -- sh -c \
	'echo 0 >/sys/module/snowflock/parameters/reseed && exec /root/guest-random 4' &&
	fail "clones differ from the first moment although nothing was done for it"
grep -q alike "$work/err" || fail "they do not differ, but are not alike either"
