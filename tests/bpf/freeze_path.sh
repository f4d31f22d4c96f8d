#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The freeze path opens no file of a victim: strace of every process of the agent over a whole
# freeze. What may take a victim's mmap_lock comes only after the raw bundle is durable.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

if ! command -v strace >/dev/null; then
	skip "strace of a freeze" "strace is not installed"
	finish
fi
start_agent --post 1s || { fail "agent starts"; finish; }
# What stallbox-unwind and its helper read, they read at their leisure: no freeze waits for them. It comes after the agent is ready.
maps_kept() { pgrep -P "$AGENT" -x stallbox-unwind >"$TEST_TMP/leisure"; }
[ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" = true ] ||
	ok "who reads mappings is there" wait_for 60 maps_kept
to_watch() {
	local leisure
	leisure=$(pgrep -P "$AGENT" -x stallbox-unwind)
	echo "$AGENT"
	processes_of "$AGENT" | grep -vxF "${leisure:-none}
$([ -z "$leisure" ] || processes_of "$leisure")"
}
all_watched() { # but what has ended since it was listed
	local p status
	for p in $(to_watch); do
		status=$(cat "/proc/$p/status" 2>/dev/null) || continue
		grep -qE "^TracerPid:.$st$|^State:.Z" <<<"$status" || return
	done
}
watch=(strace -f -ttt -y -e 'trace=open,openat,openat2,fsync,fdatasync,rename,renameat,renameat2,write,sendto' -s 200)
# A process that ends while strace comes is not watched, nor is one that another begins meanwhile: then all anew.
for _ in 1 2 3 4 5; do
	mapfile -t args < <(to_watch | sed 's/^/-p/')
	"${watch[@]}" -o "$TEST_TMP/strace.out" "${args[@]}" 2>"$TEST_TMP/strace.err" &
	st=$!
	TEST_PIDS+=("$st")
	if ! wait_for 10 grep -q attached "$TEST_TMP/strace.err"; then
		skip "strace of a freeze" "ptrace is not allowed here: $(head -n 1 "$TEST_TMP/strace.err")"
		finish
	fi
	wait_for 10 all_watched && break
	kill -INT "$st"
	wait "$st" 2>/dev/null
done
ok "every process of the freeze is watched" all_watched
"$WORKLOADS/sleeper" 5 20 >/dev/null
ok "a freeze gives a bundle" freeze
kill -INT "$st"
wait "$st" 2>/dev/null

victim='/proc/[0-9]+/(task/[0-9]+/)?(maps|cmdline|environ|exe|mem|smaps|smaps_rollup|numa_maps)"'
"${watch[@]}" -o "$TEST_TMP/control.out" cat "/proc/$$/maps" "/proc/$$/task/$$/environ" >/dev/null
is "who opens a victim's files is seen to do so" "$(grep -cE "$victim" "$TEST_TMP/control.out")" 2
ok "the agent's own calls are in the trace" grep -qE "^$AGENT .*(write|sendto)\(" "$TEST_TMP/strace.out"
ok "the trace holds the writing of the bundle" grep -qE 'renameat.*stall.pb.zst' "$TEST_TMP/strace.out"
renamed=$(grep -nE 'renameat?2?\(.*stall\.pb\.zst' "$TEST_TMP/strace.out" | head -n 1 | cut -d: -f1)
# The last fsync before the first look at a victim ends the raw part. Nobody is looked at where all are known.
first_victim=$(grep -nE "$victim" "$TEST_TMP/strace.out" | head -n 1 | cut -d: -f1)
[ -z "$first_victim" ] || between "victims are looked at, later (line of the first)" "$first_victim" $((renamed + 1)) 100000000
fsyncs=$(head -n "${first_victim:--0}" "$TEST_TMP/strace.out" | grep -cE 'fsync\([0-9]+<[^>]*stall\.pb\.zst')
between "both raw parts were synced before that" "$fsyncs" 2 10
is "no victim file before the raw bundle is durable" "$(head -n "${renamed:-0}" "$TEST_TMP/strace.out" | grep -cE "$victim")" 0
is "the agent itself never opens one" "$(grep -E "^$AGENT " "$TEST_TMP/strace.out" | grep -cE "$victim")" 0
finish
