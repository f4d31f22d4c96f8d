#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Softirqs and hardirqs in the escalated window: each one of a second, by vector and by number, as
# the kernel's own event log (tracefs) has them.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

DISK=${SCRATCH:-/var/tmp}
if ! open_log; then
	skip "interrupts against tracefs" "tracefs gives no instance of its own"
	finish
fi
MEMORY=64M start_agent --post 1s --escalate always --irq-threshold 1ns || { fail "agent starts"; finish; }
log_events irq/softirq_exit irq/irq_handler_exit
enough() { [ "$(grep -c 'irq_handler_exit' "$LOG/trace")" -ge 50 ] && [ "$(grep -c 'softirq_exit' "$LOG/trace")" -ge 50 ]; }
more() { # interrupts of a disk
	dd if=/dev/zero of="$DISK/.stallbox-irqs" bs=1M count=16 oflag=direct conv=fsync 2>/dev/null || sync
	rm -f "$DISK/.stallbox-irqs"
	enough
}
ok "there are interrupts" wait_for 60 more
stop_log
ok "a freeze gives a bundle" freeze
is "tracefs lost nothing" "$(log_lost)" 0
# time in us, cpu, what. The CPU is in brackets, the time ends with a colon. There are hosts on which no
# program runs while a thread of process 1 is on the CPU.
awk -v init="$(ls /proc/1/task | tr '\n' ' ')" 'BEGIN { split(init, tids, " "); for (i in tids) hidden[tids[i]] = 1 }
/_exit:/ {
	pid = $0; sub(/ +\[[0-9]+\].*/, "", pid); sub(/.*-/, "", pid)
	if (pid in hidden) next
	for (i = 1; i <= NF; i++) if ($i ~ /^\[[0-9]+\]$/) break
	cpu = substr($i, 2, length($i) - 2) + 0; t = $(i + 2); sub(/:$/, "", t)
	what = /softirq_exit:/ ? "softirq " substr($0, match($0, /action=/) + 7, length($0)) : "irq "
	sub(/\].*/, "", what)
	if (/irq_handler_exit:/) { match($0, /irq=[0-9]+/); what = "irq " substr($0, RSTART + 4, RLENGTH - 4) }
	printf "%.0f %d %s\n", t * 1e6, cpu, what
}' "$LOG/trace" | sort -n >"$TEST_TMP/log"
events --kind softirq,hardirq --no-stacks "$BUNDLE" >"$TEST_TMP/ours"
jq -r 'select(.pid != 1) | "\(.ts_ns) \(.cpu) " + if .kind == "softirq" then "softirq \(.vector)" else "irq \(.irq)" end' "$TEST_TMP/ours" | sort -n >"$TEST_TMP/ours.log"
# Ours began before and ended after: what tracefs saw on each CPU must be in there, in one piece. Softirqs
# and hardirqs apart: one that comes between the two looks at another changes their order.
pieces=0 whole=0
while read -r cpu type; do
	pieces=$((pieces + 1))
	theirs=$(awk -v c="$cpu" -v t="$type" '$2 == c && $3 == t {printf "%s;", $4}' "$TEST_TMP/log")
	ours=$(awk -v c="$cpu" -v t="$type" '$2 == c && $3 == t {printf "%s;", $4}' "$TEST_TMP/ours.log")
	[[ ";$ours" == *";$theirs"* ]] && whole=$((whole + 1))
done < <(cut -d' ' -f2,3 "$TEST_TMP/log" | sort -u)
cut -d' ' -f2- "$TEST_TMP/log" | sort | uniq -c >"$TEST_TMP/log.n"
between "CPUs, vectors and interrupts that were seen" "$(wc -l <"$TEST_TMP/log.n")" 2 10000
is "on each CPU in the order in which tracefs logged them, and no other" "$whole" "$pieces"
is "every hardirq has its name" "$(jq -r 'select(.kind == "hardirq" and .name == "") | .irq' "$TEST_TMP/ours" | sort -u)" ""
stop_agent

# A slow read of a file of /proc on the CPU on which packets come in: the bundle has the call, and the
# softirqs that waited for the CPU meanwhile, as tracefs has them.
start_agent --post 1s --escalate always --irq-threshold 2ms --syscall-threshold 1ms --trigger "kernel:reclaim>600s" || { fail "agent starts"; finish; }
log_events irq/softirq_raise:'vec == 3' irq/softirq_entry:'vec == 3' raw_syscalls/sys_enter:'comm == "slow_read" && id == 17' \
	raw_syscalls/sys_exit:'comm == "slow_read" && id == 17'
"$WORKLOADS/slow_read" 3 1 /proc/kcore >"$TEST_TMP/reads" 2>&1
rc=$?
stop_log
if [ $rc = 77 ]; then
	skip "a slow read and the softirqs that waited for it" "$(tail -n 1 "$TEST_TMP/reads")"
	finish
fi
ok "the reads are frozen" freeze
# Intervals in us of CPU 1: "call" from enter to exit, "wait" from raise to entry.
awk '{
	for (i = 1; i <= NF; i++) if ($i ~ /^\[[0-9]+\]$/) break
	t = $(i + 2) * 1e6
	if (/sys_enter:/) in_call = t
	else if (/sys_exit:/) { if (in_call) printf "call %.0f %.0f\n", in_call, t; in_call = 0 }
	else if ($i != "[001]") next
	else if (/raise:/) { if (!up) up = t }
	else if (/softirq_entry:/) { if (up) printf "wait %.0f %.0f\n", up, t; up = 0 }
}' "$LOG/trace" >"$TEST_TMP/intervals"
reads='.file == "kcore"'
if "$STALLBOX" info "$BUNDLE" | grep -q 'system calls of samples.*instead'; then
	skip "the file of a slow read" "no bpf_task_pt_regs (5.15)"
	reads='.syscall == "pread64"'
fi
{
	events --kind syscall --comm slow_read --no-stacks "$BUNDLE" | jq -r "select($reads"' and .sampled == false and .cpu == 1) | "call \((.ts_ns - .duration_ns) / 1000) \(.ts_ns / 1000)"'
	events --kind softirq --no-stacks "$BUNDLE" | jq -r 'select(.cpu == 1 and .vector == "NET_RX") | "wait \((.ts_ns - .duration_ns - .delay_ns) / 1000) \((.ts_ns - .duration_ns) / 1000)"'
} >"$TEST_TMP/ours.intervals"
# matched WHAT LEAST_US SLACK_US: how many of tracefs there are, and how many of them the bundle has within
# 5 % of their length, or SLACK_US.
matched() {
	awk -v what="$1" -v least="$2" -v slack_us="${3:-0}" 'NR == FNR { if ($1 == what) { b[++n] = $2; e[n] = $3 } next }
		$1 == what && $3 - $2 >= least {
			all++
			slack = ($3 - $2) / 20
			if (slack < slack_us) slack = slack_us
			for (i = 1; i <= n; i++) if (b[i] >= $2 - slack && b[i] <= $2 + slack && e[i] >= $3 - slack && e[i] <= $3 + slack) { found++; break }
		}
		END { print all + 0, found + 0 }' "$TEST_TMP/ours.intervals" "$TEST_TMP/intervals"
}
# Between the looks of the two at the clock an emulated CPU may stand still; most of the time it does not.
emulated=${STALLBOX_IN_VM:+200000}
told() { # WHAT LEAST_US TEXT
	local all found
	read -r all found < <(matched "$1" "$2" "$emulated")
	is "each of $all $3" "$found" "$all"
	[ -n "$emulated" ] || return 0
	read -r all found < <(matched "$1" "$2")
	between "most of them within 5 %" "$found" $((all / 2)) "$all"
}
read -r all _ < <(matched call 5000)
if [ "$all" = 0 ]; then
	skip "a slow read and the softirqs that waited for it" "4 MiB of /proc/kcore are read in less than 5 ms here"
	finish
fi
told call 5000 "slow reads is told, when and how long"
read -r all _ < <(matched wait 4000)
if [ "$all" = 0 ]; then
	skip "the softirqs that waited for it" "this kernel runs them at the end of the interrupt, whatever the CPU is at (6.5)"
	finish
fi
told wait 4000 "late softirqs is told, with its delay"
in_order=$(awk '$1 == "call" { b[++n] = $2; e[n] = $3 }
	$1 == "wait" && $3 - $2 >= 3500 { for (i = 1; i <= n; i++) if (b[i] < $2 && e[i] > $2) { found++; break } }
	END { print found + 0 }' "$TEST_TMP/ours.intervals")
between "in order: raised on that CPU while the read was in the kernel" "$in_order" 1 100000
finish
