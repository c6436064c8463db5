#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A session of libxenstore goes on when its server becomes that of a clone.
. "${srcdir:-.}/xenstore.bash" || exit 1

coproc SESSION { exec ./session; }
session=$SESSION_PID
exec {session_in}>&"${SESSION[1]}" {session_out}<&"${SESSION[0]}"

read -r line <&"$session_out"
[ "$line" = now ]
host clone 9
host write domid 9
echo go >&"$session_in"

read -r line <&"$session_out"
[ "$line" = now ]
host clone 12345
host write elsewhere/new 1
echo go >&"$session_in"

wait "$session"
is 1 xenstore-read /local/domain/12345/quiet/a
