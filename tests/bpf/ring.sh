#!/usr/bin/env bash
# Recorded + lost = produced: a storm of sleeps that goes beyond the budget of short blocks. What is in the ring and
# what is counted as lost add up to no fewer blocks than were made, and to no more than the kernel's own event log
# (tracefs) has; every record is whole and in its place while the banks turn over.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

TRACE=/sys/kernel/tracing
LOG=$TRACE/instances/stallbox-ring-$$
[ -d $TRACE/events ] || mount -t tracefs tracefs $TRACE 2>/dev/null
extra_cleanup() { [ ! -d "$LOG" ] || rmdir "$LOG"; }
if ! mkdir "$LOG" 2>/dev/null; then
	skip "blocks against tracefs" "tracefs gives no instance of its own"
	finish
fi
THREADS=48 SLEEPS=200
MEMORY=8M start_agent --post 200ms --cooldown 300ms --trigger 'kernel:runq>30ms' || { fail "agent starts"; finish; }
echo mono >"$LOG/trace_clock"
echo 32768 >"$LOG/buffer_size_kb"
echo 1 >"$LOG/events/sched/sched_switch/enable"
# A thread's first switch-in has no switch-out in the log: begin well before.
ok "there are switches" wait_for 30 grep -q sched_switch: "$LOG/trace"
sleep 0.5
"$BUILD/tests/helpers/ringcheck" "$PINS" >"$TEST_TMP/ring.json" 2>"$TEST_TMP/ring.err" &
FOLLOWER=$!
TEST_PIDS+=("$FOLLOWER")
ok "somebody reads the rings" wait_for 30 grep -q following "$TEST_TMP/ring.err"
"$WORKLOADS/sleeper" $SLEEPS 2 $THREADS >/dev/null
kill "$FOLLOWER"
wait "$FOLLOWER"
is "every record is whole, in its place, and none is missing" $? 0
echo 0 >"$LOG/tracing_on"
echo "# $(cat "$TEST_TMP/ring.json")"
is "tracefs lost nothing" "$(cat "$LOG"/per_cpu/cpu*/stats | awk '/^overrun:|^dropped events:/ {n += $NF} END {print n + 0}')" 0
read -r recorded throttled <<<"$(jq -r '"\(.new[2]) \(.lost[0])"' "$TEST_TMP/ring.json")"
# From when a thread leaves a CPU to when one takes it on again. Two clocks: half of the threshold is left for the
# difference, and what was out before the log began may have been away for any time.
most=$(python3 - "$LOG/trace" <<'PY'
import re, sys
out, n = {}, 0
line = re.compile(r" ([0-9]+\.[0-9]+): sched_switch: .*prev_pid=([0-9]+) .*next_pid=([0-9]+) ")
for text in open(sys.argv[1], errors="replace"):
    m = line.search(text)
    if not m:
        continue
    at, prev, nxt = float(m[1]), m[2], m[3]
    out[prev] = at
    if nxt != "0" and at - out.get(nxt, 0) >= 0.0005:
        n += 1
print(n)
PY
)
echo "# $recorded recorded, $throttled over the budget, $most in the log of the kernel"
between "the budget was exceeded" "$throttled" 1 1000000000
between "recorded and lost are all that were made, and no more than the kernel logged" $((recorded + throttled)) $((THREADS * SLEEPS)) "$most"
finish
