#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the VM: compiles programs, here (0) or with distcc on N clones. See compare.sh.
set -eu
cd /data
port=3632
export HOME=/tmp TMPDIR=/tmp DISTCC_DIR=/tmp/distcc DISTCC_FALLBACK=0

# The server begins before there are clones: each of them has it running, and listening, when it is
# born. It takes commands from the parent and its clones alone; compilers are those in
# /usr/lib/distcc.
start_server() {
	mkdir -p /usr/lib/distcc /tmp/distcc
	ln -s ../../bin/distcc /usr/lib/distcc/gcc
	distccd --daemon --user nobody --jobs 2 --port "$port" --allow 127.0.0.1 --allow 10.64.0.0/10 \
		--log-file /dev/null
}

# Waits until the server at an address takes connections.
await() {
	local tries

	for tries in {1..60}; do
		! nc -w 2 "$1" "$port" </dev/null >/dev/null 2>&1 || return 0
	done
	echo "build: $1 does not answer ($tries times)" >&2
	return 1
}

# The addresses of clones 1…$1, as distcc wants them: each takes two jobs at a time, so that it has
# one while another travels.
servers() {
	local id address list=

	for ((id = 1; id <= $1; id++)); do
		address=$(sf address "$id")
		await "$address"
		list+="$address/2 "
	done
	echo "$list"
}

build_in_clones() {
	local clones=$1 id

	id=$(sf clone --min="$clones" "$clones")
	[ "$id" = 0 ] || exec sleep infinity	# what is to be done, the server does
	trap 'sf kill' EXIT
	DISTCC_HOSTS=$(servers "$clones")
	export DISTCC_HOSTS
	make -s -j $((2 * clones)) CC='distcc gcc'
}

make -s clean
case $1 in
prepare)
	start_server
	echo "$(cat ./*.c | wc -l) lines of C to compile" >&2
	exit ;;
0) make -s CC=gcc ;;
*) build_in_clones "$1" >&2 ;;
esac
sha256sum ./*.o
