#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The same as without a filter in the device, which has to be told of a MAC.
exec ./test-network ,ctrl_rx=on,ctrl_mac_addr=on
