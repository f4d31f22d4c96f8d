#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Many clients, and slow ones on purpose. LONG=1 (make check-gateway): every attack for half a minute.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/gateway/lib.sh
. "$(dirname "$0")/lib.sh"

NAME=host-20261120T233350Z-manual.stall.pb.zst
head -c 40000000 /dev/urandom >"$CAPTURES/$NAME"
SECONDS_EACH=${LONG:+30}
SECONDS_EACH=${SECONDS_EACH:-6}
CLIENTS=200
start_stub

# ---- many ------------------------------------------------------------------------------
start_gateway --anonymous read --max-connections 256 || exit 1
crowd() { python3 "$HERE/crowd.py" "$PORT" "/api/v1/captures/$NAME" "$CAPTURES/$NAME" $CLIENTS; }
is "$CLIENTS downloads of ranges at a time" "$(crowd)" $CLIENTS
AFTER_ONE=$(rss_kib)
crowd >/dev/null
is "and a third time" "$(crowd)" $CLIENTS
between "in KiB: memory does not grow with requests" $(($(rss_kib) - AFTER_ONE)) -100000 2048
between "in KiB: 256 connections' memory is bounded" "$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$GATEWAY/status")" 1000 32768
# The hash is asked for by each of them and made once: 40 MB are read twice (with what is sent), not 600 times.
between "MB read for 600 requests of 200 kB and one hash" $(($(sed -n 's/^rchar: //p' "/proc/$GATEWAY/io") / 1000000)) 40 200
one_ip() { python3 - "$PORT" <<'PY'
import socket, sys
held = []
for i in range(100):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    held.append(s)
alive = 0
for s in held:
    try:
        s.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        alive += s.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        pass
print(alive)
PY
}
is "100 connections of one address of this machine are served" "$(one_ip)" 100
stop_gateway

# ---- a disk that hangs looks like this: downloads that do not end ----------------------
start_gateway --anonymous read --max-connections 8 || exit 1
cat >"$TEST_TMP/hold.py" <<'PY'
import socket, sys, time
held = []
for i in range(7):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % sys.argv[2].encode())
    held.append(s)
time.sleep(300)
PY
spawn python3 "$TEST_TMP/hold.py" "$PORT" "/api/v1/captures/$NAME"
# All from one address: it is that of every user of this machine, and of kubelet.
seven() { [ "$(metric 'stallbox_gateway_requests_total{route="capture",code="200"}')" = 7 ]; }
ok "seven of eight connections download" wait_for 30 seven
is "the last one does not" "$(status "/api/v1/captures/$NAME") $(status /api/v1/captures)" "503 503"
is "it is for metrics and health" "$(status /metrics) $(status /-/healthy)" "200 200"
kill "$SPAWNED"
free_again() { [ "$(status -r 0-0 "/api/v1/captures/$NAME")" = 206 ]; }
ok "and downloads, once they have ended" wait_for 30 free_again
# Connections that say nothing, more than there may be: they give way to those who ask.
cat >"$TEST_TMP/idle.py" <<'PY'
import socket, sys, time
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for i in range(40)]
print("held", flush=True)
time.sleep(300)
PY
spawn python3 "$TEST_TMP/idle.py" "$PORT" >"$TEST_TMP/idle.out"
wait_for 30 grep -q held "$TEST_TMP/idle.out"
answered() { [ "$(status /metrics)" = 200 ]; }
ok "beside 40 idle connections, once they have had a second, others are answered" wait_for 30 answered
is "all of them" "$(for path in /metrics /-/healthy /metrics /-/healthy; do echo "$(status $path)"; done | xargs)" "200 200 200 200"
# 24 that found no room for twice eight, or for which others gave way; and one to who asked first.
between "connections that gave way" "$(metric stallbox_gateway_displaced_connections_total)" 25 400
kill "$SPAWNED"
stop_gateway

# ---- slow ------------------------------------------------------------------------------
TOKEN=$(token "$TEST_TMP/freeze.token")
start_gateway --anonymous read --connection-timeout 2s --token-file "freeze:$TEST_TMP/freeze.token" || exit 1
# attack WHAT OPTIONS...: 100 connections, while somebody else asks from the same address.
attack() {
	local what=$1 asked=0 answered=0 busiest=0 now
	shift
	slowhttptest -c 100 -r 100 -l "$SECONDS_EACH" -p 3 "$@" >"$TEST_TMP/slow.out" 2>&1 &
	local slow=$!
	while kill -0 $slow 2>/dev/null; do
		asked=$((asked + 1))
		now=$(metric stallbox_gateway_connections)
		[ -z "$now" ] || answered=$((answered + 1))
		[ "${now:-0}" -le "$busiest" ] || busiest=$now
		sleep 0.1
	done
	wait $slow
	is "$what: others are answered" "$answered" "$asked"
	between "$what: so many connections at a time, twice MaxConnections=64 and those that are being ended at most" "$busiest" 5 160
}
expired() { metric stallbox_gateway_expired_connections_total; }
more_expired() { [ "$(expired)" -gt "$1" ]; }
attack "headers that never end" -H -i 1 -t GET -u "$URL/-/healthy" -x 10
ok "they are ended at their deadline" wait_for 30 more_expired 0
BEFORE=$(expired)
attack "bodies that never end" -B -i 1 -t POST -s 8192 -x 10 -u "$URL/api/v1/freeze" -f "text/plain"$'\r\n'"Authorization: Bearer $TOKEN"
ok "they are ended at their deadline, too" wait_for 30 more_expired "$BEFORE"
attack "answers that are not taken" -X -w 512 -y 1024 -n 5 -z 32 -k 3 -u "$URL/api/v1/captures/$NAME"
is "nothing was frozen" "$(cat "$TEST_TMP/freezes" 2>/dev/null)" ""
all_gone() { [ "$(metric stallbox_gateway_connections)" = 1 ]; }
ok "no connection stays" wait_for 60 all_gone
between "in KiB: memory after all of it" "$(rss_kib)" 1000 32768
finish
