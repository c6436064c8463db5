#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything the guest's kernel can check about memory is checked, in a parent and in clones, while
# pages are declared dead or must not be.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 3G
for append in "slub_debug=FZPU debug_pagealloc=on page_owner=on init_on_alloc=1 init_on_free=1" \
	"slub_debug=FZPU page_poison=1 debug_guardpage_minorder=1 debug_pagealloc=on"; do
	must 0 --mem 384M --cpus 2 --put "$here/guest-pages" -- sh -c \
		'./guest-pages churn 100 4 2 && ! dmesg | grep -E "BUG|WARNING|Call Trace|corruption"'
	saw "8 of 8 clones found all as it was, 0 wrong words in the parent"
	echo "$append: $(jq -c '[.clones[] | .dead_pages]' "$work/record.json") pages dead"
done
# the allocator itself looks at the pattern in free pages: none may be called dead
[ "$(jq '[.clones[].dead_pages] | add' "$work/record.json")" = 0 ] || fail "poisoned pages were declared dead"
