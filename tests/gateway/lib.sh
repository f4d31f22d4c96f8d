# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the tests that source this
# A gateway of the test's own, and an agent for it that is no recorder. Sourced after tests/lib.sh.

GATEWAY_LOG=$TEST_TMP/gateway.log
CAPTURES=$TEST_TMP/captures
STUB_SOCKET=$TEST_TMP/control.sock
HERE=$ROOT/tests/gateway
mkdir -p "$CAPTURES" "$TEST_TMP/fallback"

# start_stub: answers on $STUB_SOCKET as stallboxd does; notes freezes in $TEST_TMP/freezes. "mode" in $TEST_TMP/mode:
# recording (the default), still (no record is added), cooldown.
start_stub() {
	spawn python3 "$HERE/stub_agent.py" "$STUB_SOCKET" "$TEST_TMP"
	export STUB=$SPAWNED
	wait_for 10 test -S "$STUB_SOCKET"
}

# start_gateway [OPTIONS]: on $PORT; sets $URL. Another one may have been faster to take the port.
start_gateway() {
	local try
	for try in 1 2 3; do
		_start_gateway "$@" && return
		grep -q 'cannot listen' "$GATEWAY_LOG" || break
	done
	sed 's/^/# /' "$GATEWAY_LOG"
	return 1
}
_gateway_speaks() { grep -qE 'listening on|cannot listen' "$GATEWAY_LOG"; }
_start_gateway() {
	PORT=$(free_ports 1)
	URL=http://127.0.0.1:$PORT
	: >"$GATEWAY_LOG"
	"$BUILD/stallbox-gateway" --config /dev/null --listen "127.0.0.1:$PORT" --spool "$CAPTURES" --fallback "$TEST_TMP/fallback" \
		--socket "$STUB_SOCKET" --renderer "$STALLBOX" "$@" 2>>"$GATEWAY_LOG" &
	GATEWAY=$!
	TEST_PIDS+=("$GATEWAY")
	wait_for 20 _gateway_speaks
	grep -q 'listening on' "$GATEWAY_LOG"
}
stop_gateway() {
	kill "$GATEWAY" && wait "$GATEWAY"
	export GATEWAY_STATUS=$?
}

# status [CURL OPTIONS] PATH: of the answer.
status() { curl -s -o /dev/null -w '%{http_code}' --max-time 30 "${@:1:$#-1}" "$URL${!#}"; }
get() { curl -s --max-time 30 "${@:1:$#-1}" "$URL${!#}"; }
# header NAME [CURL OPTIONS] PATH
header_of() {
	curl -s -D - -o /dev/null --max-time 30 "${@:2:$#-2}" "$URL${!#}" | tr -d '\r' | sed -n "s/^$1: //Ip"
}
metric() { get /metrics | sed -n "s/^$1 //p"; }
rss_kib() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$GATEWAY/status"; }

# token FILE: makes one, prints it.
token() {
	(umask 077 && openssl rand -hex 32 >"$1")
	cat "$1"
}
