#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Five clones on 3 hosts and the parent have IPv6 addresses of their own and meet by them; a VM that
# was not given IPv6 has none.
. "$(dirname "$0")/lib.sh"
cluster 3 --mem-per-host 2G
must 0 --mem 256M --ipv6 --put "$here/guest-ipv6" -- ./guest-ipv6 5
saw "0 wrong"
# the agent does what the kernel module did
must 0 --mem 256M --ipv6 --put "$here/guest-ipv6" -- sh -c "rmmod snowflock; ./guest-ipv6 3"
saw "0 wrong"
must 0 --mem 256M -- cat /proc/net/if_inet6
[ ! -s "$work/out" ] || fail "a VM has IPv6 that was not asked for: $(cat "$work/out")"
