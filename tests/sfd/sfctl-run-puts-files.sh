#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# --put copies files and folders with their modes, and what a program needs that the guest lacks.
. "$(dirname "$0")/sfctl-lib.sh"
up || fail "up: $(cat "$here/up.err")"
cd "$here" || exit 99

# what the fake daemon computes over the bytes
sum() { od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) s = (s * 31 + $i) % 4294967296 } END { printf "%.0f", s }'; }

files() {
	timeout 60 "$sfctl" run -n "$@" -- files >out 2>err
}

head -c 1000000 /dev/urandom >big
: >empty
printf x >a:b
chmod 640 big
chmod 755 empty
mkdir -p tree/sub
echo 1 >tree/one
echo 2 >tree/sub/two
ln -s one tree/link

files --put big --put empty --put a:b
expect status $? 0
has 'a file' out "^/root/big 640 1000000 $(sum big)\$"
has 'an empty file' out '^/root/empty 755 0 0$'
has 'a colon in a name' out '^/root/a:b 644 1 120$'

files --put big:/tmp/x --put big:sub/y --put big:/etc/ --put tree --put tree:/t
expect status $? 0
has 'an absolute place' out '^/tmp/x 640'
has 'a relative place' out '^/root/sub/y 640'
has 'into a folder' out '^/etc/big 640'
has 'a folder' out '^/root/tree/sub/two 644 2'
has 'a link' out '^/root/tree/link 644 2'
has 'a folder elsewhere' out '^/t/one 644 2'

files --put nosuch
expect 'a file that is not there' $? 125
has 'a file that is not there' err 'cannot put nosuch: No such file'
files --put big:/full/x
expect 'a guest without room' $? 125
has 'a guest without room' err 'cannot put big into the VM as /full/x: No space left'
expect 'no VM is left' "$(grep -c '^destroyed' "$FAKE_LOG")" "$(grep -c '^booted' "$FAKE_LOG")"

# libraries
command -v gcc >/dev/null || done_testing
mkdir lib
echo 'int seven(void) { return 7; }' | gcc -shared -fPIC -Wl,-soname,libseven.so.1 -o lib/libseven.so.1 -x c -
ln -s libseven.so.1 lib/libseven.so
echo 'int seven(void); int main(void) { return seven(); }' |
	gcc -o prog -x c - -Llib -Wl,-rpath,"$here/lib" -lseven
printf '%s\n' /usr/lib/x86_64-linux-gnu/libc.so.6 >guest/manifest

files --put prog
expect status $? 0
has 'the program' out '^/root/prog 755'
has 'its library' out "^$here/lib/libseven.so.1 755"
hasnt 'not what the guest has' out 'libc\.so'
timeout 60 "$sfctl" run -n --put prog -- env >out
has 'where the loader finds it' out "\"LD_LIBRARY_PATH\":\"$here/lib\""

echo ./usr/lib/x86_64-linux-gnu/libseven.so.1 >>guest/manifest
files --put prog
hasnt 'a library the guest has elsewhere' out 'libseven'

rm guest/manifest
mkdir -p image/lib/x86_64-linux-gnu
cp lib/libseven.so.1 image/lib/x86_64-linux-gnu
(cd image && find . | cpio -o -H newc --quiet) >guest/initrd.img
files --put prog
hasnt 'a library that is in the RAM disk' out 'libseven'
has 'and what is not in it' out 'libc\.so'
rm guest/initrd.img
files --put prog
hasnt 'without a manifest, not the usual ones' out 'libc\.so'
has 'without a manifest, all others' out 'libseven'

rm lib/libseven.so.1
echo /usr/bin/true >guest/manifest
files --put prog
expect 'a library that is nowhere' $? 125
has 'a library that is nowhere' err 'prog needs the library libseven.so.1, which is neither here nor in the guest'

# a command that is one of the files is called by its place
timeout 60 "$sfctl" run -n --put big:bin/cmd -- big 1 2 >out 2>err
expect 'the command in its place' $? 127
timeout 60 "$sfctl" run -n --put "$here/big:env" -- env >out
expect 'a command by its name' $? 0
done_testing
