#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A reclaim storm in a small memory cgroup: a page fault reclaims with mmap_lock held while threads
# that map and unmap wait. Blame names who held it, by an independent witness.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../holders.sh"

start_agent --post 0s --cooldown 2s --trigger 'kernel:mmap-lock-wait>100ms:comm=reclaim_storm:name=storm' ||
	{ fail "agent starts"; finish; }
if grep -q 'waits for locks' "$AGENT_LOG"; then
	skip "blame names who reclaims with the lock held" "no lock tracepoints on this kernel"
	finish
fi
lru=/sys/kernel/mm/lru_gen/enabled
was=$(cat $lru 2>/dev/null)
extra_cleanup() { [ -z "$was" ] || echo "$was" >$lru; }
# With per-VMA locks a page fault holds no mmap_lock; the chain to it is what fuse_holder tests.
if grep -qw lock_vma_under_rcu /proc/kallsyms; then
	skip "blame names who reclaims with the lock held" "page faults take the lock of the VMA on this kernel"
	finish
fi
watch_holds reclaim_storm || { skip "blame names who reclaims with the lock held" "no independent witness: bpftrace: $(tail -n 1 "$TEST_TMP/bpftrace.err" 2>/dev/null)"; finish; }
modes=as-it-is
[ -w $lru ] && [ -z "${STALLBOX_SHORT:-}" ] && modes="n y"
for mode in $modes; do
	[ "$mode" = as-it-is ] || echo "$mode" >$lru
	forget_bundles
	storm "${SECONDS_OF_STORM:-25}" "$TEST_TMP/storm.out"
	rc=$?
	if [ $rc = 77 ]; then
		skip "blame names who reclaims with the lock held" "$(cat "$TEST_TMP/storm.err")"
		finish
	fi
	ok "every bundle is completed" wait_for 90 all_complete
	named=0 all=0 wrong=0
	for b in $(bundles); do
		verdict=$(judge_held "$b" "$TEST_TMP/storm.out" reclaim_storm)
		echo "# $verdict"
		all=$((all + 1))
		case $verdict in
		named*) named=$((named + 1)) ;;
		*)
			"$STALLBOX" blame --stacks "$b" | sed 's/^/# /'
			[ "$(chain_of "$b" reclaim_storm | jq '.chain[-1].proven')" != true ] || wrong=$((wrong + 1))
			;;
		esac
	done
	between "LRU_GEN $mode: the storm was frozen" "$all" 1 1000
	is "LRU_GEN $mode: a thread that did not hold it is never said to be proven" "$wrong" 0
	# How often is what the long series (make check-holder) measures, on a machine that does nothing else:
	# the lock changes hands while the stackshot looks, the more the longer that takes.
	between "LRU_GEN $mode: who held the lock is named more often than not" "$named" $((all / 2 + 1)) "$all"
done
finish
