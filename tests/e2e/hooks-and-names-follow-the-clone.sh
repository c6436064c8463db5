#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# clone.conf gives every clone a name and a machine id of its own, and what is in clone.d runs in it
# before the program goes on.
. "$(dirname "$0")/lib.sh"
cluster 2 --mem-per-host 2G
cat >"$work/hook" <<'HOOK'
#!/bin/sh
echo "$SF_ID $SF_COUNT $SF_ADDRESS $(hostname)" >/tmp/hooked
HOOK
printf '#!/bin/sh\nexit 3\n' >"$work/broken"
chmod 755 "$work/hook" "$work/broken"
printf '# names\nhostname = %%h-%%i\nmachine-id = new\n' >"$work/clone.conf"
must 0 --mem 128M --put "$work/hook:/etc/snowflock/clone.d/20-note" \
	--put "$work/broken:/etc/snowflock/clone.d/10-broken" \
	--put "$work/clone.conf:/etc/snowflock/clone.conf" -- sh -c '
	echo 0123456789abcdef0123456789abcdef >/etc/machine-id
	sf run -n 3 -- sh -c "cat /tmp/hooked; hostname; cat /etc/machine-id"
	echo "parent $(hostname) $(cat /etc/machine-id) $(ls /tmp)"'
cat "$work/out"
for id in 1 2 3; do
	grep -qE "$id 3 10\.[0-9.]+ guest-$id\$" "$work/out" || fail "the hook did not run in clone $id, or too early"
done
ids=$(grep -oE '\b[0-9a-f]{32}\b' "$work/out" | sort -u | wc -l)
[ "$ids" = 4 ] || fail "$ids machine ids for four machines"
saw "parent guest 0123456789abcdef0123456789abcdef"
! grep -q 'parent.*hooked' "$work/out" || fail "the hook ran in the parent"
