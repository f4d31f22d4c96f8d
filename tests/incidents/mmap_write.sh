#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The story of one big mapping operation: a thread maps S bytes of a file and
# waits for a dirty page of it, with mmap_lock held for writing, and
# every other thread of the process that needs it waits. No pressure file tells of it.
#
# It proves: the default trigger mmap-lock-wait fires within 10 ms of its second; the report says that thread T holds
# mmap_lock for writing in mmap() of S bytes and that N threads wait, with the T, S and N that the workload knows;
# blame names T by the lock's owner field, with its stack; the bundle holds the seconds before, every thread that waited,
# how long, and when the lock was let go; no lock wait is lost.
. "$(dirname "$0")/lib.sh"

late_ms=10
[ -z "${STALLBOX_IN_VM:-}" ] || late_ms=200
start_default || { fail "agent starts"; finish; }
if grep -q 'waits for locks' "$AGENT_LOG"; then
	skip "mmap_lock held for writing" "this kernel has no tracepoints for waits for locks"
	finish
fi
TO_ITS_END=1 incident mmap-lock-wait "$INCIDENT" fuse-fault mmap 1 2.5
case $? in
0) ;;
77) cannot_run "mmap_lock held for writing" ;;
*) fail "the default trigger fires"; finish ;;
esac
fired=$(info .trigger.fired_ns)
line=$(at_the_time "$fired")
echo "# $line"
tid=$(field "$line" tid) begin=$(field "$line" begin_ns) end=$(field "$line" end_ns) waiters=$(field "$line" waiters)
bytes=$(field "$line" bytes) pid=$(truth ^pid= pid)
fired_in "mmap-lock-wait" 1000 $((1000 + late_ms))
# The server notes that it was asked a moment after the lock was taken.
between "it fires while the lock is held: ms after it was taken" $(((fired - begin) / 1000000)) 950 $(((end - begin) / 1000000))
holds_before "mmap_lock held for writing"

chain=$(chain_of "$BUNDLE" stallbox-worklo)
# Whoever looks at the process waits for the lock like its own threads, of which alone the workload knows.
looking=0
if [ "${CONDITION:-}" = ps ]; then
	looking=$(jq '[.waiters[] | select(.comm == "ps")] | length' <<<"$chain")
	between "ps is among those who wait" "$looking" 1 10
fi
human=$(awk -v b="$bytes" 'BEGIN { split("bytes KiB MiB GiB TiB", u); for (i = 1; b >= 1024 && i < 5; i++) b /= 1024; printf "%.1f %s", b, u[i] }')
is "the first cause is the queue for mmap_lock" "$(jq -r '.causes[0].rule' <<<"$REPORT")" mmap-lock-stall
like "the sentence: T holds mmap_lock for writing in mmap() of S bytes, N threads wait" "$(cause_of mmap-lock-stall)" \
	"stallbox-worklo\\[$pid\\] tid $tid has held it for writing in mmap\\(\\) of ${human//./\\.} for [0-9.]+ m?s; $((waiters + looking)) threads wait"
between "S is what the workload maps, to a page" $(($(fact mmap.holder_call_bytes) - bytes)) -4096 4096
is "N is how many it counts itself" "$(fact mmap.freeze_waiters)" $((waiters + looking))
age=$(jq '.facts["mmap.holder_call_age"] * 1000 | round' <<<"$REPORT")
between "the call's age, ms off the workload's clock" $((age - (fired - begin) / 1000000)) -100 100

is "blame names the holder, by the lock itself" "$(jq -c '[.chain[0].tid, .chain[0].proven]' <<<"$chain")" "[$tid,true]"
like "with its stack" "$("$STALLBOX" blame --stacks "$BUNDLE")" "held by stallbox-worklo [0-9]+/$tid \\(owner\\)[^:]*(filemap_fdatawait|folio_wait|wait_on_page|fuse_|write_inode_now|writeback)"

# Each wait that ended when the lock was let go. A wait is longer than half of the hold for those whom the workload counts.
events --kind lock-wait --comm stallbox-worklo --no-stacks "$BUNDLE" |
	jq -s --argjson b "$begin" --argjson e "$end" '[.[] | select(.lock == "mmap_lock" and .duration_ns >= ($e - $b) / 2 and .ts_ns > $b)]' >"$TEST_TMP/waits"
is "as many threads have a wait of that length in the bundle" "$(jq '[.[].tid] | unique | length' "$TEST_TMP/waits")" "$waiters"
is "each of them for the thread that held it" "$(jq -c '[.[].owner_tid] | unique' "$TEST_TMP/waits")" "[$tid]"
between "the longest of them, ms off the workload's longest" "$(jq --argjson w "$(field "$line" longest_wait_ns)" '((map(.duration_ns) | max) - $w) / 1000000 | round' "$TEST_TMP/waits")" -$((late_ms * 10)) $((late_ms * 10))
between "the first of them ended, ms after the operation" "$(jq --argjson e "$end" '((map(.ts_ns) | min) - $e) / 1000000 | round' "$TEST_TMP/waits")" -$((late_ms * 2)) $((late_ms * 10))
lost_nothing "mmap_lock held for writing" lock-wait
finish
