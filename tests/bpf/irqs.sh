#!/usr/bin/env bash
# Softirqs and hardirqs in the escalated window: each one of a second, by vector and by number, as
# the kernel's own event log (tracefs) has them.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

DISK=${SCRATCH:-/var/tmp}
TRACE=/sys/kernel/tracing
LOG=$TRACE/instances/stallbox-test-$$
[ -d $TRACE/events ] || mount -t tracefs tracefs $TRACE 2>/dev/null
extra_cleanup() { [ ! -d "$LOG" ] || rmdir "$LOG"; }
if ! mkdir "$LOG" 2>/dev/null; then
	skip "interrupts against tracefs" "tracefs gives no instance of its own"
	finish
fi
MEMORY=64M start_agent --post 1s --escalate always --irq-threshold 1ns || { fail "agent starts"; finish; }
echo mono >"$LOG/trace_clock"
echo 32768 >"$LOG/buffer_size_kb"
echo 1 >"$LOG/events/irq/softirq_exit/enable"
echo 1 >"$LOG/events/irq/irq_handler_exit/enable"
enough() { [ "$(grep -c 'irq_handler_exit' "$LOG/trace")" -ge 50 ] && [ "$(grep -c 'softirq_exit' "$LOG/trace")" -ge 50 ]; }
more() { # interrupts of a disk
	dd if=/dev/zero of="$DISK/.stallbox-irqs" bs=1M count=16 oflag=direct conv=fsync 2>/dev/null || sync
	rm -f "$DISK/.stallbox-irqs"
	enough
}
ok "there are interrupts" wait_for 60 more
echo 0 >"$LOG/tracing_on"
ok "a freeze gives a bundle" freeze
is "tracefs lost nothing" "$(cat "$LOG"/per_cpu/cpu*/stats | awk '/^overrun:|^dropped events:/ {n += $NF} END {print n + 0}')" 0
# cpu, time in us, what. The CPU is in brackets, the time ends with a colon.
awk '/_exit:/ {
	for (i = 1; i <= NF; i++) if ($i ~ /^\[[0-9]+\]$/) break
	cpu = substr($i, 2, length($i) - 2) + 0; t = $(i + 2); sub(/:$/, "", t)
	what = /softirq_exit:/ ? "softirq " substr($0, match($0, /action=/) + 7, length($0)) : "irq "
	sub(/\].*/, "", what)
	if (/irq_handler_exit:/) { match($0, /irq=[0-9]+/); what = "irq " substr($0, RSTART + 4, RLENGTH - 4) }
	printf "%.0f %d %s\n", t * 1e6, cpu, what
}' "$LOG/trace" | sort -n >"$TEST_TMP/log"
first=$(head -n 1 "$TEST_TMP/log" | cut -d' ' -f1) last=$(tail -n 1 "$TEST_TMP/log" | cut -d' ' -f1)
events --kind softirq,hardirq --no-stacks "$BUNDLE" >"$TEST_TMP/ours"
# The two look at the clock one after the other.
jq -r --argjson a "$first" --argjson b "$last" 'select(.ts_ns / 1000 >= $a - 20 and .ts_ns / 1000 <= $b + 20) |
	if .kind == "softirq" then "\(.cpu) softirq \(.vector)" else "\(.cpu) irq \(.irq)" end' "$TEST_TMP/ours" | sort | uniq -c >"$TEST_TMP/ours.n"
cut -d' ' -f2- "$TEST_TMP/log" | sort | uniq -c >"$TEST_TMP/log.n"
between "CPUs, vectors and interrupts that were seen" "$(wc -l <"$TEST_TMP/log.n")" 2 10000
is "each as often as tracefs logged it" "$(diff "$TEST_TMP/ours.n" "$TEST_TMP/log.n")" ""
is "every hardirq has its name" "$(jq -r 'select(.kind == "hardirq" and .name == "") | .irq' "$TEST_TMP/ours" | sort -u)" ""
finish
