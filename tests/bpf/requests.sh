#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Whoever asks for a bundle and waits gets an answer: the bundle that holds the moment of the request, or what became
# of it. Also where the kernel was faster, its message was lost, the banks are just being read, or a process is killed.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

QUIET=(--trigger 'kernel:reclaim>600s')
state_is() { [ "$(status_of .state)" = "$1" ]; }
# ask NAME [OPTIONS]: in the background; its output and status are in $TEST_TMP/NAME, NAME.rc
ask() {
	local name=$1
	shift
	{
		"$STALLBOX" freeze --socket "$SOCKET" -r "$name" "$@" >"$TEST_TMP/$name" 2>&1
		echo $? >"$TEST_TMP/$name.rc"
	} &
	TEST_PIDS+=($!)
}
answered() { [ -s "$TEST_TMP/$1.rc" ]; }
rc() { cat "$TEST_TMP/$1.rc"; }
path_in() { sed -n 's/^path=//p' "$TEST_TMP/$1"; }

# ---- the kernel sealed the bank first, and its message was lost ----
start_agent --post 1s "${QUIET[@]}" || { fail "agent starts"; finish; }
ok "a freeze before it" freeze
old=$BUNDLE
stop_agent
start_agent --post 1s --cooldown 1s "${QUIET[@]}" || { fail "agent starts"; finish; }
ok "the kernel seals the bank, unheard" "$BUILD/tests/helpers/pinpoke" "$PINS" seal
ask waits --wait
ask goes
ok "who waits for the bundle is answered" wait_for 60 answered waits
ok "who does not, too" answered goes
is "both well" "$(rc waits) $(rc goes)" "0 0"
B=$(path_in waits)
is "with one bundle" "$(path_in goes)" "$B"
is "which is new" "$([ -s "$B" ] && [ "$B" != "$old" ] && complete "$B" && echo yes)" yes
info=$("$STALLBOX" info --json "$B")
is "and the condition's" "$(jq -r .trigger.kind <<<"$info")" kernel
like "of which it says how it was found" "$(jq -r .trigger.detail <<<"$info")" 'its message was lost'
like "the request is told in it" "$(jq -r '[.marks[] | select(.kind == "merged") | .text] | join(" ")' <<<"$info")" "trigger 'manual' fired again"
back() { state_is recording; }
ok "afterwards the agent records, armed" wait_for 30 back
ok "and freezes" freeze

# ---- the window is over, the banks are being read ----
stop_agent
# The window is long: on an emulated CPU the first part and finding its process take seconds of it.
start_agent --post 10s --cooldown 30s "${QUIET[@]}" || { fail "agent starts"; finish; }
ask first --wait
# The freezer must be done with the first bank, or the post window does not end.
ok "the part before the trigger is durable" wait_for 60 log_has '^durable:'
freezer=$(freezer_of "$AGENT")
kill -STOP "$freezer"
ok "the freezer stands still over the last bank" wait_for 60 state_is freezing
ask second --wait
ask third
merged() { [ "$(status_of .merged)" -ge 1 ]; }
ok "two ask meanwhile" wait_for 30 merged
"$WORKLOADS/sleeper" 5 20 >"$TEST_TMP/later"
kill -CONT "$freezer"
for who in first second third; do ok "the $who is answered" wait_for 60 answered $who; done
is "all well" "$(rc first) $(rc second) $(rc third)" "0 0 0"
is "the later ones with a bundle of their own" "$([ "$(path_in first)" != "$(path_in second)" ] && echo yes) $(path_in third)" "yes $(path_in second)"
BUNDLE=$(path_in second)
are_sleeps "which holds what the first one was too early for" "$(sleeps "$TEST_TMP/later")" 5
stop_agent

# ---- a process is killed ----
before=$(bundle_count)
start_agent --post 600s "${QUIET[@]}" || { fail "agent starts"; finish; }
ask killed --wait
ok "a capture is under way" wait_for 60 log_has '^durable:'
kill -KILL "$(freezer_of "$AGENT")"
ok "the freezer is killed: who waits is answered" wait_for 60 answered killed
is "with a failure" "$(rc killed)" 1
like "and what is left" "$(cat "$TEST_TMP/killed")" 'the freezer process ended unexpectedly; what there is of the bundle: .*zst'
left=$(grep -oE '/[^ ]*zst' "$TEST_TMP/killed")
ok "which can be read" "$STALLBOX" info "$left"
like "with the names of the kernel" "$("$STALLBOX" fold --kind blocked "$left" 2>/dev/null)" 'do_syscall_64_\[k\]'
kill -USR1 "$AGENT"
second_one() { [ "$(status_of .captures)" = 2 ] && [ "$(bundle_count)" = $((before + 2)) ]; }
ok "the next freeze is written" wait_for 60 second_one
stop_agent

# Killed while it stores. It may be faster than we are: then another one.
start_agent --post 1s --cooldown 0s "${QUIET[@]}" || { fail "agent starts"; finish; }
catch_storing() { # NAME: it stands still, in $p
	local comm=
	ask "$1" --wait
	wait_for 60 eval 'p=$(freezer_of "$AGENT"); [ -n "$p" ]' || return 1
	while [ -e "/proc/$p/comm" ] && [ "$comm" != stallbox-store ]; do read -r comm <"/proc/$p/comm"; done 2>/dev/null
	kill -STOP "$p" 2>/dev/null || return 1
	! answered "$1"
}
catch_one() { # PREFIX: its name in $caught
	for ((i = 0; i < 10; i++)); do
		caught=$1$i
		! catch_storing "$caught" || return 0
		wait_for 30 back
	done
	return 1
}
ok "one is caught while it stores" catch_one storing
kill -KILL "$p"
i=${caught#storing}
ok "the storing process is killed: who waits is answered" wait_for 60 answered "storing$i"
is "with a failure" "$(rc "storing$i")" 1
like "that says so" "$(cat "$TEST_TMP/storing$i")" 'the process that stored the bundle .*zst was killed'
ok "it is logged with what to do" log_has "was killed"
is "and counted" "$(status_of .failures)" 1
wait_for 30 back
ok "the next freeze is written" freeze

# What becomes of one capture is no answer to who waits for another.
ok "another one is caught" catch_one earlier
stored=$p
wait_for 30 back
durable=$(grep -c '^durable:' "$AGENT_LOG")
ask later --wait
# With its bank read: killed before that, another process would begin it again.
under_way() { [ "$(grep -c '^durable:' "$AGENT_LOG")" -gt "$durable" ] && p=$(freezer_of "$AGENT") && [ -n "$p" ]; }
ok "while the next capture is under way" wait_for 60 under_way
kill -KILL "$p"
ok "whose process is killed" wait_for 60 answered later
is "who waits for that is told" "$(rc later)" 1
is "who waits for the earlier one is not" "$(answered "$caught" && echo answered)" ""
kill -CONT "$stored"
ok "until it is stored" wait_for 60 answered "$caught"
is "well" "$(rc "$caught")" 0
like "with its own file" "$(tr '\n' ' ' <"$TEST_TMP/$caught")" "^capture=([^ ]+) path=[^ ]*/\1 "

# Those that wait for a trigger are killed.
ready() { local p; for p in $(processes_of "$AGENT"); do [ "$(cat "/proc/$p/comm" 2>/dev/null)" != stallbox-ready ] || echo "$p"; done; }
two_ready() { [ "$(ready | wc -l)" = 2 ]; }
ok "two wait for a trigger" wait_for 10 two_ready
before=$(ready | sort)
# shellcheck disable=SC2046
kill -KILL $(ready)
ok "without them a freeze waits for the next one" freeze
ok "two wait again" wait_for 10 two_ready
is "others than before" "$(comm -12 <(echo "$before") <(ready | sort))" ""
ok "it is said" log_has "that waited for the next capture has ended|begins the capture again"
# The trigger fires first, so it is given to one that is dead, and then to the other if that one's end was not seen
# before.
completed() { sed -n 's/^complete: \([^,]*\),.*/\1/p' "$AGENT_LOG"; }
n=$(completed | wc -l)
waited() { grep -c "that waited for the next capture has ended" "$AGENT_LOG"; }
before=$(waited)
kill -STOP "$AGENT"
kill -USR1 "$AGENT"
# shellcheck disable=SC2046
kill -KILL $(ready)
kill -CONT "$AGENT"
one_more() { [ "$(completed | wc -l)" = $((n + 1)) ] && complete "$(completed | tail -n 1)"; }
ok "killed as a trigger fires: the bundle is written" wait_for 60 one_more
again=$("$STALLBOX" info --json "$(completed | tail -n 1)" | jq '[.marks[] | select(.kind == "freezer-lost")] | length')
between "and tells how often it was begun again" "$again" 1 2
is "with those that ended while they waited these are both" $((again + $(waited) - before)) 2
stop_agent

# A limit on file sizes is an error as any other, not a signal.
SPOOL=$TEST_TMP/small
ulimit -S -f 32
start_agent --post 1s "${QUIET[@]}" || { fail "agent starts"; finish; }
ulimit -S -f unlimited
ask short --wait
ok "files may not be large: who waits is answered" wait_for 60 answered short
is "with a failure" "$(rc short)" 1
like "that says so" "$(cat "$TEST_TMP/short")" 'cannot store the bundle [^ ]*zst yet: File too large; it is held in memory and tried again'
ok "it is logged with what to do" log_has "free space on .* or repair it"
ok "and what becomes of it" log_has "no directory took the bundle .* held in memory and tried again"
holder() { local p; for p in $(processes_of "$AGENT"); do [ "$(cat "/proc/$p/comm" 2>/dev/null)" != stallbox-store ] || echo "$p"; done; }
held=$(holder | head -n 1) # what it has started tries a directory again
between "a process holds it" "${held:-0}" 1 10000000
is "and nothing of the recorder's in the kernel" "$(grep -c bpf-map "/proc/$held/maps") $(find "/proc/$held/fd" -lname 'anon_inode:bpf*' | wc -l)" "0 0"
# Without CAP_IPC_LOCK a stack that is locked does not grow: looking up names would end with SIGSEGV.
is "nor any memory locked" "$(awk '/^VmLck/ {print $2}' "/proc/$held/status")" 0

# The process that starts others is killed: those that wait are enough until there is another one.
kill -KILL "$(pgrep -P "$AGENT" -x stallbox-start)"
ok "the starter is killed: it is said" wait_for 10 log_has "the process that starts others has ended"
stop_agent
SPOOL=$TEST_TMP/captures
start_agent --post 0s --cooldown 0s "${QUIET[@]}" || { fail "agent starts"; finish; }
kill -KILL "$(pgrep -P "$AGENT" -x stallbox-start)"
for i in 1 2 3 4; do ok "freeze $i after its end" freeze; done
stop_agent
finish
