# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# An agent of the test's own: its socket, spool and bpffs live below $TEST_TMP, so that it
# meets no other one. Sourced after tests/lib.sh.

SOCKET=$TEST_TMP/control.sock
SPOOL=$TEST_TMP/captures
PINS=$TEST_TMP/bpf
AGENT_LOG=$TEST_TMP/agent.log
declare -p BUDGET >/dev/null 2>&1 || BUDGET=(--cpu-budget 100%) # (): what the configuration says
AGENT=

if [ "$(id -u)" != 0 ]; then
	echo "1..0 # SKIP root is needed to load BPF programs"
	exit 77
fi

_armed() { grep -q 'triggers armed' "$AGENT_LOG"; }
_armed_or_gone() { _armed || ! kill -0 "$AGENT"; }
# start_agent [OPTIONS]: returns when it records, or has ended before. On an emulated CPU everything costs twenty times as much, and beside
# other work several times: within its budget the recorder would leave out what the tests look for. What the budget
# does is bpf/limit's.
start_agent() {
	[ -d "$PINS" ] || mkdir -p "$PINS"
	[ -d "$SPOOL" ] || mkdir -p "$SPOOL" # which, there already, would wait where its file system is frozen
	: >"$AGENT_LOG"
	"$STALLBOXD" --foreground --socket "$SOCKET" --spool "$SPOOL" --fallback "$TEST_TMP/fallback" \
		--bpffs "$PINS" --memory "${MEMORY:-16M}" "${BUDGET[@]}" "$@" 2>"$AGENT_LOG" &
	AGENT=$!
	TEST_PIDS+=("$AGENT")
	if ! wait_for 240 _armed_or_gone || ! _armed; then
		echo "# the agent did not start:"
		sed 's/^/# /' "$AGENT_LOG"
		return 1
	fi
}

# processes_of PID: all that it has started, and what those have.
processes_of() {
	local p
	for p in $(pgrep -P "$1"); do
		echo "$p"
		processes_of "$p"
	done
}
# The process of the capture under way, by one look at all: it may be there for a second only.
freezer_of() {
	local p up key value
	for p in $(pgrep -x stallbox-freeze); do
		up=$p
		while [ "${up:-0}" -gt 1 ] && [ "$up" != "$1" ]; do
			value=
			while read -r key value && [ "$key" != PPid: ]; do :; done <"/proc/$up/status"
			up=$value
		done 2>/dev/null
		[ "$up" != "$1" ] || echo "$p"
	done
}

# kill_agent [PID...]: it, and these, have no time for anything.
kill_agent() {
	{ kill -9 "$AGENT" "$@" && wait "$AGENT"; } 2>/dev/null
	AGENT=
}

# follow: somebody reads the rings, whatever becomes of the agent. tests/helpers/ringcheck says what it has
# found in ring.json when it is asked to end.
follow() {
	: >"$TEST_TMP/ring.err"
	"$BUILD/tests/helpers/ringcheck" "$PINS" >"$TEST_TMP/ring.json" 2>"$TEST_TMP/ring.err" &
	FOLLOWER=$!
	TEST_PIDS+=("$FOLLOWER")
	wait_for 30 grep -q following "$TEST_TMP/ring.err"
}
# no_gap WHAT: nothing was lost while it followed.
no_gap() {
	kill "$FOLLOWER"
	wait "$FOLLOWER"
	is "$1: no record is missing, each is whole" "$(jq -r 'if .ok then "ok" else tostring end' "$TEST_TMP/ring.json")" ok
}
# sleeps OUTPUT: how many $BUNDLE has of the sleeper that printed this. Its sleeps alone: it also waits for the pages of
# its own file. However long: the CPU may stand still between arming the timer and leaving it.
sleeps() {
	events --kind off-cpu --tid "$(grep -oE '\btids?=[0-9]+' "$1" | head -n 1 | grep -oE '[0-9]+')" "$BUNDLE" |
		jq -s '[.[] | select(.state == "S" and (.kstack | join(";") | test("nanosleep")))] | length'
}
# are_sleeps WHAT GOT WANT: exactly as many. Where the kernel did not run the program at the end of a block (some virtual
# machines run none while certain threads are on the CPU) the next switch tells, and $BUNDLE counts it, for all threads
# together: four times this thread's share may be its own.
are_sleeps() {
	local unseen=0 share=0
	[ "$2" = "$3" ] || read -r unseen share < <("$STALLBOX" info --json "$BUNDLE" | jq -r --argjson want "$3" '
		def lost(cause): [.losses[] | select(.cause == cause and .kind == "off-cpu" and .unit == "records") | .count] | add // 0;
		lost("missed") as $u | (.events."off-cpu" + lost("overwritten") + lost("dropped") + $u) as $all |
		"\($u) \(if $u == 0 then 0 else [$u, (4 * $want * $u / $all | ceil)] | min end)"')
	if [ "$2" -lt "$3" ] && [ $(($2 + share)) -ge "$3" ]; then
		pass "$1 ($2 of $3, $unseen ends of blocks of all threads are counted as missed)"
	else
		is "$1" "$2" "$3"
	fi
}

stop_agent() {
	[ -n "$AGENT" ] || return 0
	_ended "$AGENT" || kill "$AGENT" 2>/dev/null
	if ! ends_within 60 "$AGENT"; then
		fail "the agent ends when it is asked to" "$(cat "/proc/$AGENT/wchan" "/proc/$AGENT/stack")" "$(tail -n 5 "$AGENT_LOG")"
		kill -KILL "$AGENT"
	fi
	wait "$AGENT" 2>/dev/null
	AGENT=
}

# What the tests leave pinned goes with the mount.
test_cleanup() {
	if declare -F extra_cleanup >/dev/null; then extra_cleanup; fi
	if declare -F close_log >/dev/null; then close_log; fi
	stop_agent
	"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null
	pkill -KILL -f -- "--socket $SOCKET " # one that holds a bundle for which there was no directory
	umount "$PINS" 2>/dev/null
	if [ -n "${STALLBOX_ARTIFACTS:-}" ]; then cp "$SPOOL"/*.zst "$STALLBOX_ARTIFACTS"/ 2>/dev/null; fi
}

# freeze: the path of a complete bundle in $BUNDLE.
freeze() {
	local out
	out=$("$STALLBOX" freeze --socket "$SOCKET" --wait -r "${1:-test}" 2>&1) || {
		echo "# freeze failed: $out"
		return 1
	}
	BUNDLE=$(sed -n 's/^path=//p' <<<"$out")
	[ -s "$BUNDLE" ]
}

bundles() { find "$SPOOL" -name '*.stall.pb.zst' | sort; }
bundle_count() { bundles | wc -l; }
newest_bundle() { find "$SPOOL" -name '*.stall.pb.zst' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-; }
complete() { "$STALLBOX" verify "$1" >/dev/null 2>&1; }
log_has() { grep -qE -- "$1" "$AGENT_LOG"; }
status_of() { "$STALLBOX" status --json --socket "$SOCKET" | jq -r "$1"; }
# The mapping process has looked at all processes and read all their files: user stacks are walked by tables.
known() { status_of '.unwind | .mappings > 0 and (.scanning | not) and .loading == 0' | grep -q true; }
events() { "$STALLBOX" events --json "$@" 2>/dev/null; }
