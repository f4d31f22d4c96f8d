#!/usr/bin/env bash
# The agent is killed: recording goes on, the next agent takes over, one continuous history.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

start_agent --post 1s || { fail "agent starts"; finish; }
"$WORKLOADS/sleeper" 11 20 >"$TEST_TMP/a"
{ kill -9 "$AGENT" && wait "$AGENT"; } 2>/dev/null
AGENT=
"$WORKLOADS/sleeper" 13 20 >"$TEST_TMP/b"
start_agent --post 1s || { fail "the next agent starts"; finish; }
ok "it takes over" log_has 'took over a running recorder'
"$WORKLOADS/sleeper" 17 20 >"$TEST_TMP/c"
ok "a freeze gives a bundle" freeze
count() {
	local tid
	tid=$(grep -oE '\btids?=[0-9]+' "$1" | head -n 1 | grep -oE '[0-9]+')
	events --kind off-cpu --tid "$tid" --no-stacks "$BUNDLE" | jq -s '[.[] | select(.duration_ns >= 19500000)] | length'
}
is "blocks before the kill are there" "$(count "$TEST_TMP/a")" 11
is "blocks while no agent ran are there" "$(count "$TEST_TMP/b")" 13
is "blocks after the restart are there" "$(count "$TEST_TMP/c")" 17

# Other settings: the pinned recorder does not fit, is replaced, and that is said.
stop_agent
MEMORY=4M start_agent --post 1s || { fail "agent with other settings starts"; finish; }
ok "a recorder that does not fit is replaced" log_has 'was replaced'
ok "a second agent is refused" bash -c "! '$STALLBOXD' --foreground --socket '$SOCKET' --spool '$SPOOL' --bpffs '$PINS' 2>'$TEST_TMP/second'"
like "and told why" "$(cat "$TEST_TMP/second")" 'another stallboxd is running'
like "and what to do" "$(cat "$TEST_TMP/second")" 'hint:'

# Killed in mid-capture, processes and all: what was durable can be read.
"$STALLBOX" freeze --socket "$SOCKET" -r dying >"$TEST_TMP/dying"
B=$(sed -n 's/^path=//p' "$TEST_TMP/dying")
ok "the part before the trigger is durable at once" wait_for 10 test -s "$B"
children=$(pgrep -P "$AGENT")
# shellcheck disable=SC2086
{ kill -9 "$AGENT" $children && wait "$AGENT"; } 2>/dev/null
AGENT=
ok "it reads without the rest" bash -c "'$STALLBOX' info '$B' 2>/dev/null | grep -q dying"
ok "recover makes a file of whole frames" "$STALLBOX" recover "$B" -o "$TEST_TMP/recovered"

# unload leaves nothing pinned.
ok "unload" "$STALLBOXD" --unload --bpffs "$PINS"
is "nothing is left pinned" "$(find "$PINS/stallbox" 2>/dev/null | wc -l)" 0
finish
