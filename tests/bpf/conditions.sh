#!/usr/bin/env bash
# In-kernel conditions: each fires on the real thing, and one that asks for more does not. Long system
# calls and late softirqs are in the bundle with what the workload itself measured.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

DISK=${SCRATCH:-/var/tmp}
mib=4096 read_bytes=1G
storm=(--limit 256 --file-threads 64 --anon-threads 16)
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	mib=900 read_bytes=256M
	storm=(--limit 512 --file-threads 32 --anon-threads 8 --file-percent 85 --anon-percent 40)
fi
# An emulated machine keeps no time finer than 200 ms.
fine_us=$([ -n "${STALLBOX_IN_VM:-}" ] && echo 200000 || echo 1000)
fired() { status_of ".triggers[] | select(.name == \"$1\") | .fired"; }
fires() { [ "$(fired "$1")" -ge 1 ]; }
field() { grep -oE "\b$2=[0-9]+" <<<"$1" | cut -d= -f2; }

# condition NAME SPEC NEVER MISSING COMMAND...: the command's output is in $TEST_TMP/NAME, the bundle in $BUNDLE.
condition() {
	local name=$1 spec=$2 never=$3 missing=$4
	shift 4
	SPOOL=$TEST_TMP/spool-$name
	start_agent --post 2s --cooldown 60s --trigger "$spec:name=$name" --trigger "$never:name=never" ||
		{ fail "$name: agent starts"; return 1; }
	if grep -q "$missing" "$AGENT_LOG"; then
		skip "$name fires" "this kernel has no tracepoints for $missing"
		stop_agent
		return 1
	fi
	"$@" >"$TEST_TMP/$name" 2>&1 &
	local pid=$!
	TEST_PIDS+=("$pid")
	ok "$name: $spec fires" wait_for 60 fires "$name"
	[ -z "${END_IT:-}" ] || kill "$pid" 2>/dev/null
	is "$name: $never does not" "$(fired never)" 0
	one() { [ "$(bundle_count)" = 1 ] && complete "$(newest_bundle)"; }
	ok "$name: one bundle is completed" wait_for 60 one
	BUNDLE=$(newest_bundle)
	is "$name: it names the condition" "$("$STALLBOX" info --json "$BUNDLE" | jq -r '.trigger.spec | sub(":name=.*"; "")')" "$spec"
	between "$name: the newest record of the sealed bank is no later than that (us after the condition)" \
		"$("$STALLBOX" info --json "$BUNDLE" | jq '(.marks[] | select(.kind == "sealed") | .ts_ns) - .trigger.fired_ns | . / 1000 | ceil')" \
		-1000000 "$fine_us"
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	stop_agent
}

# timer_late NS: us from when the last BPF timer due by then was due to when it expired, by the kernel's log.
timer_late() {
	awk -v at="$1" -v slack="${fine_us}000" '
		function value(name) { match($0, name "=[^ ]+"); return substr($0, RSTART + length(name) + 1, RLENGTH - length(name) - 1) }
		!/bpf_timer_cb/ { next }
		/hrtimer_start:/ { due[value("hrtimer")] = value("expires") + 0; next }
		{ d = due[value("hrtimer")]; if (d && d <= at + slack && d >= last) { last = d; late = (value("now") - d) / 1000; found = 1 } }
		END { if (found) printf "%.0f\n", late }' "$LOG/trace"
}

# What is still in flight fires at its age, by a timer, not at the sampler's next look. A timer is as late
# as the machine that runs it: how late it was is in the kernel's own log.
to_the_ms() {
	local over at late
	grep -q 'to the millisecond' "$AGENT_LOG" && { skip "$1: at its age" "no BPF timers on this kernel"; return; }
	[ -n "$LOG" ] || { skip "$1: at its age" "tracefs gives no instance of its own"; return; }
	stop_log
	is "$1: tracefs lost nothing" "$(log_lost)" 0
	over=$("$STALLBOX" info --json "$BUNDLE" | jq '.trigger | (.value - .threshold) * 1000 | ceil')
	at=$("$STALLBOX" info --json "$BUNDLE" | jq .trigger.fired_ns)
	late=$(timer_late "$at")
	echo "# fired $over us after the age, the timer expired ${late:-never} us after it was due"
	between "$1: it fired at the age it asks for (us later)" "$over" 0 $((fine_us + ${late:-0}))
}

timers() { [ -z "$LOG" ] || log_events timer/hrtimer_start timer/hrtimer_expire_entry; }
open_log
timers
condition wait 'kernel:mmap-lock-wait>60ms:comm=mmap_hold' 'kernel:mmap-lock-wait>100s' 'waits for locks' \
	"$WORKLOADS/mmap_hold" munlock 3 $((mib * 2)) && to_the_ms wait
timers
END_IT=yes condition reclaim 'kernel:reclaim>300ms' 'kernel:reclaim>100s' 'memcg reclaim spans' \
	"$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds 25 --dir "$DISK" && to_the_ms reclaim

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
		--trigger "kernel:blocked(D)>${ms}ms:count=6:comm=dstall:name=never" || { fail "blocked: agent starts"; return; }
	for round in 1 2 3 4 5; do
		recording() { [ "$(status_of .state)" = recording ]; }
		wait_for 60 recording
		blocked_log
		"$WORKLOADS/dstall" 5 0.5 >/dev/null &
		TEST_PIDS+=($!)
		one() { [ "$(bundle_count)" = "$round" ] && complete "$(newest_bundle)"; }
		wait_for 60 one || { fail "blocked: round $round is a bundle" "$(tail -n 5 "$AGENT_LOG")"; break; }
		wait $!
		stop_log
		is "blocked: tracefs lost nothing in round $round" "$(log_lost)" 0
		at=$("$STALLBOX" info --json "$(newest_bundle)" | jq .trigger.fired_ns)
		over=$((at / 1000 - $(blocked_truth 3 $ms "$at")))
		settled=$("$STALLBOX" info --json "$(newest_bundle)" | jq '(.marks[] | select(.kind == "sealed") | .ts_ns) - .trigger.fired_ns | . / 1000 | ceil')
		late=$(timer_late "$at")
		echo "# round $round: fired $over us after the third thread was there for $ms ms, the newest record is $settled us after that," \
			"the timer expired ${late:-never} us after it was due"
		echo $over >>"$TEST_TMP/over"
		over=$((over + (settled > 0 ? settled : 0)))
		echo $((over > ${late:-0} ? over - ${late:-0} : 0)) >>"$TEST_TMP/newest"
	done
	is "blocked: six that are not there do not fire" "$(fired never)" 0
	if grep -q 'to the millisecond' "$AGENT_LOG"; then
		skip "blocked: at the age" "no BPF timers on this kernel"
	else
		# A timer due before the last one may have been late as well, and found it.
		between "blocked: it fires no sooner than the third is there for that long (us later, the median)" \
			"$(sort -n "$TEST_TMP/over" | sed -n 3p)" -1000 1000000
		between "blocked: the newest record of the sealed bank is no later (us, besides the timer; the median)" \
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
			{ fail "blocked: agent starts"; return; }
		blocked_log
		"$WORKLOADS/dstall" 5 "$(awk "BEGIN { print $ms * $percent / 100000 }")" >/dev/null
		stop_log
		longest=$(longest_blocked)
		echo "# at $percent %: the longest was blocked for $longest ms"
		[ "$longest" -ge $ms ] || break
		stop_agent
	done
	between "blocked: five threads are released before $ms ms (ms)" "$longest" $((ms / 4)) $((ms - 1))
	is "blocked: and nothing fires" "$(fired blocked) $(bundle_count)" "0 0"
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
	[ "$fine_us" -le 1000 ] || { skip "blocked: a thread woken in time" "an emulated machine starves no thread for a known time"; return; }
	for try in 1 2 3 4 5 6 7 8; do
		SPOOL=$TEST_TMP/spool-queued-$try
		start_agent --post 200ms --trigger "kernel:blocked(D)>${ms}ms:comm=dstall:name=blocked" ||
			{ fail "blocked: agent starts"; return; }
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
	between "blocked: a thread is woken in time (ms)" "$blocked" 1 $((ms - 1))
	between "blocked: and waits for its CPU until later (ms)" "$away" $((ms + 20)) 100000
	is "blocked: that is no D state" "$(fired blocked)" 0
	stop_agent
}
if [ -n "$LOG" ]; then
	blocked_conditions
	blocked_below
	blocked_queued
else
	skip "blocked fires at the age" "tracefs gives no instance of its own"
fi
if condition runq 'kernel:runq>15ms:comm=spinner' 'kernel:runq>100s:comm=spinner' 'no such evidence' \
	taskset -c 0 "$WORKLOADS/spinner" 2 24; then
	# Frozen by hand with all of them there: 24 want one CPU, one of them may have it. Whoever else wants it
	# is the machine's own.
	SPOOL=$TEST_TMP/spool-queue
	start_agent --post 0s || fail "queue: agent starts"
	taskset -c 0 "$WORKLOADS/spinner" 5 24 >"$TEST_TMP/queue" 2>&1 &
	spin=$!
	TEST_PIDS+=("$spin")
	all_run() { [ "$(cat /proc/$spin/task/*/stat | grep -c '(spinner) R ')" = 24 ]; }
	ok "24 threads want one CPU" wait_for 60 all_run
	ok "and are frozen" freeze
	kill "$spin" 2>/dev/null
	waiting=$("$STALLBOX" info --json "$BUNDLE" | jq '.run_queues[] | select(.cpu == 0) | .waiting')
	between "runq: the run queue of that CPU at the freeze" "$waiting" 23 34
	"$STALLBOX" export --format ndjson "$BUNDLE" | jq -cs '(map(select(.type == "thread") | {(.id | tostring): .comm}) | add) as $comm |
		map(select(.type == "shot" and .cpu == 0 and .runnable) | $comm[.thread | tostring])' >"$TEST_TMP/runnable"
	is "runq: the run queue of that CPU at the freeze is the threads that stand there" "$waiting" "$(jq length "$TEST_TMP/runnable")"
	between "runq: the workload's own among them" "$(jq 'map(select(. == "spinner")) | length' "$TEST_TMP/runnable")" 22 24
	stop_agent
fi
condition system 'kernel:system>30%:for=500ms' 'kernel:system>99%:for=100s' 'no such evidence' \
	"$WORKLOADS/syshog" 6 $(($(nproc) * 4))
END_IT=yes condition yield 'kernel:reclaim-yield<95%' 'kernel:reclaim-yield<1%:for=300s' 'pages scanned by reclaim' \
	"$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds 25 --dir "$DISK"
condition hold 'kernel:mmap-lock-hold>20ms:comm=mmap_hold' 'kernel:mmap-lock-hold>100s' 'holds of mmap_lock' \
	"$WORKLOADS/mmap_hold" munlock 3 $mib

# A read that keeps a CPU in the kernel: found by samples alone.
if condition syscall 'kernel:syscall>100ms:comm=dd' 'kernel:syscall>100s' 'system calls of samples' \
	bash -c "for i in 1 2 3 4 5 6; do dd if=/dev/zero of=/dev/null bs=$read_bytes count=4; done"; then
	events --no-stacks --kind syscall --comm dd "$BUNDLE" >"$TEST_TMP/calls"
	between "syscall: the call and its file are named" \
		"$(jq -r 'select(.syscall == "read" and .file == "zero" and .duration_ns >= 90000000) | .tid' "$TEST_TMP/calls" | wc -l)" 1 100
	between "syscall: samples carry the call" \
		"$(events --no-stacks --kind on-cpu --comm dd "$BUNDLE" | jq -r 'select(.syscall == "read") | .tid' | wc -l)" 5 100000
fi

# Softirqs off for tens of ms: those of that CPU wait, and are recorded with the delay.
if ! "$WORKLOADS/bh_stall" 10 1 1 >"$TEST_TMP/can" 2>&1; then
	skip "softirq fires" "$(head -n 1 "$TEST_TMP/can")"
elif condition softirq 'kernel:softirq-delay>20ms' 'kernel:softirq-delay>100s' 'softirq delays' \
	"$WORKLOADS/bh_stall" 150 20 1; then
	# They run in the call's own context or in ksoftirqd, on the CPU that the workload was told.
	events --no-stacks --kind softirq "$BUNDLE" | jq -c 'select(.delay_ns >= 20000000 and .cpu == 1)' >"$TEST_TMP/late"
	between "softirq: those that were held up are told, with the delay" "$(wc -l <"$TEST_TMP/late")" 1 1000
	fired_ms=$("$STALLBOX" info --json "$BUNDLE" | jq '.trigger.value | floor')
	between "softirq: the trigger's value is the longest delay up to then (ms)" "$fired_ms" 20 \
		"$(jq -s 'map(.delay_ns) | max / 1000000 | ceil' "$TEST_TMP/late")"
fi
finish
