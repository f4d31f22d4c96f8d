#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# SIGHUP: what can change does at once, what cannot is told, a trigger of which nothing has changed keeps its state, and
# what is wrong changes nothing.
. "$(dirname "$0")/../lib.sh"
# shellcheck disable=SC2034 # used by agent.sh
BUDGET=()
. "$(dirname "$0")/../agent.sh"

CONF=$TEST_TMP/stallbox.conf
conf() { cat >"$CONF"; }
config() { status_of ".config.$1"; }
reloads_are() { [ "$(config "$1")" = "$2" ]; }
# reload COUNTER: until one more is counted, of "reloads" or "reload_failures".
reload() {
	local n
	n=$(config "$1")
	kill -HUP "$AGENT"
	wait_for 60 reloads_are "$1" $((n + 1))
}
trigger() { status_of ".triggers[] | select(.name == \"$1\") | .$2"; }
names() { status_of '[.triggers[].name] | join(" ")'; }
fired() { [ "$(trigger "$1" fired)" -ge 1 ]; }
helpers() { pgrep -P "$AGENT" -x stallbox-probe; }
listed() { "$STALLBOX" export --format ndjson "$1" | jq -r "select(.type == \"header\") | .config[] | select(.key == \"$2\") | .value"; }

touch "$TEST_TMP/up"
conf <<END
[Recorder]
Post=1s
Cooldown=7s
CpuBudget=100%
[Trigger keep]
Condition=probe:exec:test -e $TEST_TMP/up:every=50ms:fails=2:timeout=20s
[Trigger gone]
Condition=kernel:runq>500s
END
start_agent --config "$CONF" --cooldown 1s || { fail "agent starts"; finish; }
is "the triggers of the file" "$(names)" "keep gone"
rm "$TEST_TMP/up"
ok "one of them fires" wait_for 60 fired keep
touch "$TEST_TMP/up"
one() { [ "$(bundle_count)" = 1 ] && complete "$(newest_bundle)"; }
ok "and has its bundle" wait_for 60 one
is "whose header has the settings" "$(listed "$(newest_bundle)" Post) $(listed "$(newest_bundle)" Frequency)" "1s 99"
recording() { [ "$(status_of .state)" = recording ]; }
ok "recording" wait_for 60 recording
helper=$(helpers)
before=$(trigger keep fired)

# ---- what can change, and what cannot ----
conf <<END
[Recorder]
Post=2s
Cooldown=8s
CpuBudget=50%
Frequency=49
[Storage]
MaxUse=10M
[Trigger fresh]
Condition=kernel:blocked(D)>300ms:comm=dstall
[Trigger keep]
Condition=probe:exec:test -e $TEST_TMP/up:every=50ms:fails=2:timeout=20s
END
ok "a reload" reload reloads
is "is told as successful" "$(config last_reload_successful)" true
is "the triggers are those of the file" "$(names)" "fresh keep"
is "the one that stays has its count" "$(trigger keep fired)" "$before"
is "and its helper process" "$(helpers)" "$helper"
is "the budget is the new one" "$(status_of .limit.budget_ppm)" 500000
is "the frequency needs a restart" "$(config needs_restart)" Frequency
like "which is said with its line" "$(cat "$AGENT_LOG")" 'stallbox.conf:5: \[Recorder\] Frequency= has changed, which needs a restart'
like "status has it, too" "$("$STALLBOX" status --socket "$SOCKET")" 'config: +1 files, 1 reloads, 0 failed +changed, needs a restart: Frequency'
for i in 1 2 3; do # older bundles, as it were
	head -c 6M /dev/zero >"$SPOOL/old-20200101T00000$i.000Z-x.stall.pb.zst"
	touch -d 2020-01-01 "$SPOOL/old-20200101T00000$i.000Z-x.stall.pb.zst"
done
"$WORKLOADS/dstall" 1 1 >"$TEST_TMP/dstall" 2>&1
ok "the new trigger, one of the kernel's, fires" wait_for 60 fired fresh
B=$TEST_TMP/fresh # a copy: the next bundle may take its place
done_fresh() { cp "$SPOOL"/*-fresh.stall.pb.zst "$B" && complete "$B"; }
ok "its bundle is completed" wait_for 60 done_fresh
[ -e "$B" ] || { ls -l "$SPOOL" "$TEST_TMP/fallback"; tail -n 20 "$AGENT_LOG"; } | sed 's/^/# /'
is "by processes that know the new settings" "$(listed "$B" Post) $(listed "$B" CpuBudget) $(listed "$B" MaxUse)" "2s 50% 10M"
is "the command line still wins" "$(listed "$B" Cooldown)" 1s
is "the frequency is the old one" "$(listed "$B" Frequency)" 99
use_is_small() { [ "$(find "$SPOOL" -name '*.zst' -printf '%s\n' | jq -s add)" -le 10485760 ]; }
ok "and bundles stay below the new limit" wait_for 60 use_is_small
ok "recording" wait_for 60 recording
rm "$TEST_TMP/up"
more() { [ "$(trigger keep fired)" -gt "$before" ]; }
ok "the trigger that stayed still fires" wait_for 60 more
touch "$TEST_TMP/up"

# ---- somebody cleans up ----
rm "$SOCKET"
is "a socket that was removed: nobody answers" "$("$STALLBOX" status --socket "$SOCKET" >"$TEST_TMP/gone" 2>&1; echo $?)" 3
kill -HUP "$AGENT"
answers() { "$STALLBOX" status --socket "$SOCKET"; }
ok "with the next reload the agent answers there again" wait_for 60 answers
ok "and says so" log_has "'$SOCKET' was removed; the agent listens there again"
reloaded() { [ "$(config reloads)" = 2 ]; }
ok "the reload itself is done" wait_for 60 reloaded

# ---- in the middle of a capture ----
ok "recording" wait_for 60 recording
begun() { [ "$(status_of .state)" = post-trigger ]; }
"$STALLBOX" freeze --socket "$SOCKET" --wait -r middle >"$TEST_TMP/middle" 2>&1 &
TEST_PIDS+=($!)
middle=$!
ok "a capture begins" wait_for 60 begun
sed -i 's/^Frequency=49/Frequency=99/; s/^Condition=kernel.*/Condition=kernel:blocked(D)>250ms:comm=dstall/' "$CONF"
ok "a reload meanwhile" reload reloads
is "nothing needs a restart any more" "$(config needs_restart)" ""
wait "$middle"
is "the capture goes on to its end" $? 0
ok "recording" wait_for 60 recording
"$WORKLOADS/dstall" 1 1 >"$TEST_TMP/dstall" 2>&1
ok "the condition that changed meanwhile is armed" wait_for 60 fired fresh

# ---- what is wrong ----
before=$(names)
cp "$CONF" "$TEST_TMP/good"
printf '[Recorder]\nPost=3\nColdown=1s\n[Trigger new]\nCondition=kernel:runq>1s\n' >"$CONF"
ok "a reload of two errors" reload reload_failures
is "is told as failed" "$(config last_reload_successful)" false
is "with the number of errors" "$(config errors)" 2
like "and the first one" "$(config error)" "stallbox.conf:2: \[Recorder\] Post: '3': expected a time with a unit"
like "the log has both" "$(cat "$AGENT_LOG")" 'stallbox.conf:3: \[Recorder\] Coldown: unknown key, did you mean Cooldown'
like "status for people has it" "$("$STALLBOX" status --socket "$SOCKET")" 'THE LAST RELOAD FAILED.*stallbox.conf:2.*and 1 more errors'
is "the triggers are what they were" "$(names)" "$before"
ok "and a freeze works" freeze
is "with the settings of before" "$(listed "$BUNDLE" Post)" 2s
rm "$CONF"
ok "a reload without the file fails" reload reload_failures
like "and says why" "$(config error)" 'stallbox.conf: cannot read it: No such file'
is "the triggers are what they were" "$(names)" "$before"

# ---- a disk that does not answer ----
cp "$TEST_TMP/good" "$CONF"
strace -qq -f -P "$CONF" -e trace=openat -e inject=openat:delay_enter=300000000 -p "$AGENT" -o "$TEST_TMP/strace" 2>"$TEST_TMP/strace.err" &
strace=$!
TEST_PIDS+=("$strace")
traced() { grep -q "^TracerPid:[[:space:]]*$strace$" "/proc/$AGENT/status"; }
if wait_for 30 traced; then
	n=$(config reload_failures)
	kill -HUP "$AGENT"
	answers() { [ -n "$(status_of .state)" ]; }
	ok "the agent answers while the file cannot be read" answers
	ok "after a while that is a failure" wait_for 60 reloads_are reload_failures $((n + 1))
	like "which says so" "$(config error)" 'takes more than 10 s'
	kill "$strace"
	wait "$strace" 2>/dev/null
else
	fail "strace follows the agent" "$(cat "$TEST_TMP/strace.err")"
fi
ok "a reload afterwards" reload reloads
is "is told as successful" "$(config last_reload_successful)" true
is "with no error left" "$(config error)" ""
finish
