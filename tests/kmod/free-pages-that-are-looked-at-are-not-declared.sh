#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A kernel that checks what it left in free pages does not call them dead.
exec ./test-memory poisoned \
	'slub_debug=FZPU page_poison=1 init_on_alloc=1 debug_pagealloc=on page_owner=on'
