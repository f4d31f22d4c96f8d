#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Limits of triggers, counted: of seven causes three make a bundle where max-per-hour=3, and four are counted as held
# back, in the kernel as in the agent; a dry run makes none and counts seven. What is met while a bundle is made
# is part of it.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

CAUSES=7
triggers() { "$STALLBOX" triggers --json --socket "$SOCKET"; }
of() { triggers | jq -r ".triggers[] | select(.name == \"$1\") | $2"; }
of_is() { [ "$(of "$1" "$2")" = "$3" ]; }
state_is() { [ "$(status_of .state)" = "$1" ]; }
at_least() { [ "$(of "$1" "$2")" -ge "$3" ]; }

# Three threads in D state at once, then none: one cause. With hysteresis it fires once, however soon the recorder is ready again.
condition='kernel:blocked(D)>200ms:count=3:comm=dstall:hysteresis=10%'
cause() {
	wait_for 60 state_is recording || return
	"$WORKLOADS/dstall" 3 1 >/dev/null || return
	wait_for 60 of_is "$1" .value 0 # over, and seen to be
}

# ---- in the kernel ----
start_agent --post 100ms --cooldown 0s --trigger "$condition:max-per-hour=3:name=few" --trigger "$condition:dry-run:name=dry" ||
	{ fail "agent starts"; finish; }
is "before: nothing was met" "$(of few .met) $(of dry .met)" "0 0"
is "and it says why it does not fire" "$(of few .why)" "the value is below its threshold"
is "nothing would hold it back" "$(of few .blocked_by)" null
is "the dry run says that it is one" "$(of dry .blocked_by)" dry-run
for ((i = 1; i <= CAUSES; i++)); do
	ok "cause $i" cause few
done
wait_for 30 state_is recording
is "max-per-hour=3 in the kernel: three bundles" "$(of few .outcomes.fired) $(bundle_count)" "3 3"
is "the others are counted with their cause" "$(of few '.outcomes["max-per-hour"]')" $((CAUSES - 3))
is "and as met" "$(of few .met)" $CAUSES
is "in the last 24 hours, too" "$(of few '.last_24h | "\(.fired) \(.["max-per-hour"])"')" "3 $((CAUSES - 3))"
is "now it says what holds it back" "$(of few .blocked_by)" max-per-hour
between "and for how long (s)" "$(of few '.blocked_for_s | floor')" 3000 3600
is "dry run in the kernel: no bundle, and each would have made one" "$(of dry '"\(.outcomes.fired) \(.outcomes["dry-run"]) \(.met)"')" "0 $CAUSES $CAUSES"
is "status counts what was held back" "$(status_of .kept_back)" $((CAUSES - 3 + CAUSES))
like "people see it, too" "$("$STALLBOX" triggers --socket "$SOCKET")" "few .*met:   max-per-hour=3 holds it back for 3[0-9]{3} s.*24 h:  met $CAUSES times, 3 fired, 4 max-per-hour"
ok "a freeze" freeze
like "the next bundle tells what was held back" "$("$STALLBOX" info --json "$BUNDLE" | jq -r '[.marks[] | select(.kind == "kept-back") | .text] | join(", ")')" \
	"trigger 'few': 4 max-per-hour, trigger 'dry': [0-9]+ dry-run"
stop_agent

# ---- while a bundle is made ----
SPOOL=$TEST_TMP/merged
start_agent --post 600s --cooldown 0s --trigger "$condition:name=few" || { fail "agent starts"; finish; }
"$STALLBOX" freeze --socket "$SOCKET" >"$TEST_TMP/under-way"
is "while a bundle is made the trigger says so" "$(of few .blocked_by)" merged
"$WORKLOADS/dstall" 3 1 >"$TEST_TMP/stall"
ok "a condition met meanwhile is counted as merged" wait_for 30 at_least few .outcomes.merged 1
is "once" "$(of few '"\(.met) \(.outcomes.merged)"')" "1 1"
# What was seen when it was met: by the time that the agent looks it may be over.
tids=$(grep -oE 'tids=[0-9,]+' "$TEST_TMP/stall" | cut -d= -f2 | tr , '|')
like "and is logged, with what was seen then, and of whom" "$(grep "'few' fired again" "$AGENT_LOG")" \
	"value 3 threads; 3 threads in D state for more than 200 ms, tid ($tids) the longest; merged into"
stop_agent

# ---- while the last bank is read: what is noted in that bundle has gone to its process, the next one tells ----
# The window is long: on an emulated CPU the first part and finding its process take seconds of it.
SPOOL=$TEST_TMP/read
start_agent --post 10s --cooldown 0s --trigger "$condition:name=few" || { fail "agent starts"; finish; }
"$STALLBOX" freeze --socket "$SOCKET" >"$TEST_TMP/under-way"
ok "the part before the trigger is stored" wait_for 60 log_has '^durable:'
freezer=$(freezer_of "$AGENT")
ok "its process waits for the rest" kill -STOP "$freezer"
ok "its process stands still when the window is over" wait_for 30 state_is freezing
is "the trigger is held back" "$(of few .blocked_by)" cooldown
"$WORKLOADS/dstall" 3 1 >/dev/null
ok "a condition met meanwhile is counted so" wait_for 30 at_least few .outcomes.cooldown 1
kill -CONT "$freezer"
ok "the bundle is completed" wait_for 60 log_has '^complete:'
wait_for 30 state_is recording
ok "a freeze" freeze
is "the next bundle tells of it" "$("$STALLBOX" info --json "$BUNDLE" | jq -r '.marks[] | select(.kind == "kept-back") | .text')" \
	"trigger 'few': 1 cooldown"
stop_agent

# ---- in the agent: a probe, whose service is a file ----
down() { rm "$TEST_TMP/up"; }
up() { touch "$TEST_TMP/up"; }
outage() { # NUMBER
	wait_for 60 state_is recording || return
	down
	wait_for 60 at_least dry .met "$1" && wait_for 60 at_least few .met "$1" || return
	up
	wait_for 60 of_is few .value 0 && wait_for 60 of_is dry .value 0
}
up
SPOOL=$TEST_TMP/probe
probe="probe:exec:test -e $TEST_TMP/up:every=50ms:fails=2:timeout=20s"
start_agent --post 100ms --cooldown 0s --trigger "$probe:max-per-hour=3:name=few" --trigger "$probe:dry-run:name=dry" ||
	{ fail "agent starts"; finish; }
for ((i = 1; i <= CAUSES; i++)); do
	ok "outage $i" outage "$i"
done
wait_for 30 state_is recording
is "max-per-hour=3 of a probe: three bundles" "$(of few .outcomes.fired) $(bundle_count)" "3 3"
is "the others are counted with their cause" "$(of few '"\(.outcomes["max-per-hour"]) \(.met)"')" "$((CAUSES - 3)) $CAUSES"
is "dry run of a probe: no bundle, and each would have made one" "$(of dry '"\(.outcomes.fired) \(.outcomes["dry-run"])"')" "0 $CAUSES"
stop_agent

# Its own cooldown, which is not the recorder's.
SPOOL=$TEST_TMP/cooldown
start_agent --post 100ms --cooldown 0s --trigger "$probe:cooldown=1h:name=few" --trigger "$probe:dry-run:cooldown=1h:name=dry" ||
	{ fail "agent starts"; finish; }
for ((i = 1; i <= 3; i++)); do
	ok "outage $i" outage "$i"
done
is "its own cooldown: one bundle" "$(of few '"\(.outcomes.fired) \(.outcomes["own-cooldown"])"') $(bundle_count)" "1 2 1"
is "a dry run goes by it, too" "$(of dry '"\(.outcomes["dry-run"]) \(.outcomes["own-cooldown"])"')" "1 2"
like "it says so" "$("$STALLBOX" triggers --socket "$SOCKET")" 'its cooldown holds it back for 3[0-9]{3} s'
ok "a person is not held back" freeze
stop_agent

# It has to last: two failures are there in 0.1 s, and fire 2 s after the first one began.
SPOOL=$TEST_TMP/held
start_agent --post 100ms --cooldown 0s --trigger "$probe:held-for=2s:name=held" || { fail "agent starts"; finish; }
uptime_ms() { awk '{print int($1 * 1000)}' /proc/uptime; }
before=$(uptime_ms)
down
ok "a probe that has to fail for 2 s fires" wait_for 60 at_least held .met 1
ago=$(of held '.last_s_ago.fired * 1000 | floor')
between "not earlier (ms)" $(($(uptime_ms) - ago - before)) 1980 600000
is "as long as it lasts it is told as met" "$(of held .why)" met
up
stop_agent
finish
