#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# While a page fault that does not return keeps the mmap_lock of a process, /proc/PID/maps of it
# stands still. Its threads have whole user stacks and names all the same, and nobody waits for it.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

start_agent --post 0s --cooldown 0s --cpu-budget 100% --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
if [ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" = true ]; then
	skip "names during a held mmap_lock" "this kernel or build has no walk by tables, so nobody knows the mappings"
	finish
fi
ok "the host's processes become known" wait_for 60 known
# Until the part before the trigger is on disk, in ms.
durable() { "$STALLBOX" info "$BUNDLE" | sed -n 's/.*history durable \([0-9]*\) ms.*/\1/p'; }
ok "a freeze before" freeze
before=$(durable)

"$WORKLOADS/fuse_fault" write 1 20 >"$TEST_TMP/fuse" 2>&1 &
fuse=$!
TEST_PIDS+=("$fuse")
in_d() { cat /proc/"$fuse"/task/*/stat 2>/dev/null | grep -c ') D '; }
# Without its server the fault returns. pkill would look at its command line, and wait.
test_release() {
	local server
	read -r server _ <"/proc/$fuse/task/$fuse/children"
	kill -KILL "$server"
}
stalled() { ! kill -0 "$fuse" 2>/dev/null || [ "$(in_d)" -ge 16 ]; }
wait_for 60 stalled
if ! kill -0 "$fuse" 2>/dev/null; then
	skip "names during a held mmap_lock" "$(tail -n 1 "$TEST_TMP/fuse")"
	finish
fi
ok "a freeze while it is held" freeze
during=$(durable)
stuck=$(in_d)
timeout 0.2 cat "/proc/$fuse/maps" >/dev/null 2>&1
rc=$?
echo "# durable after $before ms before, $during ms while $stuck threads stand; cat of its maps: status $rc"
is "who reads its mappings does not come back" "$rc" 124
# Both on disk within ten times what it took before, and a second for an emulated CPU that others keep busy; the lock is held for 20 s.
between "and the freeze takes no longer, in ms, than before ($before)" "$during" 0 $((before * 10 + 1000))
between "which is far less than the lock is held" "$during" 0 5000
between "they still stand when the bundle is complete" "$stuck" 16 1000
is "its mappings were known" "$("$STALLBOX" export --format ndjson "$BUNDLE" |
	jq -r "select(.type == \"process\" and .pid == $fuse) | .maps" | sort -u)" known
"$STALLBOX" fold --kind blocked --pid "$fuse" "$BUNDLE" >"$TEST_TMP/fold"
whole=$(awk '/;start_thread;convoy_thread;/ { n += $NF } END { print n + 0 }' "$TEST_TMP/fold")
all=$(awk '{ n += $NF } END { print n + 0 }' "$TEST_TMP/fold")
if [ "$whole" -ge 16 ]; then
	pass "its threads have whole stacks with names ($whole of $all)"
else
	fail "its threads have whole stacks with names" "$whole of $all" "$(head -n 5 "$TEST_TMP/fold")"
fi
finish
