#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tests/run with two lanes: they run side by side, what they count is added, what they print is not mixed, "before" waits for
# both, and a lane that does not come to its end fails the run.
. "$(dirname "$0")/../lib.sh"

T=$TEST_TMP/tree
mkdir -p "$T"/tests/{cli,vm,bpf,golden}
cp "$ROOT/tests/run" "$T/tests/"
export MARKS=$TEST_TMP/marks ROOT
mkdir "$MARKS"
test_is() { # NAME: the script on standard input
	{
		# shellcheck disable=SC2016
		echo '. "$ROOT/tests/lib.sh"'
		cat
	} >"$T/tests/$1.sh"
}
in_lanes() { # WORD...: in $OUT, $RC
	rm -f "$MARKS"/*
	OUT=$(LOGS=$TEST_TMP/logs timeout 120 "$T/tests/run" "$@" 2>&1)
	RC=$?
}
closing() { tail -n 1 <<<"$OUT"; }
section() { sed -n "/^$1:/,/^\$/p" <<<"$OUT" | sed '1d;/^$/d;s/^  //'; }

# Each of the two waits for the other to have begun; what comes after them finds both ended.
test_is cli/here <<'S'
touch "$MARKS/here"
ok "the lane has begun" wait_for 60 test -e "$MARKS/beside"
pass "another"
touch "$MARKS/here.ended"
finish
S
test_is vm/beside <<'S'
touch "$MARKS/beside"
ok "the suites here have begun" wait_for 60 test -e "$MARKS/here"
ok "and end, while this goes on" wait_for 60 test -e "$MARKS/here.ended"
[ ! -e "$MARKS/fail" ] || fail "as it should"
skip "something" "it is missing"
touch "$MARKS/beside.ended"
finish
S
test_is bpf/after <<'S'
ok "both have ended" test -e "$MARKS/here.ended" -a -e "$MARKS/beside.ended"
finish
S
in_lanes cli/here beside vm/beside before bpf/after
is "two lanes run side by side, the rest when both have ended" "$RC $(closing)" "0 5 passed, 0 failed, 1 skipped"
is "a line for each test, those of the lane together" "$(grep -oE '^(cli|vm|bpf) +[a-z]+' <<<"$OUT" | tr -s ' \n' ' ')" "cli here vm beside bpf after "
is "what a lane skips is listed" "$(section skipped)" "vm/beside: ok 3 - something # SKIP it is missing"

# A check fails in the lane; in the suites here.
test_is cli/fails <<'S'
ok "the lane has ended" wait_for 60 test -e "$MARKS/beside.ended"
fail "of these"
finish
S
test_is vm/fails <<'S'
fail "of the lane"
touch "$MARKS/beside.ended"
finish
S
in_lanes cli/fails beside vm/fails
is "failures of both are counted" "$RC $(closing)" "1 1 passed, 2 failed, 0 skipped"
is "and listed" "$(section failed)" $'cli/fails: not ok 2 - of these\nvm/fails: not ok 1 - of the lane'
test_is cli/passes <<<$'pass "it"\nfinish'
in_lanes cli/passes beside vm/fails
is "one in the lane alone fails the run" "$RC $(closing)" "1 1 passed, 1 failed, 0 skipped"

for name in one other; do test_is "golden/$name" <<<$'pass "it"\nfinish'; done
in_lanes golden/other golden/other before golden
is "what has been run by its name is left out of its suite, and run as often as it is named" \
	"$(grep -oE '^golden +[a-z]+' <<<"$OUT" | tr -s ' \n' ' ')" "golden other golden other golden one "

# What either lane may run is run once, by the one that is free: here while the lane beside waits for it, there while
# this one does.
test_is golden/one <<<$'touch "$MARKS/one"\npass "it"\nfinish'
test_is golden/other <<<$'touch "$MARKS/other"\npass "it"\nfinish'
test_is vm/waits <<<$'ok "both are run meanwhile" wait_for 60 test -e "$MARKS/one" -a -e "$MARKS/other"\nfinish'
test_is vm/passes <<<$'pass "it"\nfinish'
test_is cli/waits <<<$'ok "both are run meanwhile" wait_for 60 test -e "$MARKS/one" -a -e "$MARKS/other"\nfinish'
in_lanes cli/passes beside vm/waits either golden/one golden/other before cli/passes
is "what either may run is run here while the other is busy" "$RC $(closing)" "0 5 passed, 0 failed, 0 skipped"
in_lanes cli/waits beside vm/passes either golden/one golden/other
is "and there while this one is" "$RC $(grep -oE '^(cli|vm|golden) +[a-z]+' <<<"$OUT" | tr -s ' \n' ' ') $(closing)" \
	"0 cli waits vm passes golden one golden other  4 passed, 0 failed, 0 skipped"
in_lanes golden/one either golden/other
is "without a second lane it is run, too" "$RC $(closing)" "0 2 passed, 0 failed, 0 skipped"

# Killed: the lane, its test.
test_is vm/kills <<'S'
lane=$(sed -n 's/^PPid:\t//p' "/proc/$PPID/status")
kill -KILL "$lane"
S
in_lanes cli/passes beside vm/kills vm/fails before bpf/after
is "a lane that is killed is a failure" "$RC $(closing)" "1 1 passed, 2 failed, 0 skipped"
is "and told; what comes after it runs" "$(section failed)" $'vm/kills vm/fails: ended with status 137 before the last test had\nbpf/after: not ok 1 - both have ended'
test_is vm/dies <<<'kill -KILL $$'
in_lanes cli/passes beside vm/dies
is "a test that is killed in it is one" "$RC $(closing)" "1 1 passed, 1 failed, 0 skipped"
in_lanes cli/passes beside nothing
like "so is a suite that does not exist" "$RC $OUT" "^1 .*no suite 'nothing'.* 1 passed, 1 failed"

# The run is ended: the lane's test is, too.
test_is vm/stays <<<$'echo $$ >"$MARKS/pid.new"; mv "$MARKS/pid.new" "$MARKS/pid"; sleep 600'
test_is cli/stays <<<$'touch "$MARKS/here"; sleep 600'
rm -f "$MARKS"/*
LOGS=$TEST_TMP/logs "$T/tests/run" cli/stays beside vm/stays >"$TEST_TMP/out" 2>&1 &
run=$!
TEST_PIDS+=("$run")
ok "both lanes run" wait_for 60 test -e "$MARKS/pid" -a -e "$MARKS/here"
here=$(pgrep -P "$run" -x timeout)
kill "$run"
wait "$run" 2>/dev/null
is "ended: the run fails" $? 143
gone() { ! kill -0 "$(cat "$MARKS/pid")"; }
ok "and its lane is gone" wait_for 60 gone
kill "$here" 2>/dev/null
finish
