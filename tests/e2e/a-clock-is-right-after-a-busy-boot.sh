#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A VM boots while the machine has much else to do: its clock runs at the right rate all the same,
# since its kernel was told how fast the CPU's counter is.
. "$(dirname "$0")/lib.sh"
busy=()
trap 'status=$?; [ "${busy[*]}" ] && kill "${busy[@]}" 2>/dev/null; (exit $status); end' EXIT
cluster 1 --mem-per-host 1G
for _ in 1 2 3 4 5 6; do
	(trap - EXIT; while :; do :; done) &
	busy+=($!)
done
mkfifo "$work/in" "$work/out"
# answers with its uptime
timeout 200 "$sfctl" run --mem 128M --append "${append-}" -- sh -c '
	dmesg | grep -c "calibrat.*PIT\|reference calibration"
	while read -r word; do cut -d" " -f1 /proc/uptime; done' <"$work/in" >"$work/out" 2>"$work/err" &
child=$!
exec 7>"$work/in" 8<"$work/out"
read -r -t 150 found <&8 || fail "no VM: $(cat "$work/err")"
kill "${busy[@]}"
busy=()

# ask NAME: NAME is what the guest says it is, NAME_from and NAME_to our time around that
ask()
{
	local answer from=$EPOCHREALTIME

	echo ask >&7
	read -r -t 60 answer <&8 || fail "no answer"
	eval "$1=$answer $1_from=$from $1_to=$EPOCHREALTIME"
}
ask first
sleep 3
ask second
exec 7>&-
wait $child || fail "it ended with $?: $(cat "$work/err")"
# shellcheck disable=SC2154
awk "BEGIN { guest = $second - $first; least = $second_from - $first_to; most = $second_to - $first_from
	printf \"%.2f s in the guest, %.2f to %.2f s here\n\", guest, least, most
	exit !(guest > least * 0.99 - 0.02 && guest < most * 1.01 + 0.02) }" ||
	fail "its clock runs at another rate"
[ "$found" = 0 ] || fail "its kernel found out for itself how fast the counter is"
