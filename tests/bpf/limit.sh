#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The recorder's own cost, told as data and held below CpuBudget by steps of which each is proven to take effect and to
# be told; the next agent undoes them. A window is ten seconds long, so LONG=1 ('make check-limit', five minutes) for the
# rest: the budgets of an idle recorder, a load within the budget, and every step undone one by one below it.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

limit() { status_of ".limit.$1"; }
load_pids=()
# A pair that switches without end, blocks of 3 ms with user stacks, a busy CPU, waits in D state.
start_load() {
	setsid perf bench sched pipe -l 1000000000 >/dev/null 2>&1 &
	load_pids+=("$!")
	setsid "$WORKLOADS/sleeper" 10000000 3 >/dev/null &
	load_pids+=("$!")
	setsid "$WORKLOADS/spinner" 80000 >/dev/null &
	load_pids+=("$!")
	# shellcheck disable=SC2016
	setsid bash -c 'while :; do "$0" 2 1; done' "$WORKLOADS/dstall" >/dev/null 2>&1 &
	load_pids+=("$!")
}
# Each is a process group of its own: perf's second process would stay behind.
stop_load() {
	local p
	for p in "${load_pids[@]}"; do kill -KILL -- "-$p" 2>/dev/null; done
	for p in "${load_pids[@]}"; do wait "$p" 2>/dev/null; done
	load_pids=()
}
extra_cleanup() { stop_load; }
command -v perf >/dev/null || {
	echo "1..0 # SKIP perf is not installed"
	exit 77
}

whole_window() { [ "$(limit cost_ppm)" -ge 0 ]; }
at_step() { [ "$(limit step)" = "$1" ]; }
past_step() { [ "$(limit step)" -ge "$1" ]; }
idle_and_within() {
# ---- idle, default budget ---------------------------------------------------------------------
# Where the CPU is emulated an idle recorder is above the default.
ordinary_budget=1%
[ -z "${STALLBOX_IN_VM:-}" ] || ordinary_budget=100%
start_agent --post 1s --cpu-budget "$ordinary_budget" || { fail "agent starts"; finish; }
switches() { # of the agent and what it has forked
	local p n=0
	for p in "$AGENT" $(processes_of "$AGENT"); do
		n=$((n + $(awk '/^voluntary_ctxt/ {print $2}' "/proc/$p/status")))
	done
	echo "$n"
}
ok "the cost of a whole window is known" wait_for 120 whole_window
before=$(switches) begin=$(date +%s%N)
sleep 20 # what is measured is time that passes
after=$(switches) end=$(date +%s%N)
between "wakeups in 10 s of the agent and its processes, idle" \
	$(((after - before) * 10000 / ((end - begin) / 1000000))) 8 20
is "nothing is written" "$(status_of .cost.bytes_written)" 0
between "RSS of the agent without the ring, KiB" "$(($(status_of .cost.rss_bytes) / 1024))" 1024 16384
mapped=0
while read -r range _; do mapped=$((mapped + 0x${range#*-} - 0x${range%-*})); done < <(grep bpf-map "/proc/$AGENT/maps")
rss=$(awk '/^VmRSS/ {print $2}' "/proc/$AGENT/status")
between "what the kernel says is that and the ring, KiB apart" $((rss - mapped / 1024 - $(status_of .cost.rss_bytes) / 1024)) -512 512
is "at that budget no step is taken" "$(limit changes)" 0
is "and nothing is left out" "$(status_of '.lost | .limited_user_stacks + .limited_short_blocks + .limited_samples')" 0
is "the default budget is 1 % of the machine" "$("$STALLBOXD" --help | grep -c 'default 1%)')" 1
stop_agent
"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null

# ---- an ordinary and a heavy load, within the budget ---------------------------------------------
start_agent --post 1s --trigger 'kernel:reclaim>600s' --cpu-budget "$ordinary_budget" || { fail "agent starts"; finish; }
spawn "$WORKLOADS/sleeper" 10000000 3 >/dev/null
ordinary=$SPAWNED
ok "an ordinary load is measured" wait_for 120 whole_window
is "it takes no step" "$(limit changes)" 0
kill "$ordinary"
stop_agent
start_agent --post 1s --trigger 'kernel:reclaim>600s' --cpu-budget 100% || { fail "agent starts"; finish; }
start_load
ok "a heavy load is measured" wait_for 120 whole_window
is "below its budget no step is taken, whatever it costs" "$(limit changes)" 0
high=$(limit cost_ppm)
stop_agent
"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null
}
[ -z "${LONG:-}" ] || idle_and_within

# ---- a tiny budget: step by step ------------------------------------------------------------------
[ ${#load_pids[@]} -gt 0 ] || start_load
start_agent --post 3s --trigger 'kernel:reclaim>600s' --cpu-budget 0.0001% || { fail "agent starts"; finish; }
for step in 1 2 3 4; do ok "step $step is taken" wait_for 120 past_step $step; done
windows=$(status_of .cost.windows)
ok "optional programs are detached: their links are gone" test ! -e "$PINS/stallbox/link_sched_waking"
ok "and kept for later" test -e "$PINS/stallbox/limited_sched_waking"
detached_for() { [ "$(limit detached_ms)" -ge "$1" ]; }
ok "the time without them is counted" wait_for 60 detached_for 3000
measured_since() { [ "$(status_of .cost.windows)" -ge $((windows + 2)) ]; }
ok "and what the others cost is measured" wait_for 60 measured_since
if command -v bpftool >/dev/null; then
	id=$(bpftool -j prog show pinned "$PINS/stallbox/limited_sched_waking" | jq .id)
	is "no link of the kernel's runs it" "$(bpftool -j link show | jq "[.[] | select(.prog_id == $id)] | length")" 0
fi
if [ -n "${LONG:-}" ]; then
	ok "the cost at the last step is measured" wait_for 120 whole_window
	floor=$(limit cost_ppm)
fi
ok "a freeze gives a bundle" freeze

"$STALLBOX" info --json "$BUNDLE" >"$TEST_TMP/info"
mapfile -t t < <(jq '.marks[] | select(.kind == "limit") | .ts_ns' "$TEST_TMP/info")
is "every step is a mark" "$(jq -r '.marks[] | select(.kind == "limit") | .text[0:6]' "$TEST_TMP/info" | tr '\n' ' ')" \
	'step 1 step 2 step 3 step 4 '
fired=$(jq .trigger.fired_ns "$TEST_TMP/info")
is "the step is told with the cost" "$(jq .own_cost.limit_step "$TEST_TMP/info")" 4
for what in 'user stacks not taken' 'blocks below the raised' 'samples left out' 'without wakers'; do
	ok "counted as a loss: $what" jq -e "[.losses[] | select(.cause == \"limited\" and .count > 0 and (.what | startswith(\"$what\")))] | length == 1" "$TEST_TMP/info"
done
# What is looked at, of each event, a line each: jq takes a second for all of them.
short='[.ts_ns, .kind, .comm, .duration_ns, (.ustack | length), .woken_comm] | @tsv'
events "$BUNDLE" | jq -r "$short" >"$TEST_TMP/events"
# count FROM UNTIL FILTER: events in a span, its first half second and its last tenth left out
count() {
	awk -F '\t' -v from="$1" -v until="$2" '{ kind = $2; comm = $3; duration_ns = $4; ustack = $5; woken_comm = $6 }
		$1 > from + 5e8 && $1 < until - 1e8 && ('"$3"')' "$TEST_TMP/events" | wc -l
}
sleeps='kind == "off-cpu" && comm == "sleeper"'
n=$(count 0 "${t[0]}" "$sleeps")
between "before step 1 blocks have user stacks, percent" "$(($(count 0 "${t[0]}" "$sleeps && ustack > 0") * 100 / (n ? n : 1)))" 90 100
between "after it such blocks are still recorded" "$(count "${t[0]}" "${t[1]}" "$sleeps")" 100 5000
is "but have none" "$(count "${t[0]}" "${t[1]}" "$sleeps && ustack > 0")" 0
is "after step 2 no block is below ten times the threshold" "$(count "${t[1]}" "$fired" 'kind == "off-cpu" && duration_ns < 10000000')" 0
between "but longer ones are recorded: 1 s in D state" "$(count "${t[1]}" "$fired" 'kind == "off-cpu" && comm == "dstall" && duration_ns > 900000000')" 10 1000
# Of the samples on each CPU one in four is taken from here on, and it stands for all of them: up to three that are
# left out wait on each CPU for theirs, those of the first half second may be of before.
period=10101010 left=$(jq '[.losses[] | select(.cause == "limited" and (.what | startswith("samples left out"))) | .count] | add' "$TEST_TMP/info")
read -r taken stands <<<"$(awk -F '\t' -v from="${t[2]}" '$2 == "on-cpu" && $1 > from {n++; ns += $4} END {printf "%d %.0f", n, ns}' "$TEST_TMP/events")"
between "after step 3 samples are taken" "$taken" 100 100000
between "and three times as many left out, per mille" $((left * 1000 / (taken ? taken : 1))) 2900 3100
between "each taken stands for those, too: per mille of the time of all" $((stands / period * 1000 / (taken + left))) 970 100000
elapsed=$(jq ".last_ns - ${t[2]}" "$TEST_TMP/info")
# A tick that comes late stands for its gap, and one that follows too soon for a whole period.
between "and together for no longer than it was, ms" $((stands / 1000000)) 1 $(((elapsed / 1000000 + 100) * $(nproc) + (taken + left) * period / 1000000))
between "before step 4 wakers of waits in D state" "$(count "${t[1]}" "${t[3]}" 'kind == "wakeup" && woken_comm == "dstall"')" 10 1000
is "after it none" "$(count "${t[3]}" "$fired" 'kind == "wakeup"')" 0
"$STALLBOX" series --json --name 'self.*' "$BUNDLE" >"$TEST_TMP/series"
is "the steps are a series" "$(jq -r 'select(.name == "self.limit") | .values[][1]' "$TEST_TMP/series" | uniq | tr '\n' ' ')" '0 1 2 3 4 '
ok "so are runs and run time of each program" jq -es '[.[] | select(.name == "self.program.time" and .scope == "sched_switch") | .values | length > 3] == [true]' "$TEST_TMP/series"
# A value is of the window before it, and comes up to a second after that.
is "sched_waking ran, and no more after step 4" "$(jq -r "select(.name == \"self.program.runs\" and .scope == \"sched_waking\") |
	([.values[] | select(.[0] < ${t[3]}) | .[1] > 0] | all), ([.values[] | select(.[0] > ${t[3]}) | .[1] == 0] | .[1:] | length > 0 and all)" "$TEST_TMP/series" | tr '\n' ' ')" 'true true '
# Beside each, the context switches of the two seconds before it: others' load comes and goes.
per_mille=$("$STALLBOX" series --json --name stat.ctxt "$BUNDLE" | jq --slurpfile own "$TEST_TMP/series" '.values as $ctxt |
	[$own[] | select(.name == "self.program.runs" and .scope == "sched_switch") | .values[] | .[0] as $at | .[1] as $runs |
	[$ctxt[] | select(.[0] <= $at and .[0] >= $at - 2500000000)] | select(length > 1) |
	$runs * 1000 / ((.[-1][1] - .[0][1]) * 1e9 / (.[-1][0] - .[0][0]))] | sort | .[length / 2 | floor] // 0 | floor')
between "runs of sched_switch are the host's context switches, per mille" "$per_mille" 600 1400

# ---- killed at the last step: the next agent records everything again -----------------------------
stop_load
kill_agent
start_agent --post 1s --trigger 'kernel:reclaim>600s' --cpu-budget 100% || { fail "the next agent starts"; finish; }
ok "the next agent takes over" log_has 'took over a running recorder'
is "without a limit" "$(limit step)" 0
ok "with all programs" test -e "$PINS/stallbox/link_sched_waking" -a -e "$PINS/stallbox/link_block_complete" -a ! -e "$PINS/stallbox/limited_block_complete"
if [ -n "${LONG:-}" ]; then
	ok "what it costs now is measured" wait_for 120 whole_window
	idle=$(limit cost_ppm)
fi
"$WORKLOADS/dstall" 2 1 >/dev/null
ok "a freeze gives a bundle" freeze
like "it tells what the agent before did" "$("$STALLBOX" info "$BUNDLE")" 'step 4: own cost.*step 0: a new agent begins without limits; step 4 was in force'
again=$("$STALLBOX" info --json "$BUNDLE" | jq '[.marks[] | select(.kind == "limit") | .ts_ns] | last')
between "and has wakers again" "$(events --kind wakeup "$BUNDLE" | jq -r "select(.ts_ns > $again and .woken_comm == \"dstall\") | .tid" | wc -l)" 2 4
stop_agent
"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null
[ -n "${LONG:-}" ] || finish

# ---- below it again: undone one by one -----------------------------------------------------------
# Without the load it is below half of this budget, with it above all of it.
budget=$((floor * 6 / 10 > idle * 24 / 10 ? floor * 6 / 10 : idle * 24 / 10))
echo "# $idle ppm idle, $floor ppm under the load at step 4, $high ppm at none: budget $budget ppm"
start_load
start_agent --post 1s --trigger 'kernel:reclaim>600s' \
	--cpu-budget "$(awk -v p="$budget" 'BEGIN {printf "%.4f%%", p / 10000}')" || { fail "agent starts"; finish; }
over() { [ "$(limit changes)" -ge 1 ]; }
ok "the load takes it above its budget" wait_for 120 over
if [ $((floor * 9)) -gt $((budget * 10)) ]; then
	ok "as far as the last step" wait_for 240 at_step 4
else
	skip "as far as the last step" "here the steps bring this load below what an idle host costs: $floor ppm, $idle ppm"
fi
stop_load
ok "without the load every step is undone" wait_for 300 at_step 0
ok "the programs are attached again" test -e "$PINS/stallbox/link_sched_waking" -a ! -e "$PINS/stallbox/limited_sched_waking"
spawn "$WORKLOADS/sleeper" 700 3 >/dev/null
sleeper=$SPAWNED
"$WORKLOADS/dstall" 2 1 >/dev/null
wait "$sleeper"
ok "a later freeze gives a bundle" freeze
history=$("$STALLBOX" info --json "$BUNDLE" | jq -r '.marks[] | select(.kind == "limit") | .text[5:6]' | tr '\n' ' ')
like "it tells the whole history, up and down one by one: $history" "$history" '^(1 0 |1 2 1 0 |1 2 3 2 1 0 |1 2 3 4 3 2 1 0 )$'
back=$("$STALLBOX" info --json "$BUNDLE" | jq '[.marks[] | select(.kind == "limit") | .ts_ns] | last')
events "$BUNDLE" | jq -r "$short" >"$TEST_TMP/events"
end=$("$STALLBOX" info --json "$BUNDLE" | jq .trigger.fired_ns)
n=$(count "$back" "$end" "$sleeps && duration_ns < 10000000")
between "short blocks are recorded again" "$n" 400 710
between "with user stacks, percent" $(($(count "$back" "$end" "$sleeps && duration_ns < 10000000 && ustack > 0") * 100 / (n ? n : 1))) 90 100
between "so are wakers" "$(count "$back" "$end" 'kind == "wakeup" && woken_comm == "dstall"')" 2 4
stop_agent
"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null
finish
