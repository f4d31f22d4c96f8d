#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What is pinned while no agent runs: exported without an agent, by one with other settings, taken over by another
# build, replaced where the layout differs, and removed without a trace.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

frozen() { # a condition is met while nobody runs
	"$WORKLOADS/dstall" 3 1 >"$TEST_TMP/stalled"
}
export_pinned() { "$STALLBOX" export-pinned --bpffs "$PINS" --spool "$SPOOL"; }
CONDITION='kernel:blocked(D)>300ms:count=3:comm=dstall'

export_pinned >"$TEST_TMP/out" 2>&1
is "export-pinned where nothing is pinned: status" $? 3
like "says so" "$(cat "$TEST_TMP/out")" 'no recorder is pinned.*hint:'
start_agent --post 1s --trigger "$CONDITION" || { fail "agent starts"; finish; }
export_pinned >"$TEST_TMP/out" 2>&1
is "beside a running agent it is refused: status" $? 1
like "with the agent's pid" "$(cat "$TEST_TMP/out")" "pid $AGENT\) records.*hint:"
can_freeze=1
log_has 'while no agent runs' && can_freeze=
kill_agent
export_pinned >"$TEST_TMP/out" 2>&1
is "while no bank is frozen: status" $? 3
like "says that too" "$(cat "$TEST_TMP/out")" 'no bank.*is frozen; .* armed'

if [ -z "$can_freeze" ]; then
	skip "a frozen bank is exported without an agent" "the clock of the conditions goes with the agent on this kernel (5.15)"
else
	frozen
	ok "a frozen bank is exported without an agent" export_pinned
	B=$(newest_bundle)
	ok "as a whole bundle" complete "$B"
	info=$("$STALLBOX" info --json "$B")
	is "under the condition that froze it" "$(jq -r '.trigger | .kind + " " + .spec' <<<"$info")" 'kernel kernel:blocked(D)>300ms:count=3'
	is "with its value" "$(jq -r .trigger.value <<<"$info")" 3
	# The threads stood in D until after the freeze: what was recorded since has the ends of their blocks.
	blocked() { events --kind off-cpu "$1" | jq -s '[.[] | select(.comm == "dstall_thread" or .comm == "dstall") | select(.state == "D" and .duration_ns > 900000000)] | length'; }
	is "with what was recorded since" "$(blocked "$B")" 3
	export_pinned >"$TEST_TMP/out" 2>&1
	is "a second time there is nothing: status" $? 3
	frozen
	ok "the conditions are armed again: the next freeze is exported" export_pinned
	is "as a bundle of its own" "$(bundle_count)" 2

	frozen
	mkdir "$TEST_TMP/tight"
	for i in 1 2 3; do # older bundles, as it were
		head -c 600K /dev/zero >"$TEST_TMP/tight/old-20200101T00000${i}Z-x.stall.pb.zst"
		touch -d 2020-01-01 "$TEST_TMP/tight/old-20200101T00000${i}Z-x.stall.pb.zst"
	done
	ok "another one, where bundles are more than MaxUse" "$STALLBOXD" --export-pinned --bpffs "$PINS" --spool "$TEST_TMP/tight" --max-use 1M
	is "is there, and the oldest are not" "$(find "$TEST_TMP/tight" -name '*.zst' ! -name 'old-*' | wc -l) $([ "$(cat "$TEST_TMP"/tight/*.zst | wc -c)" -le 1048576 ] ||
		find "$TEST_TMP/tight" -name 'old-*' | wc -l)" "1 "

	frozen
	MEMORY=4M start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "an agent with other settings starts"; finish; }
	ok "an agent with other settings exports it before it replaces the recorder" log_has 'frozen by the kernel while no agent ran'
	is "as a third bundle" "$(bundle_count)" 3
	is "with the condition of the agent before" "$("$STALLBOX" info --json "$(newest_bundle)" | jq -r .trigger.spec)" 'kernel:blocked(D)>300ms:count=3'
	ok "and says that it replaced" log_has 'was replaced'
	stop_agent
fi

# Any other condition is told under its own name.
start_agent --post 1s --trigger 'kernel:runq>40ms:comm=spinner' || { fail "agent starts"; finish; }
kill_agent
if [ -n "$can_freeze" ]; then
	taskset -c 0 "$WORKLOADS/spinner" 0.1 24 >/dev/null
	n=$(bundle_count)
	start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
	one_more() { [ "$(bundle_count)" -gt "$n" ] && complete "$(newest_bundle)"; }
	ok "the next agent exports it" wait_for 30 one_more
	is "under its own condition" "$("$STALLBOX" info --json "$(newest_bundle)" | jq -r .trigger.spec)" 'kernel:runq>40ms'
	stop_agent
fi

# Another build, the same layout and settings: an upgrade in place.
start_agent --post 1s || { fail "agent starts"; finish; }
"$WORKLOADS/sleeper" 11 20 >"$TEST_TMP/a"
stop_agent
python3 - "$STALLBOXD" "$TEST_TMP/stallboxd" <<'PY'
import sys
data = open(sys.argv[1], "rb").read()
line = b"s->kind = SB_OFF_CPU;" # text of the source in the object's debug information
assert line in data
open(sys.argv[2], "wb").write(data.replace(line, line.replace(b"OFF", b"0FF")))
PY
chmod +x "$TEST_TMP/stallboxd"
ok "somebody reads the rings" follow
STALLBOXD=$TEST_TMP/stallboxd start_agent --post 1s || { fail "the new binary starts"; finish; }
ok "a new binary takes over" log_has 'took over a running recorder'
ok "and says that the programs are older" log_has 'those of another build'
"$WORKLOADS/sleeper" 7 20 >"$TEST_TMP/b"
ok "a freeze" freeze
are_sleeps "has what was before the upgrade" "$(sleeps "$TEST_TMP/a")" 11
are_sleeps "and after" "$(sleeps "$TEST_TMP/b")" 7
no_gap "over the upgrade"
stop_agent

# Another layout: replaced, and said.
ok "the pinned recorder becomes one of another layout" "$BUILD/tests/helpers/pinpoke" "$PINS" layout 9999
export_pinned >"$TEST_TMP/out" 2>&1
is "which export-pinned does not touch: status" $? 1
like "and says" "$(cat "$TEST_TMP/out")" 'another version.*expected layout.*hint:'
start_agent --post 1s || { fail "agent starts"; finish; }
ok "it is replaced, and that is said" log_has 'another layout or other settings; it was replaced'
ok "a freeze" freeze
is "says it in the bundle too" "$("$STALLBOX" info --json "$BUNDLE" | jq -r '[.marks[]? | select(.kind == "agent-start")] | length')" 1

ok "unload beside the agent is refused" bash -c "! '$STALLBOX' unload --bpffs '$PINS'"
stop_agent
# What is pinned, by the kernel's numbers, which are given once: "map 7".
pinned() {
	local p
	for p in "$PINS"/stallbox/*; do
		case $p in
		*/link_*) bpftool -j link show pinned "$p" | jq -r '"link \(.id)", "prog \(.prog_id)"' ;;
		*) bpftool -j map show pinned "$p" 2>/dev/null | jq -r '"map \(.id)"' ;;
		esac
	done
}
left() { while read -r kind id; do ! bpftool "$kind" show id "$id" >/dev/null 2>&1 || echo "$kind $id"; done <"$TEST_TMP/pinned"; }
none_left() { [ -z "$(left)" ]; }
pinned >"$TEST_TMP/pinned"
between "programs, maps and links are in the kernel" "$(left | wc -l)" 10 1000
ok "unload" "$STALLBOX" unload --bpffs "$PINS"
is "nothing is left pinned" "$(find "$PINS/stallbox" 2>/dev/null | wc -l)" 0
ok "none of them is left in the kernel" wait_for 10 none_left
ok "unload a second time is no error" "$STALLBOX" unload --bpffs "$PINS"

# Nothing is held by pins here: each link has to be the agent's own.
start_agent --no-pin --post 1s || { fail "agent starts without pins"; finish; }
TIMEFORMAT='%U %S'
{ time "$WORKLOADS/spinner" 1 >"$TEST_TMP/spun"; } 2>"$TEST_TMP/used"
number() { grep -m 1 -oE "\\b$1=[0-9]+" "$TEST_TMP/spun" | cut -d= -f2; }
cpu_ns=$(number on_cpu_ns)
# Loading it and its end are the spinner's, too: a tenth of a second on an emulated CPU.
besides_ms=$(awk -v ns="$(number cpu_ns)" '{ printf "%d", ($1 + $2) * 1000 - ns / 1000000 }' "$TEST_TMP/used")
ok "a freeze without pins" freeze
between "without pins it records: the samples of a second on the CPU (ms)" \
	"$(events --kind on-cpu --comm spinner --no-stacks "$BUNDLE" | jq -s 'map(.duration_ns) | add // 0 | . / 1000000 | floor')" \
	$((cpu_ns * 9 / 10000000)) $((cpu_ns * 11 / 10000000 + besides_ms))
ok "and blocks" [ "$(events --kind off-cpu --no-stacks "$BUNDLE" | wc -l)" -gt 0 ]
is "nothing is pinned" "$(find "$PINS/stallbox" 2>/dev/null | wc -l)" 0
finish
