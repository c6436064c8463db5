#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Debian 12 on a disk: the system comes up whole, and its two clones on two hosts, made by `sf run`,
# have names and machine ids of their own; what one writes is neither in the other nor the parent.
# They find an address for a name if this machine does.
# The disk is there if  make -C guest-image debian  has made it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-disk.sh"
for file in debian.raw debian.initrd vmlinuz; do
	[ -r "$guestdir/$file" ] || { echo "skipped: no $guestdir/$file: make -C guest-image debian"; exit 77; }
done
known=deb.debian.org
command -v slirp4netns >/dev/null && getent hosts "$known" >/dev/null || known=localhost
mkdir "$work/data"
cluster 2 --mem-per-host 1G --data "$work/data"

# Hears two on a port and then tells both. Who starts it goes on when it listens.
cat >"$work/meet" <<'END'
#!/usr/bin/perl
use IO::Socket::INET;
my $port = IO::Socket::INET->new(LocalPort => 7000, Listen => 2) or die "listen: $!";
exit if fork;
my @both = map { $port->accept } 1, 2;
print $_ "go\n" for @both;
END
# Each clone writes /root/own, waits until the other has done so too, and looks again: from its
# disk, for its cache was dropped. The parent looks when both have ended.
cat >"$work/in-clone" <<'END'
#!/bin/bash
me=$(hostname)
echo "$me" >/root/own
sync
exec 3<>"/dev/tcp/$(sf address 0)/7000" && read -r both <&3
echo 3 >/proc/sys/vm/drop_caches
getent hosts "$1" >/dev/null && knows=$1
echo "CLONE $SF_ID $me $(cat /etc/machine-id) $(systemctl is-system-running) $(cat /root/before)" \
	"own:$(cat /root/own) $both knows:$knows"
END
cat >"$work/in-parent" <<'END'
#!/bin/sh
state=$(systemctl is-system-running --wait) || systemctl list-units --failed
echo parents >/root/before
/root/meet
sf run -n 2 -- /root/in-clone "$1"
echo "PARENT $(hostname) $(cat /etc/machine-id) $state $(systemctl is-system-running)" \
	"$(ls /root/own 2>&1)"
END
chmod 755 "$work/meet" "$work/in-clone" "$work/in-parent"
timeout 900 "$sfctl" run --mem 512M --image "$guestdir/debian.raw" --kernel "$guestdir/vmlinuz" \
	--initrd "$guestdir/debian.initrd" \
	--append "root=/dev/vda1 rw rootflags=noatime panic_on_warn=1 oops=panic" \
	--put "$work/meet" --put "$work/in-clone" --put "$work/in-parent" --json "$work/record.json" \
	-- /root/in-parent "$known" >"$work/out" 2>"$work/err" </dev/null ||
	fail "exit status $?: $(cat "$work/out" "$work/err")"
cat "$work/out"

id='[0-9a-f]{32}'
for clone in 1 2; do
	grep -qE "CLONE $clone debian-$clone $id running parents own:debian-$clone go knows:$known\$" \
		"$work/out" ||
		fail "clone $clone is not as it should be"
done
grep -qE "PARENT debian $id running running ls: cannot access" "$work/out" ||
	fail "the parent is not as it should be"
ids=$(grep -oE "\b$id\b" "$work/out" | sort -u | wc -l)
[ "$ids" = 3 ] || fail "$ids machine ids for three machines"
hosts=$(jq -r '[.clones[0].clones[].host] | sort | unique | join(" ")' "$work/record.json")
[ "$hosts" = "h1 h2" ] || fail "they were on \"$hosts\": $(cat "$work/record.json")"
"$sfctl" cluster down >/dev/null
no_data "$work/data" || fail "something is left in the data folder"
