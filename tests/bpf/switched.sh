#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What make bench compares: tests/helpers/recswitch takes the recorder's programs off the kernel's hooks and puts them
# back. What happens in between is not recorded, what happens before and after is, and nothing that was recorded is lost.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

# Conditions that look at waits which go on; what else the default set looks at may well be met on a busy host.
TRIGGERS=(--trigger 'kernel:reclaim>500ms' --trigger 'kernel:mmap-lock-wait>1s' --trigger 'kernel:blocked(D)>5s:count=10')
start_agent "${TRIGGERS[@]}" || { fail "agent starts"; finish; }
kill_agent
coproc switch { exec "$BUILD/tests/helpers/recswitch" "$PINS" 2>"$TEST_TMP/switch.err"; }
TEST_PIDS+=("$!")
read -r ready <&"${switch[0]}"
is "the programs of an agent that is gone can be had" "$ready" ready
set -m # it leads a process group
start_agent --post 1s "${TRIGGERS[@]}" || { fail "the next agent takes over"; finish; }
set +m
extra_cleanup() { [ -z "$AGENT" ] || kill -CONT -- "-$AGENT"; }
turn() {
	local ms
	echo "$1 $AGENT" >&"${switch[1]}"
	read -r ms <&"${switch[0]}"
	like "$2" "$ms" '^[0-9.]+$'
}
links() { bpftool -j link show | jq --argjson own "$own" '[.[] | select(.prog_id as $p | $own | index($p))] | length'; }
tid_of() { grep -oE '\btids?=[0-9]+' "$1" | head -n 1 | grep -oE '[0-9]+'; }

turn on "they are put on"
own=$(for f in "$PINS"/stallbox/link_*; do
	case $f in */link_stackshot) ;; *) bpftool -j link show pinned "$f" | jq .prog_id ;; esac
done | jq -s .)
ok "somebody reads the rings" follow
"$WORKLOADS/sleeper" 23 50 >"$TEST_TMP/before"
turn off "and off"
is "no link of them is left" "$(links)" 0
like "its processes are stopped" "$(cut -d' ' -f3 "/proc/$AGENT/stat")" T
"$WORKLOADS/sleeper" 19 50 >"$TEST_TMP/meanwhile"
turn on "and on again"
is "all are there" "$(links)" "$(jq length <<<"$own")"
"$WORKLOADS/sleeper" 29 50 >"$TEST_TMP/after"
no_gap "before and after"
ok "a freeze gives a bundle" freeze switched
are_sleeps "23 sleeps before are 23 records" "$(sleeps "$TEST_TMP/before")" 23
is "of those meanwhile there is none" "$(sleeps "$TEST_TMP/meanwhile")" 0
are_sleeps "29 sleeps after it are 29" "$(sleeps "$TEST_TMP/after")" 29
is "no wait of before is taken for one that goes on: no trigger fires" "$(status_of '[.triggers[].fired] | add')" 0
is "the switch had nothing to complain about" "$(cat "$TEST_TMP/switch.err")" ''
finish
