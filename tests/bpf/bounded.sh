#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Memory is fixed at start and printed: 10,000 processes and a storm of forks change nothing, what the tables cannot
# hold is evicted and counted, and a pid that is used again does not lend its new name to the old events.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

N=10000 FORKS=40000
if [ -n "${STALLBOX_IN_VM:-}" ]; then N=3000 FORKS=6000; fi
if [ "$(ulimit -u)" != unlimited ] && [ "$(ulimit -u)" -lt $((N + 1000)) ]; then
	skip "$N processes" "ulimit -u is $(ulimit -u)"
	finish
fi
MANY=
extra_cleanup() { [ -z "$MANY" ] || kill "$MANY" 2>/dev/null; }
rss() { awk '/^VmRSS:/ {print $2}' "/proc/$AGENT/status"; }
evicted() { status_of '.lost.tasks_evicted'; }

start_agent --post 1s || { fail "agent starts"; finish; }
printed=$(grep -oE '[0-9]+ MiB of kernel memory in all' "$AGENT_LOG" | cut -d' ' -f1)
# The kernel's own account of every map that the programs use.
real=0
for id in $(for p in "$PINS"/stallbox/link_sched_switch "$PINS"/stallbox/link_contention_end "$PINS"/stallbox/link_memcg_begin; do
	[ -e "$p" ] || continue
	prog=$(bpftool -j link show pinned "$p" | jq .prog_id)
	bpftool -j prog show id "$prog" | jq '.map_ids[]?'
done | sort -u); do
	bytes=$(bpftool -j map show id "$id" | jq '.bytes_memlock')
	real=$((real + bytes))
done
between "the kernel memory that it prints is what the kernel counts, in MiB" "$printed" $((real / 1048576 * 97 / 100)) $((real / 1048576 + 1))
freeze || fail "a freeze"
rss0=$(rss)
maps0=$(status_of '.map_bytes - (.unwind.room_bytes // 0)')

spawn "$WORKLOADS/many" $N >"$TEST_TMP/many"
MANY=$SPAWNED
ok "$N processes" wait_for 120 grep -q "ready pids=$N" "$TEST_TMP/many"
began=$(date +%s%N)
ok "a freeze among them" freeze
echo "# complete after $((($(date +%s%N) - began) / 1000000)) ms, stackshot after $(status_of .last.stackshot_ms) ms"
info=$("$STALLBOX" info --json "$BUNDLE")
between "has all of them in the stackshot" "$(jq -r .stackshot_threads <<<"$info")" "$N" 1000000
is "and dropped none" "$(jq '[.losses[] | select(.cause == "truncated" and (.what | test("stackshot")))] | length' <<<"$info")" 0
kill "$MANY"
wait "$MANY" 2>/dev/null
MANY=

evicted0=$(evicted)
ok "a storm of $FORKS forks" "$WORKLOADS/many" storm $FORKS
ok "a freeze after it" freeze
is "has lost no ring memory" "$(jq '[.losses[] | select(.cause == "torn")] | length' <<<"$("$STALLBOX" info --json "$BUNDLE")")" 0
is "kernel memory is what it was" "$(status_of '.map_bytes - (.unwind.room_bytes // 0)')" "$maps0"
between "the agent's memory too, in KiB" "$(rss)" 1 $((rss0 + 1024))
if [ "$(cat /proc/sys/kernel/pid_max)" -gt 32768 ]; then
	between "tasks that gave way to others are counted" "$(($(evicted) - evicted0))" 0 1000000
fi

# Another thread gets the tid: by its number, as the kernel lets root choose it.
if [ -w /proc/sys/kernel/ns_last_pid ]; then
	exec {never}<> <(:)
	second() { # until it becomes the program it is the shell
		read -rt 0.05 -u "$never"
		exec "$WORKLOADS/spinner" 0.2
	}
	again() {
		"$WORKLOADS/sleeper" 17 20 >"$TEST_TMP/first"
		P=$(grep -oE 'pid=[0-9]+' "$TEST_TMP/first" | tail -n 1 | cut -d= -f2)
		echo $((P - 1)) >/proc/sys/kernel/ns_last_pid
		second >"$TEST_TMP/second" &
		local q=$!
		wait $q
		[ "$q" = "$P" ]
	}
	ok "a pid is used again" wait_for 60 again
	ok "a freeze" freeze
	comms() { events "$@" --tid "$P" "$BUNDLE" | jq -r "$FILTER | .comm" | sort -u | tr '\n' ' '; }
	FILTER='select(.kstack | join(";") | test("nanosleep"))'
	is "the sleeps of the first do not have the name of the second" "$(comms --kind off-cpu)" "? "
	are_sleeps "all of them are there" "$(sleeps "$TEST_TMP/first")" 17
	FILTER='select(.kstack | join(";") | test("nanosleep") | not) | select(.comm != "?")'
	is "the wait before it was a program of its own has the shell's" "$(comms --kind off-cpu | tr ' ' '\n' | grep -cx bash)" 1
	FILTER='.'
	is "the samples of the second have its name" "$(comms --kind on-cpu | tr ' ' '\n' | grep -c spinner)" 1
else
	skip "a pid is used again" "the kernel does not let root choose pids (CONFIG_CHECKPOINT_RESTORE)"
fi
finish
