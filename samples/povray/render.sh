#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the VM: renders a picture, here (0) or in N clones, each a band of it. See compare.sh.
set -eu
width=${WIDTH:-384}
height=256
block=32	# POV-Ray renders in squares of so many pixels: bands of whole ones have no seams

# Writes the pixels of rows $1…$2 (1 is the first); what POV-Ray left black around them is cut off.
render() {
	local picture=/tmp/picture.ppm

	povray +I/data/biscuit.pov "+O$picture" +FP "+W$width" "+H$height" "+SR$1" "+ER$2" \
		-D -GA +A0.3 +R2 -J +WT1 2>/tmp/povray.log ||
		{ tail -n 5 /tmp/povray.log >&2; return 1; }
	tail -c $((width * height * 3)) "$picture" | tail -c +$(((($1 - 1) * width * 3) + 1)) |
		head -c $((($2 - $1 + 1) * width * 3))
}

header() { printf 'P6\n%d %d\n255\n' "$width" "$height"; }

# In clone $1 of $2: renders the band that is its own, and ends.
work() {
	local blocks=$((height / block))

	trap 'sf exit 1' EXIT	# whatever goes wrong: a clone that does not end would be waited for
	render $((($1 - 1) * blocks / $2 * block + 1)) $(($1 * blocks / $2 * block)) >/tmp/band
	sf set-result /tmp/band
	sf exit
}

case $1 in
prepare) echo "a picture of $width x $height pixels" >&2 ;;
0) header && render 1 "$height" ;;
*)
	id=$(sf clone --min="$1" "$1")
	[ "$id" = 0 ] || work "$id" "$1"
	sf join
	header
	for ((id = 1; id <= $1; id++)); do
		sf result "$id"
	done ;;
esac
