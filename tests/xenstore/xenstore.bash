# SPDX-License-Identifier: GPL-2.0-or-later
# For tests with the real libxenstore: a XenStore server at $XENSTORED_PATH, and how to ask it.
set -eu
command -v xenstore-write >/dev/null || { echo "SKIP: no xenstore-utils"; exit 77; }

folder=$(mktemp -d)
export XENSTORED_PATH=$folder/xenstored

finish() {
	status=$?
	exec {server_in}>&- || true
	wait "$server" || status=1
	rm -rf "$folder"
	exit $status
}

# The server runs until its input ends. XSD_WRAPPER may name a program to run it under.
coproc SERVER { exec ${XSD_WRAPPER-} ./xsd-socket "$XENSTORED_PATH"; }
server=$SERVER_PID
exec {server_in}>&"${SERVER[1]}" {server_out}<&"${SERVER[0]}"
eval "exec ${SERVER[1]}>&- ${SERVER[0]}<&-"
trap finish EXIT
read -r line <&"$server_out"
[ "$line" = ready ]

# host COMMAND…: what the host does; prints the answer, fails unless it is "ok" or a value.
host() {
	local line
	echo "$*" >&"$server_in"
	read -r line <&"$server_out"
	case $line in
	ok) ;;
	error*) echo "host $*: $line" >&2; return 1 ;;
	*) echo "$line" ;;
	esac
}

# is WANTED COMMAND…: the command succeeds and prints just this.
is() {
	local wanted=$1 got
	shift
	got=$("$@") || { echo "FAIL: $* failed"; exit 1; }
	[ "$got" = "$wanted" ] || { echo "FAIL: $* printed '$got' instead of '$wanted'"; exit 1; }
}

# refused MESSAGE COMMAND…: the command fails and says so.
refused() {
	local wanted=$1 got
	shift
	if got=$("$@" 2>&1); then
		echo "FAIL: $* succeeded: $got"
		exit 1
	fi
	[[ $got == *"$wanted"* ]] || { echo "FAIL: $* said '$got' instead of '$wanted'"; exit 1; }
}
