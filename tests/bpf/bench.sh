#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# make bench in its short form: the tables and the picture come out, each row with an interval. Nothing is said of
# the numbers: this machine may be as loaded as it likes.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP root is needed to load BPF programs"; exit 77; }
[ -z "${STALLBOX_IN_VM:-}" ] || { echo "1..0 # SKIP costs of an emulated CPU say nothing"; exit 77; }
for c in perf jq python3 bpftool; do
	command -v $c >/dev/null || { echo "1..0 # SKIP $c is not installed"; exit 77; }
done
md=$TEST_TMP/r.md svg=$TEST_TMP/r.svg raw=$TEST_TMP/raw
if TMPDIR=$TEST_TMP BENCH=short RESULTS=$md CHART=$svg RAW=$raw tests/bench/run >"$TEST_TMP/out" 2>"$TEST_TMP/err"; then
	pass "the short form of make bench ends"
else
	fail "the short form of make bench ends" "$(tail -n 5 "$TEST_TMP/err")"
	finish
fi
like "the machine is described" "$(cat "$md")" "$(nproc) CPUs .*$(uname -r).*Load average before .* others used .* % of the CPUs .*stolen by the hypervisor"
interval='-?[0-9.]+ to (-?[0-9.]+|without limit)'
like "a load has its interval" "$(grep 'sched messaging' "$md")" "\| 7 \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \| $interval \| 1.02 \|"
like "what a switch costs too" "$(grep '^| stallbox |' "$md")" "\| 7 \| -?[0-9.]+ \| $interval \|"
like "and with perf, how many times that" "$(grep '^| .perf record' "$md")" "\| 7 \| -?[0-9.]+ \| $interval \| ([0-9.]+|without limit) \| $interval \|"
like "a load has it with other tools, too" "$(grep 'sched messaging' "$md" | tail -n 1)" "messaging. \| [0-9.]+ \| $interval \| [0-9.]+ \| $interval \| ([0-9.]+ \| $interval|not measured: libbpf-tools.*) \|"
like "history has, in seconds and beside perf" "$(grep 'asleep 11 ms' "$md")" "\| 6 \| [0-9]+ \| $interval \|.*\| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \| $interval \|"
like "wakeups have" "$(grep '^| wakeups' "$md")" "\| $interval \|"
like "and how many windows were no idle host's is said" "$(grep '^| wakeups' "$md")" '; 6 windows, [0-9]+ others thrown away'
is "in the raw file, too" "$(grep -cE '^count.idle_(thrown|not).[0-9]+$' "$raw")" 2
like "memory is counted" "$(grep '^| RSS' "$md")" '\| [0-9]+\.[0-9] \| counted \|'
if command -v valgrind >/dev/null; then
	is "instructions of writer, reader and fold are counted" "$(grep -cE '^\| instructions an event: .* \| [1-9][0-9]* \| counted' "$md")" 3
else
	like "instructions are said to be missing" "$(cat "$md")" 'not measured: valgrind is not installed'
fi
like "what was left out is said" "$(grep 'pgbench' "$md")" 'not measured: left out'
is "every phase is kept: seven without and seven with" "$(grep -cE '^value.messaging.(none|stallbox).[1-7].[0-9.]+$' "$raw")" 14
like "both sides of the control have theirs, and CPU time" "$(grep 'sched messaging' "$md")" "1.02 \|[^|]*\| [0-9.]+ \| $interval \| [0-9.]+ \| $interval \|"
if command -v xmllint >/dev/null; then
	ok "the picture is well-formed" xmllint --noout "$svg"
	is "with a bar for each interval" "$(($(grep -c '" class="\(us\|them\) bar"' "$svg") >= 4))" 1
else
	skip "the picture" "xmllint is not installed"
fi
is "no process of it is left" "$(pgrep -fc "$TEST_TMP/stallbox-bench")" 0
is "nor anything mounted" "$(grep -c "$TEST_TMP" /proc/mounts)" 0
finish
