# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The kernel's own event log (tracefs), in an instance of the test's own: an independent witness of
# what happened. Sourced after tests/agent.sh, whose cleanup removes it.
#
#   open_log [KIB]                     KiB a CPU; fails where tracefs gives no instance
#   log_events SYSTEM/EVENT[:FILTER]...  these alone, from now on, all at once; an event that the
#                                      kernel lacks is left out
#   stop_log                           nothing more is logged; the text is in $LOG/trace
#   log_lost [SINCE_NS]                events that the log itself lost; of a CPU whose log goes back to that time only those
#                                      that found no room: what was overwritten is older
#   timer_late NS SLACK_US             us from when the last BPF timer due by then (and that much later) was due to
#                                      when it expired; of timer/hrtimer_start and timer/hrtimer_expire_entry
LOG=

open_log() {
	local trace=/sys/kernel/tracing
	[ -d $trace/events ] || mount -t tracefs tracefs $trace 2>/dev/null
	LOG=$trace/instances/stallbox-test-$$
	mkdir "$LOG" 2>/dev/null || { LOG=; return 1; }
	echo mono >"$LOG/trace_clock"
	echo "${1:-32768}" >"$LOG/buffer_size_kb"
}
close_log() { [ -z "$LOG" ] || rmdir "$LOG"; }
stop_log() { echo 0 >"$LOG/tracing_on"; }
log_events() {
	local e filter
	stop_log
	echo 0 >"$LOG/events/enable"
	echo >"$LOG/trace"
	for e; do
		filter=
		case $e in *:*) filter=${e#*:} e=${e%%:*} ;; esac
		[ -d "$LOG/events/$e" ] || continue
		[ -z "$filter" ] || echo "$filter" >"$LOG/events/$e/filter"
		echo 1 >"$LOG/events/$e/enable"
	done
	echo 1 >"$LOG/tracing_on"
}
log_lost() {
	cat "$LOG"/per_cpu/cpu*/stats | awk -v since="${1:-0}" '
		/^overrun:/ { overwritten = $NF }
		/^oldest event ts:/ && $NF * 1e9 > since { n += overwritten }
		/^dropped events:/ { n += $NF }
		END { print n + 0 }'
}
timer_late() {
	awk -v at="$1" -v slack="${2}000" '
		function value(name) { match($0, name "=[^ ]+"); return substr($0, RSTART + length(name) + 1, RLENGTH - length(name) - 1) }
		!/bpf_timer_cb/ { next }
		/hrtimer_start:/ { due[value("hrtimer")] = value("expires") + 0; next }
		{ d = due[value("hrtimer")]; if (d && d <= at + slack && d >= last) { last = d; late = (value("now") - d) / 1000; found = 1 } }
		END { if (found) printf "%.0f\n", late }' "$LOG/trace"
}
