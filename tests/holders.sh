# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Stalls whose holder is known, and whether the bundles name it. Shared by tests/bpf/*_holder.sh
# and tests/campaigns/holder; sourced after tests/lib.sh and tests/agent.sh.

field() { grep -oE "\b$2=[0-9]+" <<<"$1" | cut -d= -f2; }
fired_ns() { "$STALLBOX" info --json "$1" 2>/dev/null | jq .trigger.fired_ns; }

# bundle_between FROM_NS TO_NS: the complete bundle whose trigger fired in that time, in $BUNDLE.
# With UNFINISHED set also one that never got its names, for want of a CPU.
declare -A FIRED
bundle_between() {
	local b at
	for b in $(bundles); do
		[ -n "${FIRED[$b]:-}" ] || FIRED[$b]=$(fired_ns "$b")
		at=${FIRED[$b]}
		if [ -n "$at" ] && [ "$at" -ge "$1" ] && [ "$at" -le "$2" ] && { [ -n "${UNFINISHED:-}" ] || complete "$b"; }; then
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
	# shellcheck disable=SC2034 # for the caller
	LINE='' BUNDLE=''
	"$@" >"$TEST_TMP/stall.out" 2>"$TEST_TMP/stall.err"
	rc=$?
	[ $rc = 0 ] || return $rc
	LINE=$(grep -m 1 begin_ns "$TEST_TMP/stall.out")
	wait_for 60 bundle_between "$(field "$LINE" begin_ns)" "$(field "$LINE" end_ns)"
}

# The same, frozen by hand while most of its threads are in D state: for kernels that cannot tell
# how long a lock is waited for.
many_blocked() { [ "$(cat /proc/"$1"/task/*/stat 2>/dev/null | grep -c ') D ')" -ge 16 ]; }
stall_by_hand() {
	local rc pid
	LINE=''
	"$@" >"$TEST_TMP/stall.out" 2>"$TEST_TMP/stall.err" &
	pid=$!
	TEST_PIDS+=("$pid")
	wait_for 30 many_blocked "$pid" && freeze
	wait "$pid"
	rc=$?
	LINE=$(grep -m 1 begin_ns "$TEST_TMP/stall.out")
	[ $rc = 0 ] || return $rc
	[ "$(fired_ns "$BUNDLE")" -ge "$(field "$LINE" begin_ns)" ] && [ "$(fired_ns "$BUNDLE")" -le "$(field "$LINE" end_ns)" ]
}

# chain_of BUNDLE COMM [PID]: of the mmap_lock of COMM, of that process, with most waiters, as JSON.
chain_of() {
	"$STALLBOX" blame --json "$1" | jq -c --arg c "$2" --arg pid "${3:-}" \
		'[.[] | select(.lock == "mmap_lock" and .of.comm == $c and ($pid == "" or "\(.of.pid)" == $pid))] | max_by(.waiters | length)'
}

forget_bundles() { rm -f "$SPOOL"/*.stall.pb.zst; }

# watch_holds COMM: every hold of mmap_lock of 1 ms and more, by the kernel's own tracepoints: an
# independent witness. khugepaged takes the lock of others. A writer that goes on as a reader acquires it again without a release.
watch_holds() {
	: >"$TEST_TMP/holds"
	command -v bpftrace >/dev/null || return 1
	bpftrace -B line -e '
tracepoint:mmap_lock:mmap_lock_acquire_returned /(comm == "'"$1"'" || comm == "khugepaged") && args->success && !@b[tid]/ { @b[tid] = nsecs; @w[tid] = args->write; }
tracepoint:mmap_lock:mmap_lock_released /@b[tid]/ {
	if (nsecs - @b[tid] > 1000000) { printf("hold tid=%d begin_ns=%llu end_ns=%llu write=%d\n", tid, @b[tid], nsecs, @w[tid]); }
	delete(@b[tid]); delete(@w[tid]);
}
BEGIN { printf("ready\n"); }
END { clear(@b); clear(@w); }' >"$TEST_TMP/holds" 2>"$TEST_TMP/bpftrace.err" &
	WATCH=$!
	TEST_PIDS+=("$WATCH")
	wait_for 90 grep -q ready "$TEST_TMP/holds"
}
unwatch_holds() {
	[ -n "${WATCH:-}" ] || return 0
	kill -INT "$WATCH" 2>/dev/null
	ends_within 30 "$WATCH" || kill -KILL "$WATCH"
	wait "$WATCH" 2>/dev/null
	WATCH=
}

# accused BUNDLE COMM [PID]: "TID FOUND FROM_NS TO_NS [MODE]": the end of the chain at the stackshot. Where the
# wait that fired had ended by then: the owner that its record names, and when it waited. MODE: as what
# it waits itself, if it does.
accused() {
	local info chain
	info=$("$STALLBOX" info --json "$1")
	chain=$(chain_of "$1" "$2" "${3:-}")
	if [ -n "$chain" ] && [ "$chain" != null ]; then
		jq -r --argjson i "$info" '.waiters as $w | .chain[-1] | .tid as $t |
			"\(.tid // 0) \(.found) \($i.stackshot_begin_ns) \($i.stackshot_end_ns) \([$w[] | select(.tid == $t) | .mode][0] // "-")"' <<<"$chain"
		return
	fi
	events --kind lock-wait --comm "$2" --no-stacks "$1" |
		jq -s -r --argjson at "$(jq .trigger.fired_ns <<<"$info")" '
			map(select(.lock == "mmap_lock" and (.ts_ns - $at | fabs) <= 20000000)) | max_by(.duration_ns) |
			"\(.owner_tid // 0) ended \(.ts_ns - .duration_ns) \(.ts_ns)"'
}

# judge_held BUNDLE OUTPUT COMM: one line, its first word "named" or "missed". Named is who held
# mmap_lock then by the tracepoints; who was next, if nobody held it throughout the stackshot and for
# more than 20 ms. A reader is given the lock when it is woken, beside other readers, which the
# tracepoints see only when it runs: a writer alone gives it the lie. Without a witness: who was
# in an access to one page all the time by its own clock (OUTPUT of reclaim_storm --writers).
judge_held() {
	local tid found from to mode
	read -r tid found from to mode < <(accused "$1" "$3")
	awk -v mode="${mode:--}" -v tid="${tid:-0}" -v found="${found:-none}" -v from="${from:-0}" -v to="${to:-0}" -v witness="$(grep -c ^hold "$TEST_TMP/holds")" '
		{ split($2, t, "="); split($3, b, "="); split($4, e, "=") }
		b[2] > to || e[2] < from { next }
		$1 == "hold" { holders++; if (t[2] == tid) held = 1
			if (b[2] <= from && e[2] >= to && e[2] - b[2] > 20000000 && (mode != "read" || $5 == "write=1")) throughout++ }
		$1 == "fault" && t[2] == tid { fault = e[2] - b[2] }
		$1 == "wait" { waiters++; if (e[2] - b[2] > longest) longest = e[2] - b[2] }
		END {
			if (found == "unknown" || !tid) verdict = "missed"
			else if (!witness) verdict = fault ? "named" : "missed"
			else if (found == "woken") verdict = throughout ? "missed" : "named"
			else verdict = held ? "named" : "missed"
			printf "%s tid=%d found=%s fault_ns=%.0f held=%d holders=%d waits=%d longest_ns=%.0f\n",
				verdict, tid, found, fault, held, holders, waiters, longest
		}' "$2" "$TEST_TMP/holds"
}

# storm SECONDS OUTPUT: reclaim_storm with threads that wait for it.
storm() {
	local size=(--limit 256 --file-threads 256 --anon-threads 64)
	[ -z "${STALLBOX_IN_VM:-}" ] || size=(--limit 512 --file-threads 32 --anon-threads 8 --file-percent 85 --anon-percent 40)
	"$WORKLOADS/reclaim_storm" "${size[@]}" --writers 4 --seconds "$1" --dir "${SCRATCH:-/var/tmp}" >"$2" 2>"$TEST_TMP/storm.err"
}

all_complete() {
	local b
	for b in $(bundles); do complete "$b" || return 1; done
}
