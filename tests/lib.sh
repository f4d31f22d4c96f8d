# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Helpers of the shell tests: TAP on standard output, one line per check.
#
#   . "$(dirname "$0")/../lib.sh"
#   ok "what" [ "$a" = "$b" ]      runs the command, reports by its status
#   is "what" GOT EXPECTED         compares two strings
#   between "what" VALUE LOW HIGH  integers, both ends included
#   skip "what" "which feature is missing"
#   wait_for SECONDS COMMAND...    polls a condition, fails when time is up
# A test ends with: finish. Then test_release(), what was spawned is ended, test_cleanup(), where a test has them.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$ROOT/build}
# shellcheck disable=SC2034 # used by the tests that source this
{
	STALLBOX=$BUILD/stallbox
	STALLBOXD=$BUILD/stallboxd
	WORKLOADS=$BUILD/tests/workloads
}
TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/stallbox-test.XXXXXX")
TEST_N=0
TEST_FAILED=0
TEST_PIDS=()
export LC_ALL=C PATH=$PATH:$ROOT/build/tools/usr/bin # tests/install-deps unpacks there

# ends_within SECONDS PID: one of our own children. It is still to be waited for. The shell takes note of its end at any
# time, and its number goes to somebody else's process: that is none of ours to end.
_ended() { # by the shell alone: awk is an alternative in /etc, and cli/names has an /etc of its own
	local status
	{ status=$(<"/proc/$1/status"); } 2>/dev/null # in one piece: line by line it is another file each time
	[[ $status != *$'\nPPid:\t'"$$"$'\n'* || $status == *$'\nState:\t'[ZX]* ]]
}
ends_within() {
	wait_for "$1" _ended "$2"
}
_cleanup() {
	local p
	# Whoever stands in a frozen file system cannot be killed: the test thaws it first.
	if declare -F test_release >/dev/null; then test_release || true; fi
	for p in "${TEST_PIDS[@]}"; do
		[ "$p" = "${AGENT:-}" ] || _ended "$p" || kill "$p" 2>/dev/null || true # the agent: stop_agent()
	done
	for p in "${TEST_PIDS[@]}"; do
		[ "$p" != "${AGENT:-}" ] || continue
		# bpftrace was seen to outlive a SIGTERM, asleep, and a whole machine to wait for it.
		if ! ends_within 30 "$p"; then
			echo "# $(cat "/proc/$p/comm") did not end when it was asked to; it is killed"
			kill -KILL "$p" 2>/dev/null
		fi
		wait "$p" 2>/dev/null || true
	done
	if declare -F test_cleanup >/dev/null; then test_cleanup || true; fi
	rm -rf "$TEST_TMP"
}
trap _cleanup EXIT

pass() {
	TEST_N=$((TEST_N + 1))
	echo "ok $TEST_N - $1"
}
fail() {
	TEST_N=$((TEST_N + 1))
	TEST_FAILED=$((TEST_FAILED + 1))
	echo "not ok $TEST_N - $1"
	shift
	local line
	for line in "$@"; do printf '%s\n' "$line" | sed 's/^/# /'; done
}
skip() {
	TEST_N=$((TEST_N + 1))
	echo "ok $TEST_N - $1 # SKIP $2"
}
ok() {
	local what=$1
	shift
	if "$@" >"$TEST_TMP/.ok.out" 2>&1; then
		pass "$what"
	else
		fail "$what" "failed: $*" "$(tail -n 20 "$TEST_TMP/.ok.out")"
	fi
}
is() {
	if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "got:      $2" "expected: $3"; fi
}
between() {
	if [[ $2 =~ ^-?[0-9]+$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; then
		pass "$1 ($2; $3 to $4)"
	else
		fail "$1" "got $2, expected $3 to $4"
	fi
}
like() {
	if grep -qE -- "$3" <<<"${2//$'\n'/ }"; then pass "$1"; else fail "$1" "got: $2" "expected to match: $3"; fi
}
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
# capabilities SET PID: Prm, Eff, Bnd ... of a process, in hexadecimal without zeros in front; in words when it is not there.
capabilities() {
	local line
	line=$(grep "^Cap$1:" "/proc/${2:-none}/status" 2>/dev/null) && printf '%x' "$((16#${line##*[[:space:]]}))" || echo "no process"
}
# free_ports N: TCP ports of this machine that nobody uses, and that no connection is given. Asked for at once they differ.
free_ports() {
	python3 -c '
import random, socket, sys
low, high = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())
held = []
while len(held) < int(sys.argv[1]):
    port, s = random.choice([p for p in range(10000, 65536) if not low <= p <= high]), socket.socket()
    try:
        s.bind(("", port))
        held.append((port, s))
    except OSError:
        pass
print(*[port for port, s in held])' "$1"
}
# Runs in the background and is ended, by pid, when the test ends.
spawn() {
	"$@" &
	SPAWNED=$!
	TEST_PIDS+=("$SPAWNED")
}
finish() {
	echo "1..$TEST_N"
	[ "$TEST_FAILED" = 0 ]
	exit
}
