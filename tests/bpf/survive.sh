#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The agent is killed: recording goes on, the next agent takes over, one continuous history.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

start_agent --post 1s || { fail "agent starts"; finish; }
"$WORKLOADS/sleeper" 11 20 >"$TEST_TMP/a"
kill_agent
"$WORKLOADS/sleeper" 13 20 >"$TEST_TMP/b"
start_agent --post 1s || { fail "the next agent starts"; finish; }
ok "it takes over" log_has 'took over a running recorder'
"$WORKLOADS/sleeper" 17 20 >"$TEST_TMP/c"
ok "a freeze gives a bundle" freeze
are_sleeps "blocks before the kill are there" "$(sleeps "$TEST_TMP/a")" 11
are_sleeps "blocks while no agent ran are there" "$(sleeps "$TEST_TMP/b")" 13
are_sleeps "blocks after the restart are there" "$(sleeps "$TEST_TMP/c")" 17

# Other settings: the pinned recorder does not fit, is replaced, and that is said.
stop_agent
MEMORY=4M start_agent --post 1s || { fail "agent with other settings starts"; finish; }
ok "a recorder that does not fit is replaced" log_has 'was replaced'
ok "a second agent is refused" bash -c "! '$STALLBOXD' --foreground --socket '$SOCKET' --spool '$SPOOL' --bpffs '$PINS' 2>'$TEST_TMP/second'"
like "and told why" "$(cat "$TEST_TMP/second")" 'another stallboxd is running'
like "and what to do" "$(cat "$TEST_TMP/second")" 'hint:'

ok "an agent with a socket of its own is refused too" bash -c "! '$STALLBOXD' --foreground --socket '$TEST_TMP/other.sock' --spool '$SPOOL' --bpffs '$PINS' 2>'$TEST_TMP/third'"
like "because the pins are in use" "$(cat "$TEST_TMP/third")" "another stallboxd \(pid $AGENT\) uses what is pinned.*hint:"
ok "unload beside a running agent is refused" bash -c "! '$STALLBOXD' --unload --bpffs '$PINS' 2>'$TEST_TMP/unload'"
like "with the agent's pid" "$(cat "$TEST_TMP/unload")" "pid $AGENT\) records.*hint: end it first"
"$WORKLOADS/sleeper" 7 20 >"$TEST_TMP/d"
ok "and recording goes on" freeze
are_sleeps "with every block" "$(sleeps "$TEST_TMP/d")" 7

# Killed in mid-capture, processes and all: what was durable can be read.
"$STALLBOX" freeze --socket "$SOCKET" -r dying >"$TEST_TMP/dying"
B=$(sed -n 's/^path=//p' "$TEST_TMP/dying")
ok "the part before the trigger is durable at once" wait_for 10 test -s "$B"
children=$(processes_of "$AGENT")
# shellcheck disable=SC2086
kill_agent $children
"$STALLBOX" status --socket "$SOCKET" >"$TEST_TMP/nobody" 2>&1
is "nothing that is left answers in its name" $? 3
ok "it reads without the rest" bash -c "'$STALLBOX' info '$B' 2>/dev/null | grep -q dying"
ok "recover makes a file of whole frames" "$STALLBOX" recover "$B" -o "$TEST_TMP/recovered"

# The kernel freezes while no agent runs: the next agent exports that, with its cause.
start_agent --post 1s --trigger 'kernel:blocked(D)>300ms:count=3:comm=dstall' || { fail "agent starts"; finish; }
kill_agent
before=$(bundle_count)
"$WORKLOADS/dstall" 3 1 >/dev/null
start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "the next agent starts"; finish; }
if log_has 'while no agent runs'; then
	skip "a bank frozen without an agent is exported" "the clock that has waits in flight looked at goes with the agent on this kernel (5.15)"
else
	one_more() { [ "$(bundle_count)" = $((before + 1)) ] && complete "$(newest_bundle)"; }
	ok "a bank frozen without an agent is exported" wait_for 30 one_more
	info=$("$STALLBOX" info --json "$(newest_bundle)")
	is "under the condition that froze it" "$(jq -r '.trigger | .kind + " " + .spec' <<<"$info")" 'kernel kernel:blocked(D)>300ms:count=3'
	is "with its value" "$(jq -r .trigger.value <<<"$info")" 3
	is "and what was overwritten is not made up" "$(jq '[.losses[] | select(.cause == "overwritten")] | length' <<<"$info")" 0
fi
stop_agent

# Killed in the post window of such a freeze: its freezer ends the bundle, nobody exports it again.
SPOOL=$TEST_TMP/once
start_agent --post 3s --trigger 'kernel:blocked(D)>300ms:count=3:comm=dstall' || { fail "agent starts"; finish; }
"$WORKLOADS/dstall" 3 1 >/dev/null
ok "an in-kernel condition freezes" wait_for 10 log_has '^durable:'
kill_agent
whole() { complete "$(newest_bundle)"; }
ok "the freezer ends the bundle without the agent" wait_for 30 whole
start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "the next agent starts"; finish; }
ok "the next agent freezes" freeze
is "for its own reason: the other bank is not exported again" \
	"$("$STALLBOX" info --json "$BUNDLE" | jq -r .trigger.kind) $(bundle_count)" "manual 2"
stop_agent

# unload leaves nothing pinned.
ok "unload" "$STALLBOXD" --unload --bpffs "$PINS"
is "nothing is left pinned" "$(find "$PINS/stallbox" 2>/dev/null | wc -l)" 0
finish
