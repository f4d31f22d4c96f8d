#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The condition on threads in D state: it fires when as many as it asks for have been there for as long, at once, and not
# for fewer, for shorter, or for who waits for a CPU. The kernel's own event log (tracefs) says when that was.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

# An emulated machine keeps no time finer than 200 ms.
fine_us=$([ -n "${STALLBOX_IN_VM:-}" ] && echo 200000 || echo 1000)
fired() { status_of ".triggers[] | select(.name == \"$1\") | .fired"; }
if ! open_log; then
	skip "blocked(D) fires at the age" "tracefs gives no instance of its own"
	finish
fi

# Threads in D state: five, three of them for long enough. When the third was is in the kernel's own log of
# who left the CPU how and who was woken.
blocked_truth() { # COUNT THRESHOLD_MS FIRED_NS: us, CLOCK_MONOTONIC
	awk -v at="$(($3 / 1000))" '
		{ t = 0; for (i = 1; i < NF && !t; i++) if ($i ~ /^[0-9]+\.[0-9]+:$/) { split($i, n, /[.:]/); t = n[1] * 1000000 + n[2] } }
		t > at + 1000 { next }
		/sched_switch:/ { match($0, / prev_pid=[0-9]+/); out[substr($0, RSTART + 10, RLENGTH - 10)] = t }
		/sched_waking:/ { match($0, / pid=[0-9]+/); delete out[substr($0, RSTART + 5, RLENGTH - 5)] }
		END { for (p in out) printf "%.0f\n", out[p] }' "$LOG/trace" | sort -n | sed -n "${1}p" |
		awk -v ms="$2" '{ printf "%.0f\n", $1 + ms * 1000 }'
}
# The longest wait in D state, ms, rounded up.
longest_blocked() {
	awk '
		{ t = 0; for (i = 1; i < NF && !t; i++) if ($i ~ /^[0-9]+\.[0-9]+:$/) t = $i + 0 }
		/sched_switch:.* prev_state=D/ { match($0, / prev_pid=[0-9]+/); out[substr($0, RSTART + 10, RLENGTH - 10)] = t }
		/sched_waking:/ { match($0, / pid=[0-9]+/); p = substr($0, RSTART + 5, RLENGTH - 5)
			if (p in out && t - out[p] > longest) longest = t - out[p]; delete out[p] }
		END { printf "%d\n", longest * 1000 + 1 }' "$LOG/trace"
}
blocked_log() {
	log_events timer/hrtimer_start timer/hrtimer_expire_entry 'sched/sched_waking:comm == "dstall"' \
		'sched/sched_switch:prev_comm == "dstall" && prev_state & 2'
}
blocked_conditions() {
	local round over late at settled ms=300
	SPOOL=$TEST_TMP/spool-blocked
	start_agent --post 200ms --cooldown 2s --trigger "kernel:blocked(D)>${ms}ms:count=3:comm=dstall:name=blocked" \
		--trigger "kernel:blocked(D)>${ms}ms:count=6:comm=dstall:name=never" || { fail "agent starts"; return; }
	for round in 1 2 3 4 5; do
		recording() { [ "$(status_of .state)" = recording ]; }
		wait_for 60 recording
		blocked_log
		"$WORKLOADS/dstall" 5 0.5 >/dev/null &
		TEST_PIDS+=($!)
		one() { [ "$(bundle_count)" = "$round" ] && complete "$(newest_bundle)"; }
		wait_for 60 one || { fail "round $round is a bundle" "$(tail -n 5 "$AGENT_LOG")"; break; }
		wait $!
		stop_log
		is "tracefs lost nothing in round $round" "$(log_lost)" 0
		at=$("$STALLBOX" info --json "$(newest_bundle)" | jq .trigger.fired_ns)
		truth=$(blocked_truth 3 $ms "$at")
		# Nothing, where the log has no three threads at that time; arithmetic with it would end the whole function.
		[ -n "$truth" ] || { fail "round $round: three were there when it fired"; break; }
		over=$((at / 1000 - truth))
		settled=$("$STALLBOX" info --json "$(newest_bundle)" | jq '(.marks[] | select(.kind == "sealed") | .ts_ns) - .trigger.fired_ns | . / 1000 | ceil')
		late=$(timer_late "$at" "$fine_us")
		echo "# round $round: fired $over us after the third thread was there for $ms ms, the newest record is $settled us after that," \
			"the timer expired ${late:-never} us after it was due"
		echo $over >>"$TEST_TMP/over"
		over=$((over + (settled > 0 ? settled : 0)))
		echo $((over > ${late:-0} ? over - ${late:-0} : 0)) >>"$TEST_TMP/newest"
	done
	is "six that are not there do not fire" "$(fired never)" 0
	if grep -q 'to the millisecond' "$AGENT_LOG"; then
		skip "at the age" "no BPF timers on this kernel"
	else
		# A timer due before the last one may have been late as well, and found it.
		between "it fires no sooner than the third is there for that long (us later, the median)" \
			"$(sort -n "$TEST_TMP/over" | sed -n 3p)" -1000 1000000
		between "the newest record of the sealed bank is no later (us, besides the timer; the median)" \
			"$(sort -n "$TEST_TMP/newest" | sed -n 3p)" 0 "$fine_us"
	fi
	stop_agent
}
# All of them are released just before. Where the machine keeps them longer it is tried again, sooner.
blocked_below() {
	local longest ms=$((fine_us > 1000 ? 2000 : 500)) percent
	for percent in 94 93 92 90 86 80 70 60 50 40; do
		SPOOL=$TEST_TMP/spool-below-$percent
		start_agent --post 200ms --trigger "kernel:blocked(D)>${ms}ms:comm=dstall:name=blocked" ||
			{ fail "agent starts"; return; }
		blocked_log
		"$WORKLOADS/dstall" 5 "$(awk "BEGIN { print $ms * $percent / 100000 }")" >/dev/null
		stop_log
		longest=$(longest_blocked)
		echo "# at $percent %: the longest was blocked for $longest ms"
		[ "$longest" -ge $ms ] || break
		stop_agent
	done
	between "five threads are released before $ms ms (ms)" "$longest" $((ms / 4)) $((ms - 1))
	is "and nothing fires" "$(fired blocked) $(bundle_count)" "0 0"
	stop_agent
}
# Woken in time, it then waits for its CPU, which a real-time thread has: that is no D state. Where the machine
# is too slow for the one or lets it run too soon for the other it is tried again.
longest_away() { # from a switch-out in D state to the next switch-in, ms
	awk '
		{ t = 0; for (i = 1; i < NF && !t; i++) if ($i ~ /^[0-9]+\.[0-9]+:$/) t = $i + 0 }
		/sched_switch:.* prev_state=D/ { match($0, / prev_pid=[0-9]+/); out[substr($0, RSTART + 10, RLENGTH - 10)] = t }
		/sched_switch:/ { match($0, / next_pid=[0-9]+/); p = substr($0, RSTART + 10, RLENGTH - 10)
			if (p in out && t - out[p] > longest) longest = t - out[p]; delete out[p] }
		END { printf "%d\n", longest * 1000 }' "$LOG/trace"
}
blocked_queued() {
	local ms=700 try dstall hog blocked away
	[ "$fine_us" -le 1000 ] || { skip "a thread woken in time" "an emulated machine starves no thread for a known time"; return; }
	for try in 1 2 3 4 5 6 7 8; do
		SPOOL=$TEST_TMP/spool-queued-$try
		start_agent --post 200ms --trigger "kernel:blocked(D)>${ms}ms:comm=dstall:name=blocked" ||
			{ fail "agent starts"; return; }
		log_events 'sched/sched_waking:comm == "dstall"' \
			'sched/sched_switch:(prev_comm == "dstall" && prev_state & 2) || next_comm == "dstall"'
		"$WORKLOADS/dstall" 1 60 >"$TEST_TMP/queued" &
		dstall=$!
		TEST_PIDS+=("$dstall")
		wait_for 60 grep -q '^ready' "$TEST_TMP/queued"
		taskset -p -c 1 "$(sed -n 's/^ready tids=//p' "$TEST_TMP/queued")" >/dev/null
		chrt -f 50 taskset -c 1 "$WORKLOADS/spinner" 1.5 1 >/dev/null &
		hog=$!
		TEST_PIDS+=("$hog")
		running() { grep -q '(spinner) R' "/proc/$hog/stat"; }
		wait_for 60 running
		kill "$dstall"
		wait "$hog" "$dstall"
		stop_log
		blocked=$(longest_blocked) away=$(longest_away)
		echo "# try $try: blocked for $blocked ms, off its CPU for $away ms"
		[ "$blocked" -ge $ms ] || [ "$away" -le $((ms + 20)) ] || break
		stop_agent
	done
	between "a thread is woken in time (ms)" "$blocked" 1 $((ms - 1))
	between "and waits for its CPU until later (ms)" "$away" $((ms + 20)) 100000
	is "that is no D state" "$(fired blocked)" 0
	stop_agent
}
blocked_conditions
blocked_below
blocked_queued
finish
