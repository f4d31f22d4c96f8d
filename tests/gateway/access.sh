#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Who may ask the gateway for what: tokens and scopes, TLS, hosts, what it refuses to start with, a socket of systemd's.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/gateway/lib.sh
. "$(dirname "$0")/lib.sh"

NAME=host-20261120T233350Z-manual.stall.pb.zst
cp "$ROOT/tests/golden/v1.0/synthetic.stall.pb.zst" "$CAPTURES/$NAME"
start_stub
READ=$(token "$TEST_TMP/read.token")
FREEZE=$(token "$TEST_TMP/freeze.token")
BOTH=$(token "$TEST_TMP/both.token")
TOKENS=(--token-file "read:$TEST_TMP/read.token" --token-file "freeze:$TEST_TMP/freeze.token"
	--token-file "read:$TEST_TMP/both.token" --token-file "freeze:$TEST_TMP/both.token")

# ---- tokens ----------------------------------------------------------------------------
start_gateway "${TOKENS[@]}" || exit 1
# matrix WHO OPTIONS...: the statuses of all pages; POSTs have a body that is none, so that nothing is frozen.
PAGES=(/-/healthy / /metrics /api/v1/captures "/api/v1/captures/$NAME" "/api/v1/captures/$NAME/html")
matrix() {
	local p got=()
	for p in "${PAGES[@]}"; do got+=("$(status "${@:2}" "$p")"); done
	for p in /api/v1/freeze /api/v1/webhook/alertmanager; do got+=("$(status "${@:2}" -d x "$p")"); done
	echo "${got[*]}"
}
bearer() { matrix "$1" -H "Authorization: Bearer $1"; }
# Metrics need no token on this machine.     healthy page metrics list file html freeze webhook
is "no token"          "$(matrix none)"      "200 401 200 401 401 401 401 401"
is "an unknown token"  "$(bearer "${READ%?}x")" "200 401 200 401 401 401 401 401"
is "an empty token"    "$(bearer '')"        "200 401 200 401 401 401 401 401"
is "half a token"      "$(bearer "${READ:0:32}")" "200 401 200 401 401 401 401 401"
is "more than a token" "$(bearer "${READ}0")" "200 401 200 401 401 401 401 401"
is "scope read"        "$(bearer "$READ")"   "200 200 200 200 200 200 403 403"
is "scope freeze"      "$(bearer "$FREEZE")" "200 403 200 403 403 403 400 400"
is "both scopes"       "$(bearer "$BOTH")"   "200 200 200 200 200 200 400 400"
is "two Authorizations" "$(status -H "Authorization: Bearer $READ" -H "Authorization: Bearer $READ" /api/v1/captures)" 401
is "another scheme"    "$(status -H "Authorization: Digest $READ" /api/v1/captures)" 401
is "a token in the URL" "$(status "/api/v1/captures?access_token=$READ")" 401
is "a browser's password reads" "$(status -u "me:$READ" /)" 200
is "and does not freeze" "$(status -u "me:$BOTH" -d x /api/v1/freeze)" 401
like "a browser is asked for one" "$(header_of WWW-Authenticate /)" 'Bearer.*Basic'
is "nothing was frozen" "$(cat "$TEST_TMP/freezes" 2>/dev/null)" ""
is "no token is said" "$(grep -cE "$READ|$FREEZE|$BOTH" "$GATEWAY_LOG")" 0
# A page of elsewhere may not ask, and not read what it gets.
is "no other origin is let in" "$(header_of Access-Control-Allow-Origin -H 'Origin: http://evil.example' -H "Authorization: Bearer $READ" /metrics)" ""
is "localhost is a name of it" "$(status -H 'Host: localhost:1' /-/healthy)" 200
is "so is its host's" "$(status -H "Host: $(hostname)" /-/healthy)" 200
is "another is not" "$(status -H 'Host: stallbox.example' /-/healthy)" 421
stop_gateway
start_gateway --allowed-hosts stallbox.example || exit 1
is "but where it is allowed" "$(status -H 'Host: Stallbox.Example:80' /-/healthy)" 200
is "where there is no token, nobody reads bundles" "$(matrix none)" "200 403 200 403 403 403 403 403"
ok "of which it warns" grep -q 'nobody can read bundles' "$GATEWAY_LOG"
like "and the start page says how to make one" "$(header_of Content-Type /) $(get /)" 'text/html.*openssl rand.*TokenFile=read:'
like "so does everything else" "$(get /api/v1/captures | jq -r .error)" 'openssl rand.*TokenFile=read:PATH'
stop_gateway
start_gateway --anonymous read "${TOKENS[@]}" || exit 1
is "unless it is allowed by name: this machine reads" "$(matrix none)" "200 200 200 200 200 200 401 401"
ok "of which it warns, too" grep -q 'every local user' "$GATEWAY_LOG"
stop_gateway

# refuses WHAT STATUS WORDS OPTIONS...
refuses() {
	timeout 20 "$BUILD/stallbox-gateway" --config /dev/null --spool "$CAPTURES" --socket "$STUB_SOCKET" "${@:4}" >"$TEST_TMP/out" 2>&1
	is "$1: exit status" $? "$2"
	like "$1: says why" "$(cat "$TEST_TMP/out")" "$3"
}

# ---- TLS -------------------------------------------------------------------------------
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
	-addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$TEST_TMP/key.pem" -out "$TEST_TMP/cert.pem" 2>/dev/null
chmod 600 "$TEST_TMP/key.pem"
TLS=(--tls-certificate "$TEST_TMP/cert.pem" --tls-key "$TEST_TMP/key.pem")
start_gateway "${TLS[@]}" "${TOKENS[@]}" || exit 1
URL=https://127.0.0.1:$PORT
is "over TLS" "$(status --cacert "$TEST_TMP/cert.pem" -H "Authorization: Bearer $READ" /metrics)" 200
get --cacert "$TEST_TMP/cert.pem" -H "Authorization: Bearer $READ" "/api/v1/captures/$NAME" >"$TEST_TMP/got"
ok "a bundle over TLS is sent as it is" cmp "$TEST_TMP/got" "$CAPTURES/$NAME"
is "no HTTP without TLS there" "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/-/healthy")" 000
# s_client with everything it can do: what it is refused is refused by the server.
shake() { openssl s_client -connect "127.0.0.1:$PORT" -CAfile "$TEST_TMP/cert.pem" -cipher 'ALL:@SECLEVEL=0' "$@" </dev/null 2>&1; }
for v in tls1_2 tls1_3; do like "$v is spoken" "$(shake -"$v")" 'Verify return code: 0'; done
for v in tls1 tls1_1; do
	# The client has said its hello, and there is no more to it.
	like "$v is not" "$(shake -"$v")" 'written [1-9][0-9]+ bytes.*Cipher is \(NONE\)'
done
weak() { openssl s_client -connect "127.0.0.1:$PORT" -tls1_2 -cipher "$1:@SECLEVEL=0" </dev/null 2>&1 | grep -o 'Cipher is (NONE)'; }
is "no cipher without encryption" "$(weak eNULL)" "Cipher is (NONE)"
is "no anonymous cipher" "$(weak aNULL)" "Cipher is (NONE)"
refuses "a port in use" 1 'cannot listen on' --listen "127.0.0.1:$PORT"
stop_gateway
# An address that counts as one that others can reach; they cannot.
PORT=$(free_ports 1)
: >"$GATEWAY_LOG"
spawn "$BUILD/stallbox-gateway" --config /dev/null --listen "[::ffff:127.0.0.1]:$PORT" --spool "$CAPTURES" --socket "$STUB_SOCKET" \
	--max-connections 48 "${TLS[@]}" "${TOKENS[@]}" 2>"$GATEWAY_LOG"
wait_for 20 grep -q 'listening on' "$GATEWAY_LOG"
URL=https://127.0.0.1:$PORT
is "from elsewhere metrics need a token" "$(matrix none -k)" "200 401 401 401 401 401 401 401"
is "which it takes" "$(status -k -H "Authorization: Bearer $READ" /metrics)" 200
held() { python3 - "$PORT" <<'PY'
import socket, ssl, sys
context = ssl._create_unverified_context()
held = []
for i in range(20):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    try:
        held.append(context.wrap_socket(s))
    except OSError:
        pass
print(len(held))
PY
}
is "from one address there an eighth of all connections is served" "$(held)" 6
kill "$SPAWNED" && wait "$SPAWNED"
refuses "Anonymous=read where others can ask" 78 'refusing Anonymous=read.*hint:' --listen "[::ffff:127.0.0.1]:$PORT" --anonymous read "${TLS[@]}" "${TOKENS[@]}"

# ---- what it does not start with -------------------------------------------------------
P=$(free_ports 1)
refuses "all addresses without TLS" 78 'without TLS.*hint:' --listen "0.0.0.0:$P" "${TOKENS[@]}"
refuses "all IPv6 addresses without TLS" 78 'without TLS' --listen "[::]:$P" "${TOKENS[@]}"
refuses "all addresses without a token" 78 'without a token.*hint:' --listen "0.0.0.0:$P" "${TLS[@]}"
refuses "a certificate without a key" 78 'need each other' --listen "127.0.0.1:$P" --tls-certificate "$TEST_TMP/cert.pem"
refuses "a key that is no key" 78 'cannot use the certificate' --listen "127.0.0.1:$P" --tls-certificate "$TEST_TMP/cert.pem" --tls-key "$TEST_TMP/read.token"
refuses "an address that is none" 2 'listen' --listen "localhost:$P"
chmod 640 "$TEST_TMP/key.pem"
refuses "a key that others may read" 78 'mode 0640' --listen "127.0.0.1:$P" "${TLS[@]}"
chmod 644 "$TEST_TMP/read.token"
refuses "a token that others may read" 78 'mode 0644.*hint: chmod 0600' --listen "127.0.0.1:$P" "${TOKENS[@]}"
echo short >"$TEST_TMP/freeze.token"
refuses "a short token" 78 '16 to 512' --listen "127.0.0.1:$P" --token-file "freeze:$TEST_TMP/freeze.token"
refuses "a token that is not there" 78 'No such file' --listen "127.0.0.1:$P" --token-file "freeze:$TEST_TMP/none"
refuses "an unknown scope" 2 'read:PATH or freeze:PATH' --listen "127.0.0.1:$P" --token-file "write:$TEST_TMP/both.token"
refuses "an unknown option" 2 "try 'stallbox-gateway --help'" --liste x
is "its help fits a terminal" "$("$BUILD/stallbox-gateway" --help | awk 'length > 80' | wc -l)" 0

# ---- a socket of systemd's -------------------------------------------------------------
PORT=$(free_ports 1)
URL=http://127.0.0.1:$PORT
cat >"$TEST_TMP/activate.py" <<'PY'
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)  # it may have been 3 before
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[3], sys.argv[3:])
PY
: >"$GATEWAY_LOG"
spawn python3 "$TEST_TMP/activate.py" 127.0.0.1 "$PORT" "$BUILD/stallbox-gateway" --config /dev/null --spool "$CAPTURES" --socket "$STUB_SOCKET" 2>"$GATEWAY_LOG"
ok "it takes the socket that it is given" wait_for 20 grep -q "listening on 127.0.0.1:$PORT" "$GATEWAY_LOG"
is "and answers on it" "$(status /-/healthy)" 200
python3 "$TEST_TMP/activate.py" 0.0.0.0 "$(free_ports 1)" "$BUILD/stallbox-gateway" --config /dev/null --spool "$CAPTURES" 2>"$TEST_TMP/out"
is "one that others can reach needs TLS, too" "$? $(grep -c 'without TLS' "$TEST_TMP/out")" "78 1"
finish
