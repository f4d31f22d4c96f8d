#!/usr/bin/env bash
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
between "and pages scanned" "$(awk '{n += $2} END {print n + 0}' "$TEST_TMP/log")" 1000 1000000000
is "as many spans as tracefs logged" "$(wc -l <"$TEST_TMP/ours")" "$(wc -l <"$TEST_TMP/log")"
is "each with exactly its counts" "$(diff "$TEST_TMP/ours" "$TEST_TMP/log" | head -n 5)" ""
is "all of them memcg reclaim" "$(jq -r .reclaim "$TEST_TMP/spans.json" | sort -u)" memcg
ok "the collapsed reclaim stacks name the charge" bash -c "'$STALLBOX' fold --kind reclaim --comm reclaim_count '$BUNDLE' | grep -qE 'try_(to_free_mem_cgroup_pages|charge)'"
stop_agent

# A storm: short spans are sampled, and what is left out is counted.
storm=(--limit 256 --file-threads 64 --anon-threads 16)
[ -z "${STALLBOX_IN_VM:-}" ] || storm=(--limit 96 --file-threads 16 --anon-threads 4)
MEMORY=64M start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
events=(mm_vmscan_memcg_reclaim_end mm_vmscan_direct_reclaim_end)
mapfile -t logged < <(of reclaim_storm)
log_events "${logged[@]}"
"$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds "${STALLBOX_IN_VM:+1}3" --dir "$DISK" >"$TEST_TMP/storm" 2>&1
stop_log
ok "a storm is frozen" freeze
is "tracefs lost nothing of it" "$(log_lost)" 0
produced=$(grep -c '_reclaim_end:' "$LOG/trace")
events --kind reclaim --comm reclaim_storm --no-stacks "$BUNDLE" | jq -s '[length, (map(.weight) | add // 0)] | .[]' >"$TEST_TMP/storm.n"
{ read -r recorded; read -r stands_for; } <"$TEST_TMP/storm.n"
lost=$("$STALLBOX" info --json "$BUNDLE" | jq '[.losses[] | select(.kind == "reclaim") | .count] | add // 0')
echo "# $produced spans, $recorded recorded, which stand for $stands_for, $lost not recorded"
between "there was reclaim in it" "$produced" 10 100000000
is "recorded and lost are what happened" $((recorded + lost)) "$produced"
between "the weights of those recorded stand for the others" "$stands_for" "$recorded" "$produced"
finish
