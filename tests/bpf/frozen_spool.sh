#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The file system of the spool is frozen (fsfreeze), as a root file system is while a snapshot is taken or its disk has
# stopped: whoever writes there stands in D state, and no error comes. Captures are sealed and made durable all the
# same, in the fallback directory; what comes to the spool after the thaw is removed.
[ -z "${SCRATCH:-}" ] || TMPDIR=/tmp # in a VM the scratch disk itself is frozen
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

img=$TEST_TMP/img mnt=$TEST_TMP/mnt
mkdir -p "$mnt"
if { truncate -s 64M "$img" && mkfs.ext4 -q "$img" && mount -o loop "$img" "$mnt"; } >"$TEST_TMP/can" 2>&1; then
	mounted=1
elif [ -n "${SCRATCH:-}" ]; then
	mnt=$SCRATCH
else
	echo "1..0 # SKIP no loop mount here: $(tail -n 1 "$TEST_TMP/can")"
	exit 77
fi
thaw() { fsfreeze -u "$mnt" 2>/dev/null; }
test_release() { thaw; }
extra_cleanup() {
	stop_agent
	[ -z "${mounted:-}" ] || umount "$mnt"
}
SPOOL=$mnt/captures
FALLBACK=$TEST_TMP/fallback
QUIET=(--cooldown 0s --trigger "kernel:reclaim>600s") # a busy host is no reason for another bundle
freeze() { # one that is never answered is a failure of that freeze, not of the whole test
	BUNDLE=$(timeout 150 "$STALLBOX" freeze --socket "$SOCKET" --wait -r frozen | sed -n 's/^path=//p')
	[ -s "$BUNDLE" ]
}
files() { find "$1" -type f -printf '%f\n' 2>/dev/null | sort; }

start_agent --post 1s "${QUIET[@]}" || { fail "agent starts"; finish; }
ok "before: a freeze" freeze
is "is in the spool" "$(dirname "$BUNDLE")" "$SPOOL"
before=$(files "$SPOOL")

fsfreeze -f "$mnt" || { fail "the file system can be frozen"; finish; }
touch "$mnt/probe" 2>/dev/null &
TEST_PIDS+=("$!")
probe=$!
in_d_state() { grep -q '^State:.D' "/proc/$1/status"; }
ok "frozen: a writer stands in D state" wait_for 30 in_d_state "$probe"
for i in 1 2 3 4 5; do
	ok "frozen: freeze $i gives a bundle" freeze
	is "in the fallback directory ($i)" "$(dirname "$BUNDLE")" "$FALLBACK"
	ok "whole ($i)" "$STALLBOX" verify "$BUNDLE"
	is "with both parts and their names ($i)" "$("$STALLBOX" info --json "$BUNDLE" | jq -c .complete)" true
	ok "the first part was durable there first ($i)" log_has "durable: $BUNDLE"
done
is "each is warned of" "$(grep -c "^warning: the bundle $FALLBACK/.* is not in $SPOOL" "$AGENT_LOG")" 5
like "the agent records on" "$(status_of .state)" 'recording|cooldown'
is "no failure is counted" "$(status_of .failures)" 0
fallback=$(files "$FALLBACK")
is "five bundles are there" "$(wc -l <<<"$fallback")" 5
waits_in_spool() { local p; for p in $(processes_of "$AGENT"); do cat /proc/"$p"/task/*/stat 2>/dev/null; done | grep -c '(stallbox-spool) D '; }
four_wait() { [ "$(waits_in_spool)" = 4 ]; } # the thread of one that begins may be in D state for a moment
ok "four processes wait there: the fifth has not tried" wait_for 30 four_wait

thaw
wait "$probe"
settled() { [ "$(files "$SPOOL")" = "$before" ]; }
ok "thawed: the spool has what it had before" wait_for 30 settled
is "the fallback keeps its five" "$(files "$FALLBACK")" "$fallback"
storing() { local p; for p in $(processes_of "$AGENT"); do cat "/proc/$p/comm" 2>/dev/null; done | grep -c '^stallbox-store'; }
none_stores() { [ "$(storing)" = 0 ]; }
ok "and no process is left storing" wait_for 30 none_stores
ok "the next freeze" freeze
is "is in the spool" "$(dirname "$BUNDLE")" "$SPOOL"

# It stops between the two parts: both go to the fallback.
: >"$AGENT_LOG"
stop_agent
start_agent --post 4s "${QUIET[@]}" || { fail "agent starts again"; finish; }
before=$(files "$SPOOL")
timeout 150 "$STALLBOX" freeze --socket "$SOCKET" --wait -r between >"$TEST_TMP/between" 2>&1 &
waiting=$!
TEST_PIDS+=("$waiting")
ok "between: the first part is durable in the spool" wait_for 60 log_has "durable: $SPOOL/"
if log_has '^complete:'; then
	skip "between: frozen before the second part" "this machine was too slow to freeze within the post window"
	finish
fi
fsfreeze -f "$mnt"
wait "$waiting"
BUNDLE=$(sed -n 's/^path=//p' "$TEST_TMP/between")
is "between: the bundle is in the fallback" "$(dirname "$BUNDLE")" "$FALLBACK"
is "between: whole" "$("$STALLBOX" info --json "$BUNDLE" | jq -c '[.complete, .bad_frames, .missing_chunks]')" '[true,0,0]'
thaw
ok "between: half of it does not stay in the spool" wait_for 30 settled
finish
