#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The verdict on stalls made for real: each is named, with who caused it; the other views of the same
# bundles show it too.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

DISK=${SCRATCH:-/var/tmp}
mib=24576 queue=32 wait_ms=60
storm=(--ramp 1) # of its 320 threads thousands stand in reclaim for 300 ms; of 80 so few that another disk may show none
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	# Up to 6.3 a page fault takes the lock: thirty threads of an emulated CPU wait that long for each other.
	mib=14400 queue=8 wait_ms=100
	storm=(--limit 512 --file-threads 32 --anon-threads 8 --file-percent 85 --anon-percent 40)
fi
never=kernel:reclaim\>600s
report() { "$STALLBOX" report "$@" 2>/dev/null; }
said() { report "$@" | tr -s ' \n' ' '; }
has_rule() { report --json "$BUNDLE" | jq -r '.causes[].rule' | grep -qx "$1"; }
cause() { report --json "$BUNDLE" | jq -r --arg r "$1" '.causes[] | select(.rule == $r) | .text[]'; }
# names WHAT RULE PATTERN: the rule speaks and its text matches
names() {
	if has_rule "$2"; then
		pass "$1: $2 speaks ($(report --json "$BUNDLE" | jq -r --arg r "$2" '.causes[] | select(.rule == $r) | .confidence') of 100)"
	else
		fail "$1: $2 speaks" "$(report "$BUNDLE")"
	fi
	like "$1: it names the culprit" "$(cause "$2")" "$3"
}
one() { log_has '^complete:' && complete "$(newest_bundle)"; }
read_out() { [ "$(status_of .state)" = cooldown ]; }
keep_bundle() { [ -z "${STALLBOX_ARTIFACTS:-}" ] || cp "$BUNDLE" "$STALLBOX_ARTIFACTS/$1.stall.pb.zst"; }
# incident NAME TRIGGER COMMAND...: until the trigger has fired and its window is over; then its bundle, $BUNDLE, is
# completed. NEEDS: evidence that the agent may say it lacks. POST: how long the window is. TO_ITS_END: of the command, which
# tells at its end what it did.
incident() {
	local name=$1 trigger=$2
	shift 2
	SPOOL=$TEST_TMP/spool-$name
	start_agent --post "${POST:-8s}" --cooldown 120s --trigger "$trigger" || { fail "$name: agent starts"; return 1; }
	if [ -n "${NEEDS:-}" ] && grep -q "$NEEDS" "$AGENT_LOG"; then
		skip "$name: the verdict" "this kernel has no tracepoints for $NEEDS"
		stop_agent
		return 1
	fi
	"$@" >"$TEST_TMP/$name.out" 2>&1 &
	local pid=$!
	TEST_PIDS+=("$pid")
	ok "$name: it fires, and all of its window is recorded" wait_for 120 read_out
	[ -n "${TO_ITS_END:-}" ] || kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	ok "$name: a bundle is completed" wait_for 120 one
	BUNDLE=$(newest_bundle)
	stop_agent
	[ -n "$BUNDLE" ] && keep_bundle "$name"
}

# ---- memory: threads in a small cgroup take pages from each other
if incident reclaim 'kernel:reclaim>300ms' "$WORKLOADS/reclaim_storm" "${storm[@]}" --seconds 90 --dir "$DISK"; then
	names reclaim reclaim-livelock 'reclaim_storm\[[0-9]+\]'
	spans=$(events --no-stacks --kind reclaim "$BUNDLE" | wc -l)
	if [ "$spans" = 0 ]; then
		skip "reclaim: the other views" "no reclaim span ended in the time recorded"
	else
		is "reclaim: hist counts what events list" "$("$STALLBOX" hist reclaim --json "$BUNDLE" | jq -s 'map(.count) | add')" \
			"$(events --no-stacks --kind reclaim "$BUNDLE" | jq -s 'map(.weight // 1) | add')"
		is "reclaim: the storm leads the table" "$("$STALLBOX" top --sort reclaim --json "$BUNDLE" | sed -n 2p | jq -r '.group | split(" ")[0]')" reclaim_storm
		is "reclaim: fold, top and hist agree on the time" \
			"$("$STALLBOX" fold --kind reclaim --weight ns "$BUNDLE" | awk '{n += $NF} END {printf "%.0f\n", n}') $("$STALLBOX" hist reclaim --json "$BUNDLE" | jq .total_ns)" \
			"$("$STALLBOX" top --json "$BUNDLE" | head -n 1 | jq -r '.before.reclaim_ns + .after.reclaim_ns | "\(.) \(.)"')"
		between "reclaim: what is sampled while reclaiming stands in reclaim code (of 100)" "$("$STALLBOX" fold --while reclaim --kind on-cpu "$BUNDLE" |
			awk '{all += $NF} /shrink|reclaim|try_to_free|scan|_k]/ {in_it += $NF} END {print all ? int(100 * in_it / all) : 0}')" 60 100
	fi
fi

# ---- mmap_lock: one large operation, everybody else queues
if NEEDS='waits for locks' POST=${STALLBOX_IN_VM:+1}2s TO_ITS_END=1 incident mmap "kernel:mmap-lock-wait>${wait_ms}ms:comm=mmap_hold" "$WORKLOADS/mmap_hold" munlock 1 "$mib" "$queue"; then
	tid=$(grep -oE '\btid=[0-9]+' "$TEST_TMP/mmap.out" | head -n 1 | cut -d= -f2)
	names mmap mmap-lock-stall "mmap_hold\[[0-9]+\] tid ${tid:-none}\b"
	like "mmap: waiting for it is a flame graph" "$("$STALLBOX" fold --kind lock-wait --comm mmap_hold "$BUNDLE" | head -n 1)" '^mmap_hold;.*_\[k\] [0-9]+$'
fi

# ---- softirqs: a call keeps them off its CPU
if ! "$WORKLOADS/bh_stall" 10 1 1 >"$TEST_TMP/can" 2>&1; then
	skip "softirq: the verdict" "$(head -n 1 "$TEST_TMP/can")"
else
	SPOOL=$TEST_TMP/spool-softirq
	start_agent --post "${STALLBOX_IN_VM:+1}2s" --trigger "$never" || fail "softirq: agent starts"
	# The agent's own start is long calls as well: look at what comes after it.
	"$WORKLOADS/bh_stall" 150 200 1 >"$TEST_TMP/calls" 2>&1 &
	bh=$!
	TEST_PIDS+=("$bh")
	calls() { [ "$(grep -c end_ns "$TEST_TMP/calls")" -ge 20 ]; }
	ok "softirq: twenty calls" wait_for 60 calls
	ok "softirq: a freeze gives a bundle" freeze softirq
	kill "$bh" 2>/dev/null
	wait "$bh" 2>/dev/null
	stop_agent
	keep_bundle softirq
	names softirq softirq-delay 'bh_stall\[[0-9]+\] tid [0-9]+ spends up to [0-9.]+ m?s on the CPU in one bpf\(\)'
	before=$("$STALLBOX" order --before 'handle_softirqs|__do_softirq|ksoftirqd/1' --window 200ms --cpu 1 --since -3s "$BUNDLE")
	like "softirq: order shows the call before them" "$before" 'occurrences; what ran .* bh_stall [0-9]+ in bpf'
fi

passed() { [ $((SECONDS - since)) -ge "$1" ]; } # whole seconds since $since

# ---- a frozen filesystem: writers in D state
img=$TEST_TMP/img mnt=$TEST_TMP/mnt
extra_cleanup() {
	fsfreeze -u "$mnt" 2>/dev/null
	umount "$mnt" 2>/dev/null
}
mkdir -p "$mnt"
if ! { truncate -s 64M "$img" && mkfs.ext4 -q "$img" && mount -o loop "$img" "$mnt"; } >"$TEST_TMP/can" 2>&1; then
	skip "storage: the verdict" "no loop mount here: $(tail -n 1 "$TEST_TMP/can")"
else
	SPOOL=$TEST_TMP/spool-storage
	start_agent --post 2s --trigger "$never" || fail "storage: agent starts"
	fsfreeze -f "$mnt"
	writers=()
	for i in 1 2 3 4 5 6 7; do
		dd if=/dev/zero of="$mnt/$i" bs=4k count=1 2>/dev/null &
		writers+=($!)
	done
	in_d() { for p in "${writers[@]}"; do grep -q '^State:.D' "/proc/$p/status" || return 1; done; }
	ok "storage: seven writers stand" wait_for 30 in_d
	since=$SECONDS
	ok "storage: for two seconds" wait_for 10 passed 3
	ok "storage: a freeze gives a bundle" freeze storage
	fsfreeze -u "$mnt"
	wait "${writers[@]}"
	keep_bundle storage
	names storage storage-dstate '7 of them are named dd'
	is "storage: the table shows them" "$("$STALLBOX" top --by comm --json "$BUNDLE" | jq -c 'select(.group == "dd") | .freeze | [.D, (.longest_d_ns > 2e9)]')" '[7,true]'
	stop_agent
fi

# ---- more to run than CPUs
SPOOL=$TEST_TMP/spool-runq
start_agent --post 3s --trigger "$never" || fail "runq: agent starts"
"$WORKLOADS/spinner" 4 $(($(nproc) * 24)) >/dev/null &
spinner=$!
TEST_PIDS+=("$spinner")
many() { [ "$(awk '{split($4, r, "/"); print r[1]}' /proc/loadavg)" -ge $(($(nproc) * 20)) ]; }
ok "runq: the run queues are long" wait_for 30 many
since=$SECONDS
ok "runq: for a while" wait_for 20 passed 4
"$STALLBOX" freeze --socket "$SOCKET" -r runq >"$TEST_TMP/freeze"
BUNDLE=$(sed -n 's/^path=//p' "$TEST_TMP/freeze")
# Until all of its window is recorded. Who stores it does not have to wait for them.
wait_for 60 read_out
kill "$spinner" 2>/dev/null
wait "$spinner" 2>/dev/null
ok "runq: a freeze gives a bundle" wait_for 120 complete "$BUNDLE"
keep_bundle runq
names runq runq-saturation 'spinner\[[0-9]+\]'
like "runq: before and after are compared" "$("$STALLBOX" diff --folded "$BUNDLE" | grep -c '^spinner;')" '^[1-9]'
finish
