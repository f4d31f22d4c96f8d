#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A thread that is preempted after a short slice: its block begins when it leaves the CPU, not when it came. The
# kernel's own event log (tracefs) says when that was.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

if ! chrt -f 10 true 2>/dev/null; then
	skip "blocks of who is preempted, against tracefs" "no realtime priority here"
	finish
fi
if ! open_log 4096; then
	skip "blocks of who is preempted, against tracefs" "tracefs gives no instance of its own"
	finish
fi
CPU=$(awk '/^cpu[0-9]/ {n = substr($1, 4)} END {print n}' /proc/stat)
spawn taskset -c "$CPU" bash -c 'while :; do :; done'
# The log first: what hangs on an event runs in the order in which it came, and the time in the log would be that after the
# recorder's program, which at this thread's end of a slice records the block of who takes its place.
log_events "sched/sched_switch:prev_pid == $SPAWNED || next_pid == $SPAWNED"
start_agent --post 0s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
# Above all that shares the CPU, below who takes it.
chrt -f -p 5 "$SPAWNED"
echo >"$LOG/trace"
# On the CPU for 0.4 ms, after 0.7 ms without: neither is 1 ms, together they are.
ok "somebody takes its CPU again and again" taskset -c "$CPU" chrt -f 10 python3 -c '
import time
for i in range(1500):
    time.sleep(0.0007)
    end = time.monotonic() + 0.0004
    while time.monotonic() < end:
        pass
'
kill "$SPAWNED"
stop_log
ok "a freeze gives a bundle" freeze
is "tracefs lost nothing" "$(log_lost)" 0
events --kind off-cpu --tid "$SPAWNED" --no-stacks "$BUNDLE" | jq -r '"\(.ts_ns) \(.duration_ns) \(.state)"' >"$TEST_TMP/blocks"
read -r look blocks longer < <(python3 - "$SPAWNED" "$LOG/trace" "$TEST_TMP/blocks" <<'PY'
import bisect, re, sys
tid, out, came, look, away = sys.argv[1], None, None, 0, []
line = re.compile(r" ([0-9]+\.[0-9]+): sched_switch: .* prev_pid=([0-9]+) .* next_pid=([0-9]+) ")
for text in open(sys.argv[2], errors="replace"):
    m = line.search(text)
    if not m:
        continue
    at = float(m[1])
    if m[2] == tid:
        out, short = at, came is not None and at - came < 0.0009
    elif out is not None:
        away.append((at, at - out))
        look += short and at - out < 0.0009 and at - came > 0.0011
        came, out = at, None
away.sort()
blocks = longer = 0
for text in open(sys.argv[3]):
    ts, duration = (float(x) / 1e9 for x in text.split()[:2])
    i = bisect.bisect(away, (ts,))
    near = min(away[max(i - 1, 0):i + 1], key=lambda a: abs(a[0] - ts), default=None)
    if near and abs(near[0] - ts) < 0.0005:
        blocks += 1
        longer += duration > near[1] + 0.0001
print(look, blocks, longer)
PY
)
echo "# $look look like a block from the last switch-in; $blocks blocks recorded, $longer of them longer than in the log"
between "many were away for less than 1 ms, and came more than 1 ms before they were back" "$look" 100 1500
# A hypervisor may take the CPU away between one clock reading and the other.
between "no block is recorded as longer than it was" "$longer" 0 $((look / 20))
finish
