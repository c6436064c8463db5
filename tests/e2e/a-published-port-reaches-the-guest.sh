#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sfctl run --publish: connections to a port here reach a port of the VM, each end passed on by itself,
# many at a time and across a clone; nobody listening, a port in use and nonsense are told; with the run the
# port is gone.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
cluster 2 --mem-per-host 2G

for nonsense in 80 80:0 80:x x:80 80:65536 nowhere:80:80 ''; do
	"$sfctl" run --publish "$nonsense" -- true 2>"$work/err"
	[ $? = 125 ] || fail "a port \"$nonsense\" was taken"
	grep -q -- '--publish wants' "$work/err" || fail "it was not told: $(cat "$work/err")"
done

cat >"$work/serve" <<'END'
#!/bin/sh
./guest-ports
echo ready
while read -r what; do
	sf run -n 2 -- true && echo cloned
done
END
chmod +x "$work/serve"

# client.py PORT…: the client of all three.
cat >"$work/client.py" <<'END'
import socket, sys, threading

back, count, give, nobody = (int(port) for port in sys.argv[1:5])

def talk(port, out):
    """Sends, ends, and takes what comes until its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
        sender = threading.Thread(target=lambda: (s.sendall(out), s.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b"".join(iter(lambda: s.recv(65536), b""))
        sender.join()
        return got

assert talk(count, bytes(3000000)).strip() == b"3000000", "sent, or its end: did not arrive"
assert len(talk(give, b"")) == 20000000, "20 MB did not come"
assert talk(back, bytes(range(256)) * 20000) == bytes(range(256)) * 20000, "not what was sent"
with socket.create_connection(("127.0.0.1", give)) as s:
    s.recv(1)  # and away, with much on its way
wrong = []
def one(i):
    line = b"line %d" % i
    if talk(back, line) != line:
        wrong.append(i)
several = [threading.Thread(target=one, args=(i,)) for i in range(150)]
for thread in several: thread.start()
for thread in several: thread.join()
assert not wrong, f"connections {wrong} did not get back what they sent"
assert talk(nobody, b"") == b"", "nobody listens, and something came"

# One that stays open over a clone.
with socket.create_connection(("127.0.0.1", back), timeout=120) as s:
    for word in b"before", b"after":
        s.sendall(word)
        assert s.recv(100) == word, "a connection did not outlive a clone"
        if word == b"before":
            print("clone", flush=True)
            assert sys.stdin.readline() == "cloned\n"
    s.shutdown(socket.SHUT_WR)
    assert s.recv(100) == b"", "a clone spoke where its parent does"
END

mkfifo "$work/in" "$work/answers"
"$sfctl" run --mem 256M --progress --publish 0:7001 --publish 127.0.0.1:0:7002 --publish 0:7003 \
	--publish 0:7004 --put "$here/guest-ports" \
	--put "$work/serve" -- ./serve <"$work/in" >"$work/out" 2>"$work/err" &
pid=$!
exec 5>"$work/in"
eventually 100 grep -q ready "$work/out" || fail "the VM does not serve: $(cat "$work/err")"
port() { sed -n "s/^127\.0\.0\.1:\([0-9]*\) leads to port $1 of the VM/\1/p" "$work/err"; }

timeout 200 python3 "$work/client.py" "$(port 7001)" "$(port 7002)" "$(port 7003)" "$(port 7004)" \
	<"$work/answers" >&5 2>"$work/client-err" &
client=$!
exec 6>"$work/answers"
answered() { [ ! -e "$work/out" ] || grep -q cloned "$work/out"; }
(eventually 180 answered && echo cloned >&6) &
wait "$client" || fail "$(tail -n 3 "$work/client-err") $(cat "$work/err")"
grep -q 'port 7004 of the VM: Connection refused' "$work/err" ||
	fail "it was not told that nobody listens: $(cat "$work/err")"

"$sfctl" run --publish "$(port 7001):7001" -- true 2>"$work/err2"
[ $? = 125 ] || fail "a port in use was taken"
grep -q 'Address already in use' "$work/err2" || fail "it was not told: $(cat "$work/err2")"

# With the run, all is gone.
last=$(port 7001)
kill -TERM "$pid"
wait "$pid"
! (: <>"/dev/tcp/127.0.0.1/$last") 2>/dev/null || fail "the port is there still"
