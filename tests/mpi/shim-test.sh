#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# MPI_Comm_spawn() on what the keeper gives, with a real MPICH and a double of the keeper.
set -eu
. "${srcdir:-.}/shim-lib.sh"

launches() { grep -c "^launch 127\.[1-9]" "$work/log" || :; }
wants() { grep -c '^want' "$work/log" || :; }

case_of 1 twice
[ "$(wants) $(launches)" = "2 5" ] || fail "twice: not on clones"
[ "$(grep -c '^asker by unix' "$work/log")" = 1 ] || fail "twice: more connections than one"
grep -q '^drop' "$work/log" && fail "twice: what was used is dropped"

double=-o
case_of 1 twice
[ "$(wants) $(launches)" = "2 5" ] || fail "twice: not on clones of a second keeper"
double=

case_of 1 profiled
[ "$(wants) $(launches)" = "1 2" ] || fail "profiled: not on clones"

case_of 1 fifty
[ "$(wants) $(launches)" = "50 50" ] || fail "fifty: not on clones"

case_of 1 multiple
grep -q '^want 3 per_clone 2 min_clones 1 per_host 0$' "$work/log" || fail "multiple: wishes"
[ "$(launches)" = 2 ] || fail "multiple: not on two clones"
with='SF_MPI_PER_HOST=3 SF_MPI_PER_CLONE=9'
case_of 1 multiple
with=
grep -q '^want 3 per_clone 2 min_clones 1 per_host 3$' "$work/log" || fail "multiple: environment"

case_of 1 below
grep -q '^asker by tcp' "$work/log" || fail "below: not by TCP"
[ "$(wants) $(launches)" = "2 3" ] || fail "below: not on clones"

case_of 1 host
[ "$(wants)" = 0 ] || fail "host: asked for clones"
grep -q '^launch 127.0.0.77$' "$work/log" || fail "host: not there"

case_of 3 root
case_of 1 fork
case_of 1 threads
[ "$(wants)" = 9 ] || fail "threads: not on clones"
case_of 1 crowd
[ "$(launches)" = 16 ] || fail "crowd: not on clones"
case_of 1 arguments
with=WITH_LINES=1
case_of 1 arguments
with=
case_of 2 handler

# Nothing can be spawned: all ranks get the error, the user a sentence, and nothing was started.
refused() {
	case_of 3 fails
	grep -q "snowflock: MPI_Comm_spawn: $1" "$work/err" || fail "fails: not told: $1"
	[ "$(launches)" = 0 ] || fail "fails: something was started"
}
with=FAIL_PROGRAM=no-such-program
refused 'the program "no-such-program" cannot be started: No such file'
[ "$(wants)" = 0 ] || fail "no such program: asked for clones"
with=FAIL_PROGRAM=/etc/passwd
refused 'the program "/etc/passwd" cannot be started: Permission denied'
with=SF_MPI_PER_CLONE=many
refused 'SF_MPI_PER_CLONE: "many" is no number'
with=
double='-r no.host.has.room'
refused 'no.host.has.room$'

# MPICH itself fails, when the clones are there already: they are given back.
double=
PRELOAD=$shim:$PWD/.libs/mpich-double.so
case_of 1 fails_late
[ "$(grep -c '^drop' "$work/log")" = 1 ] || fail "fails: the clones are not given back"
unset PRELOAD

# Debian's own MPICH cannot spawn. That is said before anything was asked for.
stock=$(ldconfig -p | sed -n 's/.*libmpich.so.12 .*=> //p' | head -n 1)
if [ -n "$stock" ] && grep -aq ch4:ucx "$stock"; then
	MPICH=${stock%/*}
	refused 'this MPICH (ch4:ucx) cannot spawn: .*mkmpich.*sf-mpirun --mpich=DIR'
	unset MPICH
fi

# A program that was started alone is started again, as a rank, with all that it was given.
alone() {
	: >"$work/log"
	printf 'to it\n' | timeout 120 unshare -n sh -c 'ip link set lo up && exec "$@"' sh \
		./keeper-double -l "$work/log" -- env ${with:-} \
		SF_MPI_LIBEXEC="${libexec-$work}" LD_PRELOAD="$PWD/.libs/vm-double.so:$shim" \
		LD_LIBRARY_PATH="$SF_MPICH:$top/libsf/.libs" ./shim-program alone 'a  b' '' "c'" \
		>"$work/out" 2>"$work/err" && status=0 || status=$?
}
cat >"$work/sf-mpirun" <<'EOF'
#!/bin/sh
echo "$1 $2 $3 $4" >&2
shift 4
exec mpiexec.hydra -rmk user -hosts 127.0.0.1:64 -n 1 "$@"
EOF
chmod +x "$work/sf-mpirun"
went_on() {
	[ "$status" = 7 ] || fail "alone: exit status $status"
	[ "$(cat "$work/out")" = "input to it
argument 0 is \"./shim-program\"
argument 1 is \"alone\"
argument 2 is \"a  b\"
argument 3 is \"\"
argument 4 is \"c'\"
done" ] || fail "alone: something was lost"
	grep -q '^--here -n 1 --$' "$work/err" || fail "alone: how?"
	[ "$(launches)" = 2 ] || fail "alone: not on clones"
}
alone
went_on
# nothing but the library: the programs are where it is
mkdir -p "$work/usr/libexec/snowflock" "$work/usr/bin"
cp -L "$shim" "$work/usr/libexec/snowflock/"
mv "$work/sf-mpirun" "$work/usr/bin/"
built=$shim libexec='' shim=$work/usr/libexec/snowflock/${shim##*/}
alone
went_on
mv "$work/usr/bin/sf-mpirun" "$work/"
shim=$built
unset libexec

with=SF_MPI_SINGLETON=0
alone
grep -q 'snowflock: MPI_Comm_spawn: this program was started without sf-mpirun' "$work/err" ||
	fail "alone: not told what is missing"
