#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Holding, coming and going, and being another one on the network, in a kernel that checks itself.
debug='slub_debug=FZPU page_poison=1 init_on_alloc=1 init_on_free=1 debug_pagealloc=on page_owner=on
	nmi_watchdog=0 softlockup_panic=1 kfence.sample_interval=10'
./test-hold "$debug" && ./test-network ,ctrl_rx=off,ctrl_mac_addr=off "$debug"
