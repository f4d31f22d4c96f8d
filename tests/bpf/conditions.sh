#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# In-kernel conditions: each fires on the real thing, and one that asks for more does not; blocked(D) is bpf/blocked. Long
# system calls and late softirqs are in the bundle with what the workload itself measured.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

DISK=${SCRATCH:-/var/tmp}
mib=12288 read_bytes=1G
storm=(--ramp 1) # of its 320 threads thousands stand in reclaim for 300 ms; of 80 so few that another disk may show none
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	mib=5400 read_bytes=256M
	storm=(--limit 512 --file-threads 32 --anon-threads 8 --file-percent 85 --anon-percent 40)
fi
# An emulated machine keeps no time finer than 200 ms.
fine_us=$([ -n "${STALLBOX_IN_VM:-}" ] && echo 200000 || echo 1000)
fired() { status_of ".triggers[] | select(.name == \"$1\") | .fired"; }
fires() { [ "$(fired "$1")" -ge 1 ]; }
field() { grep -oE "\b$2=[0-9]+" <<<"$1" | cut -d= -f2; }

# condition NAME SPEC NEVER MISSING COMMAND...: the command's output is in $TEST_TMP/NAME, the bundle in $BUNDLE. POST: how
# long the window is. PATIENCE: s that it may take to fire.
condition() {
	local name=$1 spec=$2 never=$3 missing=$4
	shift 4
	SPOOL=$TEST_TMP/spool-$name
	start_agent --post "${POST:-${STALLBOX_IN_VM:+2}300ms}" --cooldown 60s --trigger "$spec:name=$name" --trigger "$never:name=never" ||
		{ fail "$name: agent starts"; return 1; }
	if grep -q "$missing" "$AGENT_LOG"; then
		skip "$name fires" "this kernel has no tracepoints for $missing"
		stop_agent
		return 1
	fi
	"$@" >"$TEST_TMP/$name" 2>&1 &
	local pid=$!
	TEST_PIDS+=("$pid")
	ok "$name: $spec fires" wait_for "${PATIENCE:-60}" fires "$name"
	[ -z "${END_IT:-}" ] || kill "$pid" 2>/dev/null
	is "$name: $never does not" "$(fired never)" 0
	one() { log_has '^complete:' && [ "$(bundle_count)" = 1 ] && complete "$(newest_bundle)"; }
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
	late=$(timer_late "$at" "$fine_us")
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
END_IT=yes condition system 'kernel:system>30%:for=500ms' 'kernel:system>99%:for=100s' 'no such evidence' \
	"$WORKLOADS/syshog" 6 $(($(nproc) * 4))
# An emulated machine scans enough of them only now and then, and never for the default of a second; the storm goes on until it has.
PATIENCE=180 END_IT=yes condition yield "kernel:reclaim-yield<95%${STALLBOX_IN_VM:+:for=250ms}" 'kernel:reclaim-yield<1%:for=300s' 'pages scanned by reclaim' \
	"$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds 190 --dir "$DISK"
condition hold 'kernel:mmap-lock-hold>20ms:comm=mmap_hold' 'kernel:mmap-lock-hold>100s' 'holds of mmap_lock' \
	"$WORKLOADS/mmap_hold" munlock 3 $mib

# A read that keeps a CPU in the kernel: found by samples alone.
if POST=2s condition syscall 'kernel:syscall>100ms:comm=dd' 'kernel:syscall>100s' 'system calls of samples' \
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
elif POST=2s condition softirq 'kernel:softirq-delay>20ms' 'kernel:softirq-delay>100s' 'softirq delays' \
	"$WORKLOADS/bh_stall" 150 20 1; then
	# They run in the call's own context or in ksoftirqd, on the CPU that the workload was told.
	events --no-stacks --kind softirq "$BUNDLE" | jq -c 'select(.delay_ns >= 20000000 and .cpu == 1)' >"$TEST_TMP/late"
	between "softirq: those that were held up are told, with the delay" "$(wc -l <"$TEST_TMP/late")" 1 1000
	fired_ms=$("$STALLBOX" info --json "$BUNDLE" | jq '.trigger.value | floor')
	between "softirq: the trigger's value is the longest delay up to then (ms)" "$fired_ms" 20 \
		"$(jq -s 'map(.delay_ns) | max / 1000000 | ceil' "$TEST_TMP/late")"
fi

# The same seen by the sampler alone, while the call still runs: without a tracepoint, by the thread that runs.
if ! grep -q 'end_ns' "$TEST_TMP/can"; then
	skip "held fires" "$(head -n 1 "$TEST_TMP/can")"
elif condition held 'kernel:softirq-held>50ms:comm=bh_stall' 'kernel:softirq-held>50ms:comm=another' 'softirqs that a system call holds up' \
	"$WORKLOADS/bh_stall" 150 20 1; then
	at=$("$STALLBOX" info --json "$BUNDLE" | jq .trigger.fired_ns)
	is "held: it fires while one of the calls runs" "$(awk -v at="$at" '{ split($2, b, "="); split($3, e, "=") } /begin_ns/ && b[2] < at && at < e[2] { n++ } END { print n + 0 }' "$TEST_TMP/held")" 1
	between "held: at its age, by the sampler (ms)" "$("$STALLBOX" info --json "$BUNDLE" | jq '.trigger.value | round')" 50 $((50 + 15 + fine_us / 1000))
	# In user mode, and in a call that lets softirqs run, however long: nothing.
	condition_calm() { "$WORKLOADS/spinner" 1 2 >/dev/null; "$WORKLOADS/syshog" 1 2 >/dev/null; }
	start_agent --post 0s --cooldown 0s --trigger 'kernel:softirq-held>20ms:comm=spinner:name=user' --trigger 'kernel:softirq-held>20ms:comm=syshog:name=call' ||
		fail "held: agent starts"
	condition_calm
	is "held: neither user code nor a call that lets softirqs run is taken for one" "$(fired user) $(fired call)" "0 0"
	stop_agent
fi
finish
