#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Known truth: counted events are caused, and exactly that number must be in the bundle.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

start_agent --post 1s || { fail "agent starts"; finish; }
pass "agent starts"

# 23 sleeps of 50 ms from one call chain.
WL_LINGER=1 "$WORKLOADS/sleeper" 23 50 >"$TEST_TMP/sleeper.out" &
TEST_PIDS+=($!)
wait_for 30 test -s "$TEST_TMP/sleeper.out"
tid=$(grep -oE '\btids?=[0-9]+' "$TEST_TMP/sleeper.out" | head -n 1 | grep -oE '[0-9]+')
# 2 s of CPU time in user mode, sampled at 99 Hz. On one CPU, because each has a
# sampler of its own, and ahead of others. The kernel's own event log (tracefs) says when it was on it.
open_log && log_events 'sched/sched_switch:prev_comm == "spinner" || next_comm == "spinner"'
WL_LINGER=1 nice -n -20 taskset -c $(($(nproc) - 1)) "$WORKLOADS/spinner" 2 >"$TEST_TMP/spinner.out" &
spin_pid=$!
TEST_PIDS+=("$spin_pid")
wait_for 60 test -s "$TEST_TMP/spinner.out"
life=$(cut -d' ' -f1 "/proc/$spin_pid/schedstat")
# 17 threads blocked for ever.
"$WORKLOADS/blocker" 17 futex >"$TEST_TMP/blocker.out" &
block_pid=$!
TEST_PIDS+=("$block_pid")
wait_for 20 grep -q ready "$TEST_TMP/blocker.out"

ok "a freeze gives a bundle" freeze "known truth"

events --kind off-cpu --tid "$tid" "$BUNDLE" >"$TEST_TMP/sleeper.json"
# How long each was off its CPU is not known: it may stand still between arming the timer and leaving it.
jq -c 'select(.state == "S" and (.kstack | join(";") | test("nanosleep")))' "$TEST_TMP/sleeper.json" >"$TEST_TMP/sleeps.json"
n=$(wc -l <"$TEST_TMP/sleeps.json")
are_sleeps "23 sleeps of 50 ms are 23 off-CPU records in state S" "$n" 23
# A stack that was not saved is counted. One that was is whole, by frame pointers while the program is not known yet.
saved=$(jq -s '[.[] | select(.ustack | length > 0)] | length' "$TEST_TMP/sleeps.json")
unsaved=$("$STALLBOX" info --json "$BUNDLE" | jq '[.losses[] | select(.what == "user stacks not saved when the block began") | .count] | add // 0')
between "those whose user stack is not there are counted as that" $((n - saved)) 0 $((unsaved < n / 2 ? unsaved : n / 2))
chain=$(jq -r '.ustack | join(";")' "$TEST_TMP/sleeps.json" | grep -c 'chain_inner;chain_middle;chain_outer')
is "each user stack has the call chain" "$chain" "$saved"
between "and none slept longer than by its own clock (us, worst)" "$(jq -s 'map(.duration_ns) | max / 1000 | floor' "$TEST_TMP/sleeps.json")" 45000 \
	$(($(grep -m 1 -oE 'longest_ns=[0-9]+' "$TEST_TMP/sleeper.out" | cut -d= -f2) / 1000))

# Weighted: a sample that came late stands for its whole gap. The truth is the kernel's own time on the CPU, of the
# whole life of the process: nice, taskset and the start of the program are slow on an emulated CPU (0.2 to 0.8 s).
on_cpu=$(grep -m 1 -oE 'on_cpu_ns=[0-9]+' "$TEST_TMP/spinner.out" | grep -oE '[0-9]+')
echo "# on the CPU for $on_cpu ns spinning, $life ns in all"
ns=$(events --kind on-cpu --pid "$spin_pid" --no-stacks "$BUNDLE" | jq -s 'map(.duration_ns) | add')
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	between "its samples stand for its whole time on the CPU (ms)" $((ns / 1000000)) $((life * 9 / 10000000)) $((life * 11 / 10000000))
fi
# From its first sample in the function to its last one, and with those of whoever else was on that CPU: it was never idle.
# On some machines (tests/bpf/ring) the log has nothing that certain old tasks do.
if [ -n "$LOG" ]; then
	stop_log
	is "tracefs lost nothing" "$(log_lost)" 0
	events --kind on-cpu "$BUNDLE" | jq -r --argjson c $(($(nproc) - 1)) \
		'select(.cpu == $c) | "\(.ts_ns) \(.duration_ns) \(.tid) \(.ustack | index("spin_inner") != null)"' | sort -n >"$TEST_TMP/samples"
	read -r its others wrong unseen covered elapsed late < <(python3 - "$spin_pid" "$LOG/trace" "$TEST_TMP/samples" <<'PY'
import bisect, re, sys
tid = sys.argv[1]
line = re.compile(r" ([0-9]+\.[0-9]+): sched_switch: .* prev_pid=([0-9]+) .* next_pid=([0-9]+) ")
switches = [(round(float(m[1]) * 1e9), m[3] == tid) for m in map(line.search, open(sys.argv[2], errors="replace"))
            if m and tid in (m[2], m[3])]
samples = [(int(s[0]), int(s[1]), s[2] == tid, s[3]) for s in map(str.split, open(sys.argv[3]))]
inside = [i for i, s in enumerate(samples) if s[2] and s[3] == "true"]
window = samples[inside[0]:inside[-1] + 1]
its = others = wrong = unseen = 0
for ts, _, mine, _ in window:
    i = bisect.bisect(switches, (ts + 1000,)) - 1
    # Stamps are in microseconds: which came first within two of them is not known.
    if min((abs(at - ts) for at, _ in switches[max(i - 1, 0):i + 2]), default=2001) <= 2000:
        continue
    on = i < 0 or switches[i][1]  # it is in the function when the window begins
    its, others = its + mine, others + (not mine)
    # It left twice, or came twice, says the log: what was between it has not.
    if i + 1 < len(switches) and switches[i + 1][1] == on:
        unseen += mine != on
    else:
        wrong += mine != on
# A late one stands for its whole gap, and the early one behind it for a period.
late = sum(max(s[1] - 1e9 / 99, 0) for s in window[1:])
print(its, others, wrong, unseen, sum(s[1] for s in window[1:]), window[-1][0] - window[0][0], round(late))
PY
	)
	echo "# $its samples of it and $others of others on its CPU, which stand for $covered of $elapsed ns, $late twice; $unseen of a thread that the log did not see come or go"
	between "2 s of spinning are samples of a CPU that is never idle" "$its" 100 250
	is "each is of whom the kernel's log has on that CPU" "$wrong" 0
	# Many are late on an emulated CPU: its time is held against its life above.
	[ -n "${STALLBOX_IN_VM:-}" ] ||
		between "and they stand for all of the time, ms, to half a period at each end" $((covered / 1000000)) $((elapsed / 1000000 - 10)) $(((elapsed + late) / 1000000 + 10))
else
	skip "each sample against tracefs" "tracefs gives no instance of its own"
fi
# In time, not in samples: an emulated CPU takes fewer, and each says for how long it stands.
spin_ns=$(events --kind on-cpu --pid "$spin_pid" "$BUNDLE" |
	jq -s 'map(select(.ustack | index("spin_inner")) | .duration_ns) | add // 0')
between "and its time shows the spinning function (ms)" $((spin_ns / 1000000)) $((on_cpu * 9 / 10000000)) $((on_cpu * 11 / 10000000))
shot=$("$STALLBOX" fold --kind blocked --pid "$block_pid" "$BUNDLE" | grep futex | awk '{n += $NF} END {print n + 0}')
between "17 blocked threads are in the stackshot" "$shot" 17 18
kill "$block_pid"
wait "$block_pid" 2>/dev/null

ok "the bundle is whole" "$STALLBOX" verify "$BUNDLE"
is "no ring memory was unreadable" "$("$STALLBOX" info --json "$BUNDLE" | jq '[.losses[] | select(.cause == "torn")] | length')" 0
is "the trigger is in the bundle" "$("$STALLBOX" info --json "$BUNDLE" | jq -r '.trigger.kind + " " + .trigger.detail')" "manual known truth"
finish
