#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A page fault that does not return keeps mmap_lock for reading, or the lock of its VMA: blame
# names it while a writer and 32 threads queue, and says how it knows.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../holders.sh"

RUNS=${RUNS:-3}
start_agent --post 0s --cooldown 1500ms --trigger 'kernel:mmap-lock-wait>200ms:comm=fuse_fault:name=fuse' ||
	{ fail "agent starts"; finish; }
stall=stall_once seconds=1.5
if grep -q 'waits for locks' "$AGENT_LOG"; then
	# Linux 5.10: no lock tracepoints, nothing fires. What the stacks say must do.
	stall=stall_by_hand seconds=6
fi

for mode in read write; do
	named=0 queued=0
	for ((i = 0; i < RUNS; i++)); do
		$stall "$WORKLOADS/fuse_fault" "$mode" 1 $seconds
		rc=$?
		if [ $rc = 77 ]; then
			skip "blame names a page fault that does not return" "$(cat "$TEST_TMP/stall.err")"
			finish
		fi
		[ $rc = 0 ] || { fail "the stall of run $i is frozen" "$(cat "$TEST_TMP/stall.err")" "$(tail -n 5 "$AGENT_LOG")"; continue; }
		chain=$(chain_of "$BUNDLE" fuse_fault)
		echo "# $mode: $LINE; $(jq -c '[.waiters | length] + [.chain[] | .found, .proven, .tid]' <<<"$chain")"
		[ "$(jq '.chain[-1].tid' <<<"$chain")" = "$(field "$LINE" tid)" ] && named=$((named + 1))
		[ "$(jq '.waiters | length' <<<"$chain")" -ge 16 ] && queued=$((queued + 1))
		[ "$(jq '.chain[-1].tid' <<<"$chain")" = "$(field "$LINE" tid)" ] || "$STALLBOX" blame --stacks "$BUNDLE" | sed 's/^/# /'
		forget_bundles
	done
	is "$mode: the chain ends with the thread in the page fault" "$named" "$RUNS"
	is "$mode: most of the 32 threads are in the queue" "$queued" "$RUNS"
done
finish
