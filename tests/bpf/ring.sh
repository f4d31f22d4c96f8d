#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Recorded + lost = produced: storms of sleeps that go beyond the budgets of short and of longer blocks. What is in the ring and
# what is counted as lost add up to no fewer blocks than the kernel's own event log (tracefs) has of the sleepers, and
# to no more than it has of all; every record is whole and in its place while the banks turn over.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

if ! open_log; then
	skip "blocks against tracefs" "tracefs gives no instance of its own"
	finish
fi
THREADS=48 SLEEPS=200 LONG_THREADS=$((100 * $(nproc))) LONG_SLEEPS=50 SPINNERS=()
ALL=$((THREADS * SLEEPS + LONG_THREADS * LONG_SLEEPS))
# On some machines (a guest with 6.18) the log has nothing that certain old tasks do, the idle tasks of all CPUs but the
# first among them, though perf has it. So no CPU is idle.
mapfile -t ONLINE < <(awk '/^cpu[0-9]/ {print substr($1, 4)}' /proc/stat)
for c in "${ONLINE[@]}"; do
	taskset -c "$c" chrt -i 0 bash -c 'while :; do :; done' &
	SPINNERS+=($!)
	TEST_PIDS+=($!)
done
spinning() { [ "$(ps -o cls= -p "$(IFS=,; echo "${SPINNERS[*]}")" | grep -c IDL)" = ${#ONLINE[@]} ]; }
ok "no CPU is idle" wait_for 30 spinning
# A thread's first switch-in has no switch-out in the log: begin well before.
log_events sched/sched_switch
MEMORY=8M start_agent --post 0s --cooldown 0s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
ok "somebody reads the rings" follow
{ "$WORKLOADS/sleeper" $SLEEPS 2 $THREADS; "$WORKLOADS/sleeper" $LONG_SLEEPS 12 $LONG_THREADS; } >/dev/null &
SLEEPER=$!
TEST_PIDS+=("$SLEEPER")
while kill -0 "$SLEEPER" 2>/dev/null; do "$STALLBOX" freeze --socket "$SOCKET" -r turn >/dev/null || break; done
wait "$SLEEPER"
kill "$FOLLOWER"
wait "$FOLLOWER"
is "every record is whole, in its place, and none is missing" $? 0
stop_log
# In their class they would take long to end on a busy machine.
for p in "${SPINNERS[@]}"; do chrt -o -p 0 "$p" && kill "$p"; done
echo "# $(cat "$TEST_TMP/ring.json")"
is "tracefs lost nothing" "$(log_lost)" 0
read -r recorded throttled over limited turns <<<"$(jq -r '"\(.new[2]) \(.lost[0]) \(.lost[15]) \(.lost[1] + .lost[12]) \(.generation)"' "$TEST_TMP/ring.json")"
# From when a thread leaves a CPU to when one takes it on again. Two clocks: half of the threshold of 1 ms is left for
# the difference. What was out before the log began may have been away for any time. Whoever leaves a CPU without being
# the last that came has taken it on unseen, at any time until then.
read -r unseen slept most < <(python3 - "$LOG/trace" <<'PY'
import re, sys
out, on, unseen, slept, most = {}, {}, 0, 0, 0
line = re.compile(r" \[([0-9]+)\] .* ([0-9]+\.[0-9]+): sched_switch: prev_comm=.* prev_pid=([0-9]+) .*prev_state=([^ ]+) "
                  r"==> next_comm=(.*) next_pid=([0-9]+) ")
for text in open(sys.argv[1], errors="replace"):
    m = line.search(text)
    if not m:
        if not text.startswith("#"):
            sys.exit("no switch: " + text)
        continue
    cpu, at, prev, state, comm, nxt = m[1], float(m[2]), m[3], m[4], m[5], m[6]
    if on.get(cpu, prev) != prev and prev != "0":
        unseen += 1
        most += at - out.get(prev, (0, ""))[0] >= 0.0005
    on[cpu] = nxt
    out[prev] = at, state
    if nxt == "0":
        continue
    since, state = out.get(nxt, (0, ""))
    most += at - since >= 0.0005
    slept += state == "S" and comm == "sleeper" and since > 0 and at - since >= 0.0015
print(unseen, slept, most)
PY
)
echo "# $recorded recorded, $throttled and $over over the budgets, $limited left out; in the log of the kernel $slept of the sleepers, $most in all, $unseen of them unseen"
between "it has the sleeps" "$slept" $((ALL * 9 / 10)) $((ALL + THREADS + LONG_THREADS))
between "the budget of short blocks was exceeded" "$throttled" 1 1000000000
between "and that of longer ones" "$over" 1 1000000000
between "the banks turned over meanwhile" "$turns" 2 1000000000
between "recorded and lost are all that were made, and no more than the kernel logged" $((recorded + throttled + over + limited)) "$slept" "$most"
finish
