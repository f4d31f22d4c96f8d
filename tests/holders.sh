# shellcheck shell=bash
# Stalls whose holder is known, and whether the bundles name it. Shared by tests/bpf/*_holder.sh
# and tests/campaigns/holder; sourced after tests/lib.sh and tests/agent.sh.

field() { grep -oE "\b$2=[0-9]+" <<<"$1" | cut -d= -f2; }
fired_ns() { "$STALLBOX" info --json "$1" 2>/dev/null | jq .trigger.fired_ns; }

# bundle_between FROM_NS TO_NS: the complete bundle whose trigger fired in that time, in $BUNDLE.
bundle_between() {
	local b at
	for b in $(bundles); do
		complete "$b" || continue
		at=$(fired_ns "$b")
		if [ "$at" -ge "$1" ] && [ "$at" -le "$2" ]; then
			BUNDLE=$b
			return 0
		fi
	done
	return 1
}

# stall_once WORKLOAD...: one stall, its truth in $LINE and its bundle in $BUNDLE. 77: the workload
# cannot run here.
stall_once() {
	local rc
	LINE='' BUNDLE=''
	"$@" >"$TEST_TMP/stall.out" 2>"$TEST_TMP/stall.err"
	rc=$?
	[ $rc = 0 ] || return $rc
	LINE=$(grep -m 1 begin_ns "$TEST_TMP/stall.out")
	wait_for 60 bundle_between "$(field "$LINE" begin_ns)" "$(field "$LINE" end_ns)"
}

# chain_of BUNDLE COMM: of the mmap_lock of COMM with most waiters, as JSON.
chain_of() {
	"$STALLBOX" blame --json "$1" | jq -c --arg c "$2" \
		'[.[] | select(.lock == "mmap_lock" and (.waiters[0].comm == $c))] | max_by(.waiters | length)'
}

forget_bundles() { rm -f "$SPOOL"/*.stall.pb.zst; }
