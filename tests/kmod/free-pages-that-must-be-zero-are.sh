#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A kernel that clears pages as they are freed finds zeros in them, and else what it left.
exec ./test-memory zeroed \
	'slub_debug=FZPU init_on_alloc=1 init_on_free=1 debug_pagealloc=on page_owner=on'
