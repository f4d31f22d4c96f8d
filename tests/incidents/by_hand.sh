#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Stalls for which no default trigger is: a CPU quota, a lock convoy, an exec storm, more threads than CPUs. A person freezes
# (make check-incidents LONG=1, two minutes).
#
# It proves: of each the rule that is made for it speaks first and names the process or cgroup; rates and counts are those
# that the workload, or the kernel for it, has counted.
. "$(dirname "$0")/lib.sh"

if [ -z "${LONG:-}" ]; then
	skip "stalls without a default trigger" "the long form: make check-incidents LONG=1"
	finish
fi
start_default || { fail "agent starts"; finish; }
# by_hand NAME COMMAND...: frozen when it has gone on for AFTER (9) s, and REPORT of the 4 s before that
by_hand() {
	local name=$1 pid since rc
	shift
	"$INCIDENT" "$@" >"$TEST_TMP/truth" 2>"$TEST_TMP/truth.err" &
	pid=$!
	TEST_PIDS+=("$pid")
	since=$SECONDS
	passed() { [ $((SECONDS - since)) -ge "${AFTER:-9}" ] || _ended "$pid"; }
	wait_for 60 passed
	ok "$name: a freeze gives a bundle" freeze "$name"
	wait "$pid"
	rc=$?
	[ $rc != 77 ] || { skip "$name: the verdict" "$(tail -n 1 "$TEST_TMP/truth.err")"; return 1; }
	REPORT=$("$STALLBOX" report --since -4s --until 0s --json "$BUNDLE" 2>/dev/null)
	pid=$(truth ^pid= pid)
	WHO="stallbox-worklo\\[$pid\\]"
	forget_bundles
}
speaks() { is "$1: $2 is the first cause" "$(jq -r '.causes[0].rule' <<<"$REPORT")" "$2"; }
# near WHAT VALUE TRUTH PERCENT
near() { between "$1: of what was counted, %" "$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%d\n", b ? 100 * a / b : 0 }')" $((100 - $4)) $((100 + $4)); }

# The recorder looks for cgroups every 30 s.
if AFTER=40 by_hand quota cpu_quota 57 30; then
	speaks quota cpu-throttle
	like "quota: the cgroup" "$(cause_of cpu-throttle)" "stallbox-quota\\.$(truth ^pid= pid) was kept from running"
fi
if by_hand convoy lock_convoy 26; then
	speaks convoy lock-convoy
	like "convoy: how many threads" "$(cause_of lock-convoy)" "of 1[4-6] threads waited for one rwsem,"
fi
if by_hand execs exec_storm 26; then
	speaks execs fork-storm
	like "execs: whose children" "$(cause_of fork-storm)" "$WHO"
	near "execs: the rate" "$(fact fork.rate)" "$(awk -v n="$(truth ^pid= processes)" -v t="$(truth ^pid= elapsed_ns)" 'BEGIN { print n / t * 1e9 }')" 25
fi
if by_hand runq runq 26; then
	speaks runq runq-saturation
	like "runq: who waits" "$(cause_of runq-saturation)" "$WHO"
	near "runq: how many wait" "$(fact runq.contested_waiting)" "$(($(truth ^pid= threads) - $(nproc)))" 15
fi
finish
