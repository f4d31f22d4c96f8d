#!/usr/bin/env bash
# Reclaim spans against an independent count: bpftrace beside us, in the same run.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

DISK=${SCRATCH:-/var/tmp}
if ! command -v bpftrace >/dev/null; then
	skip "reclaim spans against bpftrace" "bpftrace is not installed"
	finish
fi
start_agent --post 1s --trigger 'kernel:reclaim>60s' || { fail "agent starts"; finish; }
bpftrace -e '
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /comm == "reclaim_count"/ { @spans = count(); @pages = sum(args->nr_reclaimed); }
tracepoint:vmscan:mm_vmscan_direct_reclaim_end /comm == "reclaim_count"/ { @spans = count(); @pages = sum(args->nr_reclaimed); }
BEGIN { printf("ready\n"); }' >"$TEST_TMP/bpftrace.out" 2>"$TEST_TMP/bpftrace.err" &
bt=$!
TEST_PIDS+=("$bt")
if ! wait_for 60 grep -q ready "$TEST_TMP/bpftrace.out"; then
	skip "reclaim spans against bpftrace" "bpftrace does not run on this kernel"
	finish
fi
"$WORKLOADS/reclaim_count" 96 32 "$DISK" >"$TEST_TMP/count.out" 2>&1
rc=$?
kill -INT "$bt"
wait "$bt"
if [ $rc = 77 ]; then
	skip "reclaim spans against bpftrace" "no memory controller: $(cat "$TEST_TMP/count.out")"
	finish
fi
ok "a freeze gives a bundle" freeze
spans=$(sed -n 's/^@spans: //p' "$TEST_TMP/bpftrace.out")
pages=$(sed -n 's/^@pages: //p' "$TEST_TMP/bpftrace.out")
events --kind reclaim --comm reclaim_count --no-stacks "$BUNDLE" >"$TEST_TMP/spans.json"
between "bpftrace saw reclaim" "${spans:-0}" 10 100000000
is "as many spans as bpftrace counted" "$(wc -l <"$TEST_TMP/spans.json")" "$spans"
is "as many pages as bpftrace summed" "$(jq -s 'map(.nr_reclaimed) | add' "$TEST_TMP/spans.json")" "$pages"
is "all of them memcg reclaim" "$(jq -r .reclaim "$TEST_TMP/spans.json" | sort -u)" memcg
ok "the collapsed reclaim stacks name the charge" bash -c "'$STALLBOX' fold --kind reclaim --comm reclaim_count '$BUNDLE' | grep -qE 'try_(to_free_mem_cgroup_pages|charge)'"
finish
