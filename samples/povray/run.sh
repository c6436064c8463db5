#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sample: a picture rendered in bands, by a script that clones the VM it runs in.
. "$(dirname "$0")/../common/host.sh"
scene=/usr/share/doc/povray/examples/advanced/biscuit.pov
includes=/usr/share/povray-3.7/include

need povray /usr/bin/povray /etc/povray/3.7/povray.conf
need povray-includes "$includes/colors.inc"
need povray-examples "$scene"
put /usr/bin/povray:/usr/bin/ /etc/povray:/etc/povray "$includes:$includes" "$scene:/data/" \
	"$here/render.sh:/usr/bin/"

compare biscuit.ppm render.sh
