#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Reclaim spans, each with all of its counts, against the kernel's own event log (tracefs) of the
# same thread in the same run.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../tracefs.sh"

DISK=${SCRATCH:-/var/tmp}
if ! open_log 65536; then
	skip "reclaim spans against tracefs" "tracefs gives no instance of its own"
	finish
fi
events=(mm_vmscan_memcg_reclaim_begin mm_vmscan_memcg_reclaim_end mm_vmscan_direct_reclaim_begin
	mm_vmscan_direct_reclaim_end mm_vmscan_lru_shrink_inactive mm_vmscan_lru_isolate mm_vmscan_throttled
	mm_shrink_slab_end)
of() { # COMM: its events
	local e
	for e in "${events[@]}"; do echo "vmscan/$e:comm == \"$1\""; done
}
mapfile -t logged < <(of reclaim_count)
log_events "${logged[@]}"
# Ends of spans at which the kernel left our program out: from 7.0 on it may be preempted, and does not run again on its
# CPU before it has ended. Told as runs, by program.
missed_ends() {
	"$STALLBOX" export --format ndjson "$BUNDLE" | jq -s '[.[] | select(.type == "program" and (.name | test("^(memcg|direct)_end$"))) | .recursion_misses] | add'
}
start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
"$WORKLOADS/reclaim_count" 96 32 "$DISK" >"$TEST_TMP/count.out" 2>&1
rc=$?
stop_log
if [ $rc = 77 ]; then
	skip "reclaim spans against tracefs" "no memory controller: $(cat "$TEST_TMP/count.out")"
	finish
fi
ok "a freeze gives a bundle" freeze
is "tracefs lost nothing" "$(log_lost)" 0
# A line a span: reclaimed scanned taken activated ref_keep dirty writeback slab_freed throttled_us priority
awk '
function value(name) { return match($0, "[ ]" name "=[-0-9]+") ? substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2) + 0 : 0 }
/_reclaim_begin:/ { s = t = a = k = d = w = slab = us = 0; p = 12; open = 1 }
!open { next }
/lru_shrink_inactive:/ {
	s += value("nr_scanned"); d += value("nr_dirty"); w += value("nr_writeback"); k += value("nr_ref_keep")
	a += value("nr_activate_anon") + value("nr_activate_file")
	if (value("priority") < p) p = value("priority")
}
/lru_isolate:/ { t += value("nr_taken") }
/mm_vmscan_throttled:/ { us += value("usect_delayed") }
/mm_shrink_slab_end:/ { if ($NF > 0) slab += $NF }
/_reclaim_end:/ { print value("nr_reclaimed"), s, t, a, k, d, w, slab, us, p; open = 0 }
' "$LOG/trace" >"$TEST_TMP/log"
events --kind reclaim --comm reclaim_count --no-stacks "$BUNDLE" >"$TEST_TMP/spans.json"
jq -r '"\(.nr_reclaimed) \(.nr_scanned) \(.nr_taken) \(.nr_activate) \(.nr_ref_keep) \(.nr_dirty) \(.nr_writeback) \(.slab_freed) \(.throttled_ns / 1000 | round) \(.priority)"' \
	"$TEST_TMP/spans.json" >"$TEST_TMP/ours"
between "tracefs saw reclaim" "$(wc -l <"$TEST_TMP/log")" 10 100000000
if ! grep -q 'lru_shrink_inactive:' "$LOG/trace"; then
	skip "and pages scanned" "the multi-generational LRU of this kernel does not trace what it scans: such spans have reclaimed pages, none scanned"
	ok "which the agent says" log_has 'pages scanned by reclaim'
else
	between "and pages scanned" "$(awk '{n += $2} END {print n + 0}' "$TEST_TMP/log")" 1000 1000000000
	is "which the agent does not say that it lacks" "$(grep -c 'pages scanned by reclaim' "$AGENT_LOG")" 0
fi
is "as many spans as tracefs logged" "$(wc -l <"$TEST_TMP/ours")" "$(wc -l <"$TEST_TMP/log")"
is "each with exactly its counts" "$(diff "$TEST_TMP/ours" "$TEST_TMP/log" | head -n 5)" ""
is "all of them memcg reclaim" "$(jq -r .reclaim "$TEST_TMP/spans.json" | sort -u)" memcg
ok "the collapsed reclaim stacks name the charge" bash -c "'$STALLBOX' fold --kind reclaim --comm reclaim_count '$BUNDLE' | grep -qE 'try_(to_free_mem_cgroup_pages|charge)'"
missed=$(missed_ends)
stop_agent

# A storm: short spans are sampled, and what is left out is counted.
storm=(--limit 256 --file-threads 64 --anon-threads 16)
[ -z "${STALLBOX_IN_VM:-}" ] || storm=(--limit 96 --file-threads 16 --anon-threads 4)
MEMORY=64M start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
events=(mm_vmscan_memcg_reclaim_end mm_vmscan_direct_reclaim_end)
mapfile -t logged < <(of reclaim_storm)
log_events "${logged[@]}"
"$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds 60 --dir "$DISK" >"$TEST_TMP/storm" 2>&1 &
storm_pid=$!
TEST_PIDS+=("$storm_pid")
ends() { [ "$(grep -c '_reclaim_end:' "$LOG/trace")" -ge "$1" ]; }
ok "a storm reclaims" wait_for 60 ends "$([ -n "${STALLBOX_IN_VM:-}" ] && echo 20 || echo 1000)"
kill "$storm_pid"
wait "$storm_pid"
stop_log
ok "and is frozen" freeze
is "tracefs lost nothing of it" "$(log_lost)" 0
produced=$(grep -c '_reclaim_end:' "$LOG/trace")
events --kind reclaim --comm reclaim_storm --no-stacks "$BUNDLE" | jq -s '[length, (map(.weight) | add // 0)] | .[]' >"$TEST_TMP/storm.n"
{ read -r recorded; read -r stands_for; } <"$TEST_TMP/storm.n"
lost=$("$STALLBOX" info --json "$BUNDLE" | jq '[.losses[] | select(.kind == "reclaim") | .count] | add // 0')
missed=$(($(missed_ends) - missed))
echo "# $produced spans, $recorded recorded, which stand for $stands_for, $lost not recorded, $missed ends left out by the kernel"
if [ "$missed" = 0 ]; then
	is "recorded and lost are what happened" $((recorded + lost)) "$produced"
else
	# Of other threads as well, and until the freeze.
	between "recorded, lost and left out are what happened" $((recorded + lost)) $((produced - missed)) "$produced"
fi
between "the weights of those recorded stand for the others" "$stands_for" "$recorded" "$produced"
stop_agent

# Short spans one after the other on one CPU, more than its budget: each that is recorded stands for those left out
# since the one before, so that the weights up to it are the number of spans up to it. Counted from nothing.
"$STALLBOXD" --unload --bpffs "$PINS"
MEMORY=64M start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
mapfile -t logged < <(of reclaim_count)
log_events "${logged[@]}"
taskset -c 0 "$WORKLOADS/reclaim_count" 2048 16 "$DISK" holes >"$TEST_TMP/count.out" 2>&1
stop_log
ok "short spans are frozen" freeze
is "tracefs lost none of them" "$(log_lost)" 0
awk '/_reclaim_end:/ { for (i = 1; i <= NF; i++) if ($i ~ /^\[[0-9]+\]$/) printf "%.0f\n", $(i + 2) * 1e9 }' "$LOG/trace" >"$TEST_TMP/ends"
events --kind reclaim --comm reclaim_count --no-stacks "$BUNDLE" | jq -r '"\(.ts_ns) \(.duration_ns) \(.weight // 1)"' | sort -n >"$TEST_TMP/short"
produced=$(wc -l <"$TEST_TMP/ends") recorded=$(wc -l <"$TEST_TMP/short")
lost=$("$STALLBOX" info --json "$BUNDLE" | jq '[.losses[] | select(.kind == "reclaim") | .count] | add // 0')
echo "# $produced spans, $recorded recorded, $lost not recorded"
is "recorded and left out are what happened" $((recorded + lost)) "$produced"
if [ "$lost" = 0 ] && [ -n "${STALLBOX_IN_VM:-}" ]; then
	skip "weights of short spans" "the emulated CPU makes no more of them than the budget allows"
else
	between "short spans were left out" "$lost" 1 "$produced"
	# Long ones, from 1 ms on, stand for themselves only.
	is "each weight is those left out since the record before" "$(awk '
		NR == FNR { end[++n] = $1; next }
		{
			while (at < n && (!at || end[at] <= $1 - $2)) at++ # the first end after it began: one thread, one span at a time
			sum += $3
			if ($2 < 1000000 && sum != at && !bad++) print "record " FNR ": weights up to it " sum ", spans " at
		}' "$TEST_TMP/ends" "$TEST_TMP/short")" ""
fi
finish
