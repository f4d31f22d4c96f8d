# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# An incident made on purpose, recorded by an agent with the default configuration: no trigger, no threshold and no time
# is set for the occasion. Sourced by tests/incidents/*.sh, each of which says what it proves.
#
#   start_default [OPTIONS]      an agent as the package starts it; its files live below $TEST_TMP, its ring is smaller
#   incident NAME COMMAND...     runs it; returns when the trigger NAME has fired and its bundle, $BUNDLE, is whole. What
#                                the command says is in $TEST_TMP/truth. 77: it cannot run here
#   fired_in LOW HIGH            the value that fired, in the trigger's unit
#   with CONDITION set, in the long form (tests/incidents/conditions.sh), the same
#     ps      while somebody looks at the processes again and again, as people do
#     crowd   with 300 runnable threads a CPU, in a group of their own, as another service's are: among them a process that
#             holds a lock and is not run is a stall by itself, and a bundle does not get its names
#     frozen  with the file system of the captures frozen
#   lost_nothing WHAT            every loss is one that cannot concern what the test looks for, and is counted
. "$(dirname "$0")/../lib.sh"
[ -n "${STALLBOX_IN_VM:-}" ] || BUDGET=() # the default; on an emulated CPU the recorder has a whole one (tests/agent.sh)
. "$(dirname "$0")/../agent.sh"
. "$(dirname "$0")/../holders.sh"

INCIDENT=$BUILD/stallbox-workload
HISTORY_S=${HISTORY_S:-5} # recorded before the incident begins

FALLBACK=$TEST_TMP/fallback
start_default() {
	[ "${CONDITION:-}" != frozen ] || SPOOL=$FROZEN/captures
	MEMORY=${MEMORY:-64M} start_agent "$@" || return 1
	make_condition || return 1
	AGENT_SINCE=$(date +%s%N)
}
recorded_for() { [ $((($(date +%s%N) - AGENT_SINCE) / 1000000000)) -ge "$1" ]; }
# Nothing has fired, or it is over and the cooldown, too: on an emulated CPU a recorder that starts is a spike of %system by
# itself, and what fires in the next 20 s is merged into that bundle.
settled() {
	! log_has '^freeze:' || { log_has '^complete:' && [ $(($(date +%s) - $(stat -c %Y "$AGENT_LOG"))) -ge 25 ]; }
}

if [ "${CONDITION:-}" = frozen ]; then
	FROZEN=$TEST_TMP/mnt
	mkdir -p "$FROZEN"
	if ! { truncate -s 64M "$TEST_TMP/img" && mkfs.ext4 -q "$TEST_TMP/img" && mount -o loop "$TEST_TMP/img" "$FROZEN"; } >"$TEST_TMP/can" 2>&1; then
		skip "with the disk of the captures frozen" "no loop mount here: $(tail -n 1 "$TEST_TMP/can")"
		finish
	fi
	extra_cleanup() {
		fsfreeze -u "$FROZEN" 2>/dev/null
		stop_agent
		wait_for 30 umount "$FROZEN" # those who store may still be in there
	}
	bundles() { find "$FALLBACK" -name '*.stall.pb.zst' 2>/dev/null | sort; }
fi
# look: the longest that a look at all processes took, in ms, in $TEST_TMP/ps
look() {
	local begin longest=0 ms
	while :; do
		begin=$(date +%s%N)
		ps auxww >/dev/null
		ms=$((($(date +%s%N) - begin) / 1000000))
		[ $ms -le $longest ] || echo "$((longest = ms))" >"$TEST_TMP/ps"
		sleep 0.1
	done
}
make_crowd_group() {
	local at=/sys/fs/cgroup/cpu
	if [ ! -e $at/cgroup.procs ]; then
		at=/sys/fs/cgroup
		echo +cpu 2>/dev/null >$at/cgroup.subtree_control
	fi
	CROWD=$at/stallbox-crowd.$$
	if ! { mkdir "$CROWD" && [ -e "$CROWD/cpu.stat" ]; } 2>/dev/null; then
		skip "beside 300 runnable threads a CPU" "no CPU cgroup can be made here"
		finish
	fi
	extra_cleanup() {
		stop_agent
		rmdir "$CROWD"
	}
}
make_condition() {
	case ${CONDITION:-} in
	ps) spawn look ;;
	crowd)
		make_crowd_group
		# shellcheck disable=SC2016
		spawn bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$CROWD" "$INCIDENT" runq 600 300 >/dev/null
		many() { [ "$(cat "/proc/$SPAWNED"/task/*/stat | grep -c ') R ')" -ge $(($(nproc) * 300)) ]; }
		wait_for 60 many
		;;
	frozen) fsfreeze -f "$FROZEN" ;;
	esac
}

# whole_of NAMES: the bundle of one of these triggers (a regular expression), complete, in $BUNDLE
whole_of() {
	local b
	for b in $(bundles); do
		[[ $("$STALLBOX" info --json "$b" 2>/dev/null | jq -r .trigger.name) =~ ^($1)$ ]] && complete "$b" && BUNDLE=$b && return 0
	done
	return 1
}

incident() {
	local name=$1 pid rc=0
	shift
	BUNDLE=
	wait_for $((HISTORY_S + 10)) recorded_for "$HISTORY_S"
	[ -z "${STALLBOX_IN_VM:-}" ] || wait_for 180 settled
	"$@" >"$TEST_TMP/truth" 2>"$TEST_TMP/truth.err" &
	pid=$!
	TEST_PIDS+=("$pid")
	# It may take its time to begin, and where it cannot it says so at once.
	while ! whole_of "$name" && ! _ended "$pid"; do sleep 0.2; done
	if [ -n "$BUNDLE" ] && [ -z "${TO_ITS_END:-}" ]; then kill "$pid" 2>/dev/null; fi
	wait "$pid"
	rc=$?
	[ $rc != 77 ] || return 77
	[ -n "$BUNDLE" ] || wait_for 60 whole_of "$name" || {
		echo "# no bundle of '$name'; the workload ended with status $rc:"
		cat "$TEST_TMP/truth" "$TEST_TMP/truth.err" | tail -n 10 | sed 's/^/# /'
		tail -n 10 "$AGENT_LOG" | sed 's/^/# /'
		return 1
	}
	INFO=$("$STALLBOX" info --json "$BUNDLE")
	REPORT=$("$STALLBOX" report --json "$BUNDLE" 2>/dev/null)
	# ps reads the command line of each process, which waits for its mmap_lock.
	[ "${CONDITION:-}" != ps ] || between "ps took, ms" "$(cat "$TEST_TMP/ps")" "${PS_HANGS_MS:-0}" 600000
	[ -z "${STALLBOX_ARTIFACTS:-}" ] || cp "$BUNDLE" "$STALLBOX_ARTIFACTS/${0##*/}-$name.stall.pb.zst"
}

info() { jq -r "$1" <<<"$INFO"; }
fact() { jq -r --arg f "$1" '.facts[$f]' <<<"$REPORT"; }
cause_of() { jq -r --arg r "$1" '[.causes[] | select(.rule == $r) | .text[]] | join(" ")' <<<"$REPORT"; }
fired_in() { between "$1: the value at which it fired, ms" "$(info '.trigger.value | round')" "$2" "$3"; }
truth() { field "$(grep -m 1 "$1" "$TEST_TMP/truth")" "$2"; }
# at_the_time NS: the line of the truth about what was going on then
at_the_time() {
	local l
	while IFS= read -r l; do
		[ "$(field "$l" begin_ns)" -gt "$1" ] || [ "$(field "$l" end_ns)" -lt "$1" ] || { echo "$l"; return; }
	done < <(grep begin_ns= "$TEST_TMP/truth")
}
# The history that the ring had before: whatever was recorded, of the seconds before the incident began.
holds_before() {
	between "$1: ms of history before the trigger" "$(info '(.trigger.fired_ns - .first_ns) / 1000000 | floor')" $((HISTORY_S * 1000)) 3600000
	between "$1: events of these seconds" "$(events --no-stacks --since -${HISTORY_S}s --until -1s "$BUNDLE" | wc -l)" 10 100000000
}
# Every record has a number: those in the bundle and the losses by cause are all that happened. Of `kinds` (a regular
# expression) nothing may be lost.
lost_nothing() {
	is "$1: no $2 is lost" "$(info "[.losses[] | select(.kind | test(\"$2\")) | select(.cause != \"missed\") | .count] | add // 0")" 0
	is "$1: the bundle is whole" "$("$STALLBOX" verify "$BUNDLE" >/dev/null 2>&1 && echo whole)" whole
}
cannot_run() {
	skip "$1" "$(tail -n 1 "$TEST_TMP/truth.err")"
	finish
}
