#!/usr/bin/env bash
# Reclaim spans, each with all of its counts, against the kernel's own event log (tracefs) of the
# same thread in the same run.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

DISK=${SCRATCH:-/var/tmp}
TRACE=/sys/kernel/tracing
LOG=$TRACE/instances/stallbox-test-$$
[ -d $TRACE/events ] || mount -t tracefs tracefs $TRACE 2>/dev/null
extra_cleanup() { [ ! -d "$LOG" ] || rmdir "$LOG"; }
if ! mkdir "$LOG" 2>/dev/null; then
	skip "reclaim spans against tracefs" "tracefs gives no instance of its own"
	finish
fi
events=(mm_vmscan_memcg_reclaim_begin mm_vmscan_memcg_reclaim_end mm_vmscan_direct_reclaim_begin
	mm_vmscan_direct_reclaim_end mm_vmscan_lru_shrink_inactive mm_vmscan_lru_isolate mm_vmscan_throttled
	mm_shrink_slab_end)
echo 65536 >"$LOG/buffer_size_kb"
for e in "${events[@]}"; do
	[ -d "$LOG/events/vmscan/$e" ] || continue # one that this kernel lacks
	echo 'comm == "reclaim_count"' >"$LOG/events/vmscan/$e/filter"
	echo 1 >"$LOG/events/vmscan/$e/enable"
done
start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
"$WORKLOADS/reclaim_count" 96 32 "$DISK" >"$TEST_TMP/count.out" 2>&1
rc=$?
echo 0 >"$LOG/tracing_on"
if [ $rc = 77 ]; then
	skip "reclaim spans against tracefs" "no memory controller: $(cat "$TEST_TMP/count.out")"
	finish
fi
ok "a freeze gives a bundle" freeze
is "tracefs lost nothing" "$(cat "$LOG"/per_cpu/cpu*/stats | awk '/^overrun:|^dropped events:/ {n += $NF} END {print n + 0}')" 0
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
finish
