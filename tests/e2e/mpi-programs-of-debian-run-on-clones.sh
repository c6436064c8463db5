#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Programs as Debian ships them, linked with its MPICH and not changed: Tachyon's picture is that of one
# rank, NetPIPE measures between two clones, ScaLAPACK's test of LU factorizations finds no failure.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-mpi.sh"
folder=/usr/lib/x86_64-linux-gnu
need /usr/bin/tachyon-nox tachyon-bin-nox
need $folder/libtachyon-mpich.so.0.0.0 libtachyon-mpich-0
need /usr/bin/NPmpich2 netpipe-mpich2
need $folder/scalapack/mpich-tests/xdlu scalapack-mpi-test
cluster 4 --mem-per-host 2G
# without antialiasing, for which each rank takes random numbers of its own
cat >"$work/scene.dat" <<'END'
BEGIN_SCENE
RESOLUTION 120 90
CAMERA
	ZOOM 1.0 ASPECTRATIO 1.0 ANTIALIASING 0 RAYDEPTH 4
	CENTER 0.0 0.0 -6.0 VIEWDIR 0.0 0.0 1.0 UPDIR 0.0 1.0 0.0
END_CAMERA
LIGHT CENTER -4.0 6.0 -8.0 RAD 0.2 COLOR 1.0 1.0 1.0
TEXDEF glass AMBIENT 0.1 DIFFUSE 0.6 SPECULAR 0.4 OPACITY 1.0 COLOR 0.9 0.4 0.2 TEXFUNC 0
TEXDEF floor AMBIENT 0.1 DIFFUSE 0.8 SPECULAR 0.1 OPACITY 1.0 COLOR 0.3 0.6 0.9 TEXFUNC 0
SPHERE CENTER 0.0 0.2 1.0 RAD 1.4 glass
SPHERE CENTER -1.6 -0.8 0.2 RAD 0.6 glass
PLANE CENTER 0.0 -1.5 0.0 NORMAL 0.0 1.0 0.0 floor
END_SCENE
END
# of its own LU.dat the smaller half
cat >"$work/LU.dat" <<'END'
'SCALAPACK, LU factorization input file'
'MPI Machine'
'LU.out'		output file name (if any)
6			device out
2			number of problems sizes
10 31			values of M
12 31			values of N
1			number of NB's
3			values of NB
1			number of NRHS's
3			values of NRHS
1			Number of NBRHS's
3			values of NBRHS
3			number of process grids (ordered pairs of P & Q)
1 2 2			values of P
1 1 2			values of Q
1.0			threshold
T			(T or F) Test Cond. Est. and Iter. Ref. Routines
END
# rank 0 of these programs writes a file in its clone, and shows it
cat >"$work/render" <<'END'
#!/bin/sh
tachyon-nox scene.dat -format PPM -o picture.ppm >&2
[ "$PMI_RANK" != 0 ] || cat picture.ppm
END
chmod 755 "$work/render"
must 0 --mem 256M "${mpi[@]}" --put /usr/bin/tachyon-nox:/usr/bin/ --put "$work/render" --put "$work/scene.dat" \
	--put "$folder/libtachyon-mpich.so.0.0.0:$folder/libtachyon.so.0" --put /usr/bin/NPmpich2:/usr/bin/ \
	--put "$folder/scalapack/mpich-tests/xdlu:/usr/bin/" --put "$work/LU.dat" -- sh -c '
	sf-mpirun --here -n 1 ./render >alone.ppm; echo "alone: $?"
	sf-mpirun -n 4 ./render >together.ppm; echo "together: $?"
	cmp alone.ppm together.ppm && echo "the pictures are equal"
	wc -c <alone.ppm; tail -c +20 alone.ppm | tr -d "\000" | wc -c
	sf-mpirun -n 2 --per-host 1 NPmpich2 -u 1024 -p 0 -n 20 -o /tmp/np.out; echo "NetPIPE: $?"
	sf-mpirun -n 4 xdlu; echo "ScaLAPACK: $?"
	mpi-left'
cat "$work/out"
saw "alone: 0"
saw "together: 0"
saw "the pictures are equal"
[ "$(sed -n '/^the pictures/{n;p}' "$work/out")" = 32414 ] || fail "it is no picture of 120 by 90"
[ "$(sed -n '/^the pictures/{n;n;p}' "$work/out")" -gt 5000 ] || fail "the picture is black"
saw "NetPIPE: 0"
grep -qE "1024 bytes +20 times --> +[0-9.]+ Mbps in +[0-9.]+ usec" "$work/out" "$work/err" || fail "NetPIPE"
saw "ScaLAPACK: 0"
grep -qE "^ *[1-9][0-9]* tests completed and passed residual checks" "$work/out" || fail "ScaLAPACK"
grep -qE "^ *0 tests completed and failed residual checks" "$work/out" || fail "ScaLAPACK found failures"
[ "$(jq -c '[.clones[].granted]' "$work/record.json")" = '[4,2,4]' ] ||
	fail "not the clones that were asked for: $(jq -c '[.clones[].granted]' "$work/record.json")"
saw "nothing left in the VM"
